// SPDX-License-Identifier: Apache-2.0

// Part of live.c: many ranges.

static struct iovec local[MOST], remote[MOST];
static char there[MOST]; // whether a range was read, when a digest is wanted
static int count;

// load takes PID RANGES; the last file is kept.
static int load(int argc, char **argv, struct target *t)
{
	static char last[4096];
	unsigned long long addr;
	unsigned size;
	char *words[] = {"", argc > 1 ? argv[1] : "", "0", "0"};
	if (argc < 3 || find(4, words, t))
		return -1;
	if (strcmp(last, argv[2])) {
		FILE *f = fopen(argv[2], "r");
		if (!f)
			return fail(argv[2]);
		count = 0;
		for (; count < MOST && fscanf(f, "%llx %u", &addr, &size) == 2; count++) {
			remote[count] = (struct iovec){(void *)(uintptr_t)addr, size};
			local[count].iov_len = size;
		}
		fclose(f);
		snprintf(last, sizeof last, "%s", argv[2]);
	}
	for (int i = 0; i < count; i++)
		t->size += local[i].iov_len;
	char *buf = room(t->size);
	for (int i = 0; i < count; buf += local[i++].iov_len)
		local[i].iov_base = buf;
	memset(there, 0, sizeof there);
	return 0;
}

// group is the ranges that one thread reads.
struct group {
	pid_t pid;
	int first, last;
	long n;
	int mark;
	int status;
};

// read_group reads 1,024 ranges a call, and goes on behind each one that faults.
static void *read_group(void *arg)
{
	struct group *g = arg;
	for (; g->n > 0; g->n--)
		for (int i = g->first; i < g->last; i++) {
			int most = g->last - i < BATCH ? g->last - i : BATCH;
			ssize_t got = process_vm_readv(g->pid, local + i, most, remote + i, most, 0);
			if (got < 0 && errno != EFAULT) {
				g->status = fail("process_vm_readv");
				return NULL;
			}
			int end = i + most;
			for (; i < end && got >= (ssize_t)remote[i].iov_len; i++) {
				if (g->mark)
					there[i] = 1;
				got -= remote[i].iov_len;
			}
			if (i == end)
				i--; // none faulted
		}
	return NULL;
}

// tell takes the ranges that were read into the digest.
static int tell(struct sum *sum)
{
	for (int i = 0; sum->wanted && i < count; i++)
		if (there[i])
			add(sum, local[i].iov_base, local[i].iov_len);
	return 0;
}

static int read_vector(int argc, char **argv, long n, struct sum *sum)
{
	struct target t = {0};
	pthread_t other;
	if (load(argc, argv, &t))
		return -1;
	int two = argc > 3 && atoi(argv[3]) == 2, half = two ? count / 2 : count;
	struct group a = {t.pid, 0, half, n, sum->wanted, 0}, b = {t.pid, half, count, n, sum->wanted, 0};
	begin();
	if (two && pthread_create(&other, NULL, read_group, &b))
		return fail("pthread_create");
	read_group(&a);
	if (two)
		pthread_join(other, NULL);
	return a.status || b.status ? -1 : tell(sum);
}

static int each_by(way *by, int argc, char **argv, long n, struct sum *sum)
{
	struct target t = {0};
	if (load(argc, argv, &t))
		return -1;
	begin();
	for (; n > 0; n--)
		for (int i = 0; i < count; i++) {
			if (!by(&t, local[i].iov_base, (uintptr_t)remote[i].iov_base, local[i].iov_len))
				there[i] = 1;
			else if (errno != EFAULT && errno != EIO)
				return fail("read");
		}
	return tell(sum);
}

static int read_each(int c, char **v, long n, struct sum *s) { return each_by(by_vm, c, v, n, s); }
static int pread_each(int c, char **v, long n, struct sum *s) { return each_by(by_mem, c, v, n, s); }
