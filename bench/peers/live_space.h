// SPDX-License-Identifier: Apache-2.0

// Part of live.c: all that is mapped in a part of an address space, and all that is resident.

// read_run reads a run of addresses into a buffer of PIECE bytes, piece by piece.
static int read_run(way *by, const struct target *t, uintptr_t start, uintptr_t end, struct sum *sum)
{
	char *buf = room(PIECE);
	for (size_t n; start < end; start += n) {
		n = end - start < PIECE ? end - start : PIECE;
		if (by(t, buf, start, n))
			return fail("read");
		if (sum->wanted)
			add(sum, buf, n);
	}
	return 0;
}

// read_space reads all mappings that can be read, as /proc/PID/maps lists them.
static int read_space(way *by, const struct target *t, struct sum *sum)
{
	static char text[1 << 16], line[8192];
	unsigned long long start, end;
	char path[64], perm[8];
	snprintf(path, sizeof path, "/proc/%d/maps", (int)t->pid);
	FILE *f = fopen(path, "r");
	int status = f ? 0 : fail(path);
	if (f)
		setvbuf(f, text, _IOFBF, sizeof text);
	while (f && !status && fgets(line, sizeof line, f)) {
		if (sscanf(line, "%llx-%llx %7s", &start, &end, perm) != 3)
			status = fail(path);
		else if (perm[0] == 'r' && start >= t->addr && end <= t->addr + t->size)
			status = read_run(by, t, start, end, sum);
	}
	if (f)
		fclose(f);
	return status;
}

static int space_by(way *by, int argc, char **argv, long n, struct sum *sum)
{
	struct target t;
	if (find(argc, argv, &t))
		return -1;
	room(PIECE);
	begin();
	for (; n > 0; n--)
		if (read_space(by, &t, sum))
			return -1;
	return 0;
}

static int space(int c, char **v, long n, struct sum *s) { return space_by(by_vm, c, v, n, s); }
static int prspace(int c, char **v, long n, struct sum *s) { return space_by(by_mem, c, v, n, s); }
static int pgspace(int c, char **v, long n, struct sum *s) { return space_by(by_page, c, v, n, s); }

// Of linux/fs.h, since Linux 6.7.
struct page_run {
	uint64_t start, end, categories;
};
struct page_scan {
	uint64_t size, flags, start, end, walked, vec, count, most, inverted, all_of, any_of, wanted;
};
enum { PRESENT = 1 << 3 };
#define SCAN _IOWR('f', 16, struct page_scan)

// group of runs that one call reads.
struct runs {
	struct iovec remote[BATCH];
	int n;
	size_t size;
};

// tell_pages takes the address and the bytes of each page that holds other than zeros into
// the digest.
static void tell_pages(struct sum *sum, uint64_t addr, const char *data, size_t size)
{
	static const char zeros[PAGE];
	for (size_t at = 0; at < size; at += PAGE, addr += PAGE)
		if (memcmp(data + at, zeros, PAGE)) {
			add(sum, &addr, sizeof addr);
			add(sum, data + at, PAGE);
		}
}

// read_runs reads what is in r, by one call.
static int read_runs(const struct target *t, struct runs *r, struct sum *sum)
{
	char *buf = room(PIECE);
	struct iovec into = {buf, r->size};
	if (r->n && process_vm_readv(t->pid, &into, 1, r->remote, r->n, 0) != (ssize_t)r->size)
		return fail("process_vm_readv");
	for (int i = 0; sum->wanted && i < r->n; buf += r->remote[i++].iov_len)
		tell_pages(sum, (uintptr_t)r->remote[i].iov_base, buf, r->remote[i].iov_len);
	r->n = 0;
	r->size = 0;
	return 0;
}

// take adds a run, and reads what there is whenever that is PIECE bytes.
static int take(const struct target *t, struct runs *r, uint64_t start, uint64_t end, struct sum *sum)
{
	for (size_t n; start < end; start += n) {
		if ((r->n == BATCH || r->size == PIECE) && read_runs(t, r, sum))
			return -1;
		n = end - start < PIECE - r->size ? end - start : PIECE - r->size;
		r->remote[r->n++] = (struct iovec){(void *)(uintptr_t)start, n};
		r->size += n;
	}
	return 0;
}

// by_scan finds the pages that are present by PAGEMAP_SCAN.
static int by_scan(const struct target *t, int pagemap, struct sum *sum)
{
	static struct page_run found[512]; // with more of them Linux tells wrongly how far it has walked
	static struct runs r;
	struct page_scan s = {sizeof s, .start = t->addr, .end = t->addr + t->size, .vec = (uintptr_t)found, .count = sizeof found / sizeof *found, .any_of = PRESENT, .wanted = PRESENT};
	for (; s.start < s.end; s.start = s.walked) {
		s.walked = 0;
		int n = ioctl(pagemap, SCAN, &s);
		if (n < 0)
			return fail("PAGEMAP_SCAN");
		for (int i = 0; i < n; i++)
			if (take(t, &r, found[i].start, found[i].end, sum))
				return -1;
	}
	return read_runs(t, &r, sum);
}

// by_entries finds them by an entry for each, and reads each run by pread.
static int by_entries(const struct target *t, int pagemap, struct sum *sum)
{
	static uint64_t entries[1 << 15];
	char *buf = room(PIECE);
	uint64_t pages = t->size / PAGE;
	for (uint64_t at = 0, n; at < pages; at += n) {
		size_t want = (pages - at) * 8 < sizeof entries ? (pages - at) * 8 : sizeof entries;
		ssize_t got = pread(pagemap, entries, want, (off_t)((t->addr / PAGE + at) * 8));
		if (got < 8)
			return fail("pagemap");
		n = got / 8;
		for (uint64_t i = 0, k; i < n; i = k + 1) {
			for (k = i; k < n && entries[k] >> 63 && k - i < PIECE / PAGE; k++)
				;
			if (k == i)
				continue;
			uintptr_t a = t->addr + (at + i) * PAGE;
			if (by_mem(t, buf, a, (k - i) * PAGE))
				return fail("/proc/PID/mem");
			if (sum->wanted)
				tell_pages(sum, a, buf, (k - i) * PAGE);
			k -= k - i == PIECE / PAGE; // the page that did not fit is the next run's first
		}
	}
	return 0;
}

static int sparse_by(int (*by)(const struct target *, int, struct sum *), int argc, char **argv, long n, struct sum *sum)
{
	struct target t;
	if (find(argc, argv, &t))
		return -1;
	room(PIECE);
	int pagemap = open_of(t.pid, "pagemap", O_RDONLY), status = pagemap < 0 ? fail("pagemap") : 0;
	begin();
	for (; n > 0 && !status; n--)
		status = by(&t, pagemap, sum);
	if (!ended)
		ended = now();
	close(pagemap);
	return status;
}

static int sparse(int c, char **v, long n, struct sum *s) { return sparse_by(by_scan, c, v, n, s); }
static int prsparse(int c, char **v, long n, struct sum *s) { return sparse_by(by_entries, c, v, n, s); }
