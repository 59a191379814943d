// SPDX-License-Identifier: Apache-2.0

// The twin of the benchmarks of kernel images: it reads physical memory through
// libkdumpfile, or copies it out of a mapping of the file. It reads commands, one a
// line, and answers each with the nanoseconds that it took and the number of reads.
#define _GNU_SOURCE
#include <fcntl.h>
#include <libkdumpfile/kdumpfile.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096, MOST = 1 << 20 };

static uint64_t now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void fail(const char *what, const char *why)
{
	fprintf(stderr, "twin: %s: %s\n", what, why);
	exit(1);
}

static kdump_ctx_t *open_dump(const char *path, int *fd)
{
	kdump_ctx_t *ctx = kdump_new();
	*fd = open(path, O_RDONLY);
	if (!ctx || *fd < 0)
		fail(path, "cannot open");
	if (kdump_open_fd(ctx, *fd) != KDUMP_OK)
		fail(path, kdump_get_err(ctx));
	return ctx;
}

static void read_dump(kdump_ctx_t *ctx, uint64_t addr, void *buf, size_t size)
{
	size_t n = size;
	if (kdump_read(ctx, KDUMP_MACHPHYSADDR, addr, buf, &n) != KDUMP_OK || n != size)
		fail("kdump_read", kdump_get_err(ctx));
}

// The dump that is open, the file as it is mapped, and the ranges to read: their
// physical addresses, their offsets in the file, and how long each is.
static kdump_ctx_t *dump;
static const char *map;
static uint64_t addr[MOST], off[MOST];
static size_t count, length;

static void load(const char *path, const char *ranges)
{
	static int fd = -1;
	static struct stat st;
	unsigned long long a, o;
	if (dump) {
		kdump_free(dump);
		munmap((void *)map, st.st_size);
		close(fd);
	}
	dump = open_dump(path, &fd);
	fstat(fd, &st);
	map = mmap(NULL, st.st_size, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);
	FILE *f = fopen(ranges, "r");
	if (!f || map == MAP_FAILED || fscanf(f, "%zu", &length) != 1)
		fail(ranges, "cannot read");
	for (count = 0; count < MOST && fscanf(f, "%llx %llx", &a, &o) == 2; count++) {
		addr[count] = a;
		off[count] = o;
	}
	fclose(f);
}

static void *buffer(void)
{
	void *p = aligned_alloc(PAGE, 1 << 20);
	memset(p, 1, 1 << 20);
	return p;
}

static volatile uint64_t sink;

// part is what one thread reads of the ranges: from first up to last, n times.
struct part {
	kdump_ctx_t *ctx;
	size_t first, last;
	long n;
};

static void *read_part(void *arg)
{
	struct part *p = arg;
	static __thread void *buf;
	if (!buf)
		buf = buffer();
	for (long k = 0; k < p->n; k++)
		for (size_t i = p->first; i < p->last; i++)
			read_dump(p->ctx, addr[i], buf, length);
	return NULL;
}

// seq reads all ranges with one thread or, each with a clone, with two.
static void seq(int threads, long n)
{
	struct part a = {dump, 0, threads > 1 ? count / 2 : count, n};
	if (threads == 1) {
		read_part(&a);
		return;
	}
	struct part b = {kdump_clone(dump, 0), count / 2, count, n};
	pthread_t t;
	if (!b.ctx || pthread_create(&t, NULL, read_part, &b))
		fail("clone", "failed");
	read_part(&a);
	pthread_join(t, NULL);
	kdump_free(b.ctx);
}

static void copy(long n)
{
	static void *buf;
	if (!buf)
		buf = buffer();
	for (; n > 0; n--)
		for (size_t i = 0; i < count; i++) {
			memcpy(buf, map + off[i], length);
			__asm__ volatile("" ::: "memory");
		}
}

static void words(long n)
{
	uint64_t w, sum = 0;
	for (size_t i = 0; n > 0; n--, i = i + 1 < count ? i + 1 : 0) {
		read_dump(dump, addr[i], &w, sizeof w);
		sum += w;
	}
	sink = sum;
}

static void opens(const char *path, uint64_t a, long n)
{
	for (; n > 0; n--) {
		int fd;
		uint64_t w;
		kdump_ctx_t *ctx = open_dump(path, &fd);
		read_dump(ctx, a, &w, sizeof w);
		kdump_free(ctx);
		close(fd);
	}
}

int main(void)
{
	char line[9000], path[4096], ranges[4096];
	unsigned long long a;
	int threads;
	long n;
	while (fgets(line, sizeof line, stdin)) {
		if (sscanf(line, "load %4095s %4095s", path, ranges) == 2)
			load(path, ranges);
		uint64_t began = now();
		if (sscanf(line, "seq %d %ld", &threads, &n) == 2)
			seq(threads, n);
		else if (sscanf(line, "words %ld", &n) == 1)
			words(n);
		else if (sscanf(line, "copy %ld", &n) == 1)
			copy(n);
		else if (sscanf(line, "open %4095s %llx %ld", path, &a, &n) == 3)
			opens(path, a, n);
		else if (sscanf(line, "getppid %ld", &n) == 1)
			for (; n > 0; n--)
				syscall(SYS_getppid);
		printf("%llu 0\n", (unsigned long long)(now() - began));
		fflush(stdout);
	}
	return 0;
}
