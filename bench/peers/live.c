// SPDX-License-Identifier: Apache-2.0

// The sides of the rows about live processes that are written in C: they make the system
// calls and nothing else. See peer.h for how they are asked. RANGES is a file of lines
// "ADDR SIZE"; its ranges are read one behind the other into one buffer.
//
//	read PID ADDR SIZE [THREADS]   process_vm_readv of one range, or of a part in each thread
//	pread PID ADDR SIZE            pread of /proc/PID/mem
//	pages PID ADDR SIZE            process_vm_readv of each page by itself
//	write, pwrite PID ADDR SIZE    the same, writing
//	vector PID RANGES [THREADS]    process_vm_readv of 1,024 ranges a call
//	each, preach PID RANGES        process_vm_readv, or pread, of each range by itself
//	open PID ADDR SIZE             open, pread, close
//	space, prspace, pgspace PID ADDR SIZE   all that is mapped there: 1 MiB a call, or a page
//	sparse, prsparse PID ADDR SIZE          all that is resident there
//	copy SIZE, getppid             see peer.h
#include "peer.h" // first: it says what else the headers give

#include <fcntl.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/uio.h>

enum { PAGE = 4096, BATCH = 1024, MOST = 1 << 16, PIECE = 1 << 20 };

struct target {
	pid_t pid;
	int mem;
	uintptr_t addr;
	size_t size;
};

static int open_of(pid_t pid, const char *name, int flags)
{
	char path[64];
	snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
	return open(path, flags);
}

// find takes PID ADDR SIZE. The descriptor of the last process is kept.
static int find(int argc, char **argv, struct target *t)
{
	static pid_t last;
	static int mem = -1;
	if (argc < 4)
		return -1;
	t->pid = atoi(argv[1]);
	t->addr = strtoull(argv[2], NULL, 0);
	t->size = strtoull(argv[3], NULL, 0);
	if (t->pid != last) {
		if (mem >= 0)
			close(mem);
		last = t->pid;
		mem = open_of(last, "mem", O_RDWR);
	}
	t->mem = mem;
	return mem < 0 ? fail("/proc/PID/mem") : 0;
}

// The ways to move one range. Each gives 0, or -1 where not all was moved.
typedef int way(const struct target *t, void *buf, uintptr_t addr, size_t size);

static int by_vm(const struct target *t, void *buf, uintptr_t addr, size_t size)
{
	struct iovec local = {buf, size}, remote = {(void *)addr, size};
	return process_vm_readv(t->pid, &local, 1, &remote, 1, 0) == (ssize_t)size ? 0 : -1;
}

static int by_vm_write(const struct target *t, void *buf, uintptr_t addr, size_t size)
{
	struct iovec local = {buf, size}, remote = {(void *)addr, size};
	return process_vm_writev(t->pid, &local, 1, &remote, 1, 0) == (ssize_t)size ? 0 : -1;
}

static int by_mem(const struct target *t, void *buf, uintptr_t addr, size_t size)
{
	return pread(t->mem, buf, size, (off_t)addr) == (ssize_t)size ? 0 : -1;
}

static int by_mem_write(const struct target *t, void *buf, uintptr_t addr, size_t size)
{
	return pwrite(t->mem, buf, size, (off_t)addr) == (ssize_t)size ? 0 : -1;
}

static int by_page(const struct target *t, void *buf, uintptr_t addr, size_t size)
{
	for (size_t at = 0, n; at < size; at += n) {
		n = PAGE - (addr + at) % PAGE;
		n = n < size - at ? n : size - at;
		if (by_vm(t, (char *)buf + at, addr + at, n))
			return -1;
	}
	return 0;
}

// part is what one thread reads of a range.
struct part {
	const struct target *t;
	char *buf;
	size_t at, size;
	long n;
	int status;
};

static void *read_part(void *arg)
{
	struct part *p = arg;
	while (p->n-- > 0 && !p->status)
		p->status = by_vm(p->t, p->buf + p->at, p->t->addr + p->at, p->size);
	return NULL;
}

