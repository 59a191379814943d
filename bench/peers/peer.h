// SPDX-License-Identifier: Apache-2.0

// What a side of the benchmark that is written in C needs. It reads requests, one a line:
//
//	sum WORK     do the work once, and answer "ok DIGEST"
//	run N WORK   do it N times, and answer "ok NANOSECONDS"
//
// What it cannot do it answers with "error" and the reason. A digest is CRC-32 (IEEE) of
// bytes in eight hexadecimal digits, a slash, and their number. A program defines verbs: the
// first word of the work, and what does it. That calls begin() where the time begins, add()
// for what came out, and fail() to give up. Two verbs are here for those that want them:
//
//	copy SIZE    copy_own: memcpy of so many bytes, within this process
//	getppid      parent: a system call that does nothing
#define _GNU_SOURCE
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

struct sum {
	int wanted;
	uint32_t crc;
	uint64_t size;
};

struct verb {
	const char *name;
	int (*run)(int argc, char **argv, long n, struct sum *sum);
};

extern const struct verb verbs[];

static char trouble[512] = "arguments";
static uint64_t began, ended;

static uint64_t now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void begin(void)
{
	began = now();
	ended = 0;
}

__attribute__((unused)) static int fail(const char *what)
{
	snprintf(trouble, sizeof trouble, "%s: %s", what, strerror(errno));
	return -1;
}

static uint32_t crc_table[256];

// crc takes bytes into a CRC-32 that begins as 0xffffffff, and is inverted at the end.
static uint32_t crc(uint32_t c, const void *data, size_t size)
{
	const unsigned char *p = data;
	for (size_t i = 0; i < size; i++)
		c = crc_table[(c ^ p[i]) & 255] ^ c >> 8;
	return c;
}

// add ends the time at its first call, and takes bytes into the digest if one is wanted.
__attribute__((unused)) static void add(struct sum *sum, const void *data, size_t size)
{
	if (!ended)
		ended = now();
	if (!sum->wanted)
		return;
	sum->crc = crc(sum->crc, data, size);
	sum->size += size;
}

// room gives at least size bytes that have been touched, the same ones until much more or
// much fewer are asked for. They lie in huge pages, where the kernel has some: how the small ones
// lie in the caches is luck, a tenth more or less of the time of a copy.
__attribute__((unused)) static void *room(size_t size)
{
	static void *p;
	static size_t have;
	const size_t huge = 2 << 20;
	if (size > have || size < have / 2) {
		free(p);
		have = (size + huge - 1) / huge * huge;
		p = aligned_alloc(huge, have);
		if (!p)
			abort();
		madvise(p, have, MADV_HUGEPAGE);
		memset(p, 1, have);
	}
	return p;
}

__attribute__((unused)) static int copy_own(int argc, char **argv, long n, struct sum *sum)
{
	if (argc != 2)
		return -1;
	size_t size = strtoull(argv[1], NULL, 0);
	char *p = room(2 * size);
	begin();
	for (; n > 0; n--) {
		memcpy(p, p + size, size);
		__asm__ volatile("" ::: "memory");
	}
	add(sum, p, size);
	return 0;
}

__attribute__((unused)) static int parent(int argc, char **argv, long n, struct sum *sum)
{
	(void)argc, (void)argv;
	begin();
	for (; n > 0; n--)
		syscall(SYS_getppid);
	add(sum, NULL, 0);
	return 0;
}

static int work(int argc, char **argv, long n, struct sum *sum)
{
	for (const struct verb *v = verbs; argc > 0 && v->name; v++)
		if (!strcmp(v->name, argv[0]))
			return v->run(argc, argv, n, sum);
	return -1;
}

int main(void)
{
	static char line[1 << 16];
	for (uint32_t i = 0; i < 256; i++) {
		crc_table[i] = i;
		for (int k = 0; k < 8; k++)
			crc_table[i] = crc_table[i] >> 1 ^ (crc_table[i] & 1 ? 0xedb88320 : 0);
	}
	while (fgets(line, sizeof line, stdin)) {
		char *words[64], *save = NULL;
		int count = 0;
		for (char *w = strtok_r(line, " \n", &save); w && count < 64; w = strtok_r(NULL, " \n", &save))
			words[count++] = w;
		struct sum sum = {0, 0xffffffff, 0};
		int status = -1;
		begin();
		if (count > 1 && !strcmp(words[0], "sum")) {
			sum.wanted = 1;
			status = work(count - 1, words + 1, 1, &sum);
		} else if (count > 2 && !strcmp(words[0], "run")) {
			status = work(count - 2, words + 2, atol(words[1]), &sum);
		}
		if (!ended)
			ended = now();
		if (status)
			printf("error %s\n", trouble);
		else if (sum.wanted)
			printf("ok %08x/%llu\n", ~sum.crc, (unsigned long long)sum.size);
		else
			printf("ok %llu\n", (unsigned long long)(ended - began));
		fflush(stdout);
	}
	return 0;
}
