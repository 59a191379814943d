// SPDX-License-Identifier: Apache-2.0

// The twin of the benchmarks of /proc/kcore: it reads the file by pread. It reads
// commands, one a line, and answers each with the nanoseconds that it took and the number of
// calls: "PATH OFFSET SIZE CHUNK TIMES".
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 1 << 24 };

static char buf[MOST];

static uint64_t now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

int main(void)
{
	char path[256];
	unsigned long long off;
	size_t size, chunk;
	long times;
	while (scanf("%255s %llx %zu %zu %ld", path, &off, &size, &chunk, &times) == 5) {
		int fd = open(path, O_RDONLY);
		long calls = 0;
		if (fd < 0 || size > MOST || chunk == 0) {
			perror(path);
			return 1;
		}
		uint64_t began = now();
		for (long i = 0; i < times; i++)
			for (size_t at = 0; at < size; calls++) {
				size_t left = size - at;
				ssize_t n = pread(fd, buf + at, left < chunk ? left : chunk, (off_t)(off + at));
				if (n <= 0) {
					perror("pread");
					return 1;
				}
				at += (size_t)n;
			}
		printf("%llu %ld\n", (unsigned long long)(now() - began), calls);
		fflush(stdout);
		close(fd);
	}
	return 0;
}