// in_two reads the halves of a range, n times each, in two threads. They meet once.
static int in_two(const struct target *t, char *buf, long n)
{
	size_t half = t->size / 2 / PAGE * PAGE;
	struct part a = {t, buf, 0, half, n, 0}, b = {t, buf, half, t->size - half, n, 0};
	pthread_t other;
	if (pthread_create(&other, NULL, read_part, &b))
		return -1;
	read_part(&a);
	pthread_join(other, NULL);
	return a.status ? a.status : b.status;
}

static int read_by(way *by, int argc, char **argv, long n, struct sum *sum)
{
	struct target t;
	if (find(argc, argv, &t))
		return -1;
	char *buf = room(t.size);
	begin();
	if (argc > 4 && atoi(argv[4]) == 2) {
		if (in_two(&t, buf, n))
			return fail("process_vm_readv");
	} else {
		for (; n > 0; n--)
			if (by(&t, buf, t.addr, t.size))
				return fail("read");
	}
	add(sum, buf, t.size);
	return 0;
}

static int read_one(int c, char **v, long n, struct sum *s) { return read_by(by_vm, c, v, n, s); }
static int pread_one(int c, char **v, long n, struct sum *s) { return read_by(by_mem, c, v, n, s); }
static int read_pages(int c, char **v, long n, struct sum *s) { return read_by(by_page, c, v, n, s); }

// pattern gives what is written, the same memory each time.
static const unsigned char *pattern(size_t size)
{
	static unsigned char *p;
	static size_t have;
	if (size > have) {
		free(p);
		p = aligned_alloc(PAGE, (size + PAGE - 1) / PAGE * PAGE);
		if (!p)
			abort();
		for (size_t i = 0; i < size; i++)
			p[i] = (i >> 12) * 31 + i % 251;
		have = size;
	}
	return p;
}

// write_by writes a pattern. For a digest the range is scrambled first, and what is there
// then is read back, both by another way than the one in question.
static int write_by(way *by, way *other, way *back, int argc, char **argv, long n, struct sum *sum)
{
	struct target t;
	if (find(argc, argv, &t))
		return -1;
	unsigned char *buf = room(t.size);
	const unsigned char *data = pattern(t.size);
	if (sum->wanted) {
		memset(buf, 0x5a, t.size);
		if (other(&t, buf, t.addr, t.size))
			return fail("scramble");
	}
	begin();
	for (; n > 0; n--)
		if (by(&t, (void *)data, t.addr, t.size))
			return fail("write");
	if (!sum->wanted)
		return 0;
	if (back(&t, buf, t.addr, t.size))
		return fail("read back");
	add(sum, buf, t.size);
	return 0;
}

static int write_one(int c, char **v, long n, struct sum *s)
{
	return write_by(by_vm_write, by_mem_write, by_mem, c, v, n, s);
}

static int pwrite_one(int c, char **v, long n, struct sum *s)
{
	return write_by(by_mem_write, by_vm_write, by_vm, c, v, n, s);
}

static int open_one(int argc, char **argv, long n, struct sum *sum)
{
	struct target t;
	if (find(argc, argv, &t))
		return -1;
	char *buf = room(t.size);
	begin();
	for (; n > 0; n--) {
		struct target fresh = t;
		fresh.mem = open_of(t.pid, "mem", O_RDONLY);
		if (fresh.mem < 0 || by_mem(&fresh, buf, t.addr, t.size))
			return fail("/proc/PID/mem");
		close(fresh.mem);
	}
	add(sum, buf, t.size);
	return 0;
}

#include "live_ranges.h"
#include "live_space.h"

const struct verb verbs[] = {
	{"read", read_one}, {"pread", pread_one}, {"pages", read_pages},
	{"write", write_one}, {"pwrite", pwrite_one}, {"open", open_one},
	{"vector", read_vector}, {"each", read_each}, {"preach", pread_each},
	{"space", space}, {"prspace", prspace}, {"pgspace", pgspace},
	{"sparse", sparse}, {"prsparse", prsparse},
	{"copy", copy_own}, {"getppid", parent}, {0}};
