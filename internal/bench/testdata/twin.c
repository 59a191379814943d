// SPDX-License-Identifier: Apache-2.0

// The twin of the benchmarks: it makes the system calls that they stand on, and
// nothing else. It reads commands, one a line, and answers each with the
// nanoseconds that it took and the number of system calls made.
#define _GNU_SOURCE
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 1024, PAGE = 4096 };

static long calls;

static uint64_t now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void fail(const char *what)
{
	fprintf(stderr, "twin: %s: %s\n", what, strerror(errno));
	exit(1);
}

// room gives at least size bytes that have been touched, the same ones each time. They
// begin with a page, as large buffers do in Go: a copy is slower otherwise.
static void *room(size_t size)
{
	static void *p;
	static size_t have;
	if (size > have) {
		free(p);
		p = aligned_alloc(PAGE, (size + PAGE - 1) / PAGE * PAGE);
		if (!p)
			fail("aligned_alloc");
		memset(p, 1, size);
		have = size;
	}
	return p;
}

static void one(pid_t pid, uintptr_t addr, size_t size, long n)
{
	struct iovec local = {room(size), size}, remote = {(void *)addr, size};
	for (; n > 0; n--, calls++)
		if (process_vm_readv(pid, &local, 1, &remote, 1, 0) != (ssize_t)size)
			fail("process_vm_readv");
}

static void copy(size_t size, long n)
{
	char *p = room(2 * size);
	for (; n > 0; n--) {
		memcpy(p, p + size, size);
		__asm__ volatile("" ::: "memory");
	}
}

// The vector of the command "vector".
static struct iovec local[BATCH], remote[BATCH];
static int count;

static void load(const char *path)
{
	FILE *f = fopen(path, "r");
	unsigned long long addr;
	unsigned size;
	if (!f)
		fail(path);
	char *p = room(1 << 20);
	for (count = 0; count < BATCH && fscanf(f, "%llx %u", &addr, &size) == 2; count++) {
		remote[count] = (struct iovec){(void *)(uintptr_t)addr, size};
		local[count] = (struct iovec){p, size};
		p += size;
	}
	fclose(f);
}

// vector reads the whole vector, and goes on behind each element that faults.
static void vector(pid_t pid, long n)
{
	for (; n > 0; n--)
		for (int i = 0; i < count; i++) {
			ssize_t got = process_vm_readv(pid, local + i, count - i, remote + i, count - i, 0);
			calls++;
			if (got < 0 && errno != EFAULT)
				fail("process_vm_readv");
			for (; i < count && got >= (ssize_t)remote[i].iov_len; i++)
				got -= remote[i].iov_len;
		}
}

static void start(long n)
{
	for (; n > 0; n--) {
		int status;
		pid_t pid = vfork();
		if (pid == 0) {
			execl("/bin/true", "true", NULL);
			_exit(1);
		}
		if (pid < 0 || waitpid(pid, &status, 0) != pid || status)
			fail("/bin/true");
	}
}

int main(void)
{
	char line[4096], path[4096];
	unsigned long long addr;
	size_t size;
	long n;
	int pid;
	while (fgets(line, sizeof line, stdin)) {
		calls = 0;
		if (sscanf(line, "load %4095s", path) == 1)
			load(path);
		uint64_t began = now();
		if (sscanf(line, "one %d %llx %zu %ld", &pid, &addr, &size, &n) == 4)
			one(pid, addr, size, n);
		else if (sscanf(line, "vector %d %ld", &pid, &n) == 2)
			vector(pid, n);
		else if (sscanf(line, "copy %zu %ld", &size, &n) == 2)
			copy(size, n);
		else if (sscanf(line, "getppid %ld", &n) == 1)
			for (; n > 0; n--, calls++)
				syscall(SYS_getppid);
		else if (sscanf(line, "start %ld", &n) == 1)
			start(n);
		printf("%llu %ld\n", (unsigned long long)(now() - began), calls);
		fflush(stdout);
	}
	return 0;
}
