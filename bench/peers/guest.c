// SPDX-License-Identifier: Apache-2.0

// The sides of the rows about guests of QEMU that are written in C: they read the memory of
// QEMU's process. FILE has the ranges to be read, ADDR SIZE on each line, counted from BASE of
// the process on. See peer.h for how they are asked.
//
//	vm PID BASE FILE      process_vm_readv of all ranges, 1,024 a call
//	vmword PID BASE FILE  of the next of the ranges
//	map PID BASE FILE     a copy of each from a mapping of the same file, which is kept
//	mapword PID BASE FILE of the next
//	pread PATH OFF SIZE CHUNK    pread of a part of a file, CHUNK bytes a call
//	copy SIZE, getppid    see peer.h
#include "peer.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>

enum { MOST = 1 << 16, VECTOR = 1024 };

// The ranges of the file that was read last.
static char loaded[PATH_MAX];
static struct iovec local[MOST], remote[MOST];
static int count;
static size_t total;

static int load(const char *path, uintptr_t base)
{
	static uintptr_t at;
	unsigned long long addr;
	size_t size;
	if (strcmp(path, loaded) == 0 && at == base)
		return 0;
	FILE *f = fopen(path, "r");
	if (!f)
		return fail(path);
	total = 0;
	for (count = 0; count < MOST && fscanf(f, "%llx %zu", &addr, &size) == 2; count++) {
		remote[count] = (struct iovec){(void *)(base + (uintptr_t)addr), size};
		total += size;
	}
	fclose(f);
	snprintf(loaded, sizeof loaded, "%s", path);
	at = base;
	return 0;
}

// place gives each range its place in memory of ours.
static void place(void)
{
	char *p = room(total);
	for (int i = 0; i < count; i++) {
		local[i] = (struct iovec){p, remote[i].iov_len};
		p += remote[i].iov_len;
	}
}

static int vm_from(pid_t pid, int first, int many)
{
	for (int end = first + many; first < end; first += VECTOR) {
		int k = end - first < VECTOR ? end - first : VECTOR;
		ssize_t want = 0;
		for (int i = first; i < first + k; i++)
			want += remote[i].iov_len;
		if (process_vm_readv(pid, local + first, k, remote + first, k, 0) != want)
			return fail("process_vm_readv");
	}
	return 0;
}

// mapped gives where the mapping of another process that holds base is mapped here: the file
// is found among those that the process has open.
static char *mapped(const char *pid, uintptr_t base)
{
	static uintptr_t start, end;
	static char *here;
	if (here && base >= start && base < end)
		return here + (base - start);
	char path[PATH_MAX], line[PATH_MAX];
	unsigned long off = 0, inode = 0;
	snprintf(path, sizeof path, "/proc/%s/maps", pid);
	FILE *f = fopen(path, "r");
	while (f && fgets(line, sizeof line, f))
		if (sscanf(line, "%lx-%lx %*s %lx %*s %lu", &start, &end, &off, &inode) == 4 && base >= start && base < end)
			break;
	if (!f || base < start || base >= end || inode == 0)
		return NULL;
	fclose(f);
	snprintf(path, sizeof path, "/proc/%s/fd", pid);
	DIR *d = opendir(path);
	here = NULL;
	for (struct dirent *e; d && !here && (e = readdir(d));) {
		struct stat st;
		snprintf(path, sizeof path, "/proc/%s/fd/%s", pid, e->d_name);
		if (stat(path, &st) || !S_ISREG(st.st_mode) || st.st_ino != inode)
			continue;
		int fd = open(path, O_RDONLY);
		here = mmap(NULL, end - start, PROT_READ, MAP_SHARED, fd, (off_t)off);
		if (here == MAP_FAILED)
			here = NULL;
		close(fd);
	}
	if (d)
		closedir(d);
	return here ? here + (base - start) : NULL;
}

static int ready(int argc, char **argv)
{
	return argc != 4 ? -1 : load(argv[3], strtoull(argv[2], NULL, 0));
}

static int vm(int argc, char **argv, long n, struct sum *sum)
{
	if (ready(argc, argv))
		return -1;
	pid_t pid = atoi(argv[1]);
	place();
	begin();
	for (; n > 0; n--)
		if (vm_from(pid, 0, count))
			return -1;
	add(sum, local[0].iov_base, total);
	return 0;
}

static int vmword(int argc, char **argv, long n, struct sum *sum)
{
	static int next;
	if (sum->wanted)
		return vm(argc, argv, n, sum);
	if (ready(argc, argv))
		return -1;
	pid_t pid = atoi(argv[1]);
	place();
	begin();
	for (; n > 0; n--)
		if (vm_from(pid, next++ % count, 1))
			return -1;
	add(sum, NULL, 0);
	return 0;
}

static int map(int argc, char **argv, long n, struct sum *sum)
{
	if (ready(argc, argv))
		return -1;
	uintptr_t base = strtoull(argv[2], NULL, 0);
	char *from = mapped(argv[1], base);
	if (!from)
		return fail("mmap");
	place();
	begin();
	for (; n > 0; n--) {
		for (int i = 0; i < count; i++)
			memcpy(local[i].iov_base, from + ((uintptr_t)remote[i].iov_base - base), remote[i].iov_len);
		__asm__ volatile("" ::: "memory");
	}
	add(sum, local[0].iov_base, total);
	return 0;
}

static int mapword(int argc, char **argv, long n, struct sum *sum)
{
	static int next;
	if (sum->wanted)
		return map(argc, argv, n, sum);
	if (ready(argc, argv))
		return -1;
	uintptr_t base = strtoull(argv[2], NULL, 0);
	char *from = mapped(argv[1], base);
	if (!from)
		return fail("mmap");
	place();
	begin();
	for (; n > 0; n--) {
		int i = next++ % count;
		memcpy(local[i].iov_base, from + ((uintptr_t)remote[i].iov_base - base), remote[i].iov_len);
		__asm__ volatile("" ::: "memory");
	}
	add(sum, NULL, 0);
	return 0;
}

static int read_file(int argc, char **argv, long n, struct sum *sum)
{
	if (argc != 5)
		return -1;
	off_t off = (off_t)strtoull(argv[2], NULL, 0);
	size_t size = strtoull(argv[3], NULL, 0), chunk = strtoull(argv[4], NULL, 0);
	char *p = room(size);
	int fd = open(argv[1], O_RDONLY);
	if (fd < 0)
		return fail(argv[1]);
	begin();
	for (; n > 0; n--)
		for (size_t at = 0; at < size;) {
			ssize_t got = pread(fd, p + at, size - at < chunk ? size - at : chunk, off + (off_t)at);
			if (got <= 0)
				return fail("pread");
			at += (size_t)got;
		}
	add(sum, p, size);
	close(fd);
	return 0;
}

const struct verb verbs[] = {
	{"vm", vm}, {"vmword", vmword}, {"map", map}, {"mapword", mapword}, {"pread", read_file}, {"copy", copy_own}, {"getppid", parent}, {0},
};
