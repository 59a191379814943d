// SPDX-License-Identifier: Apache-2.0

// The sides of the rows about kernel images that are written in C: libkdumpfile, and what
// the machine could do at most. See peer.h for how they are asked. RANGES and ADDRESSES are
// files: see load.
//
//	open FILE ADDR              open an image, and read 8 bytes of physical memory
//	kernel FILE ADDR            the same at an address of the kernel, which VMCOREINFO leads to
//	seq FILE RANGES THREADS     read all ranges, each thread its part with a clone
//	words FILE RANGES PAGES     the same for words, with a cache of so many pages; 0: its own choice
//	translate FILE ADDRESSES    addresses of the kernel to physical ones
//	copy FILE RANGES            copy all ranges out of a mapping of the file
//	load FILE RANGES            the same for words
//	pread FILE RANGES           read them from the file
//	inflate FILE RANGES THREADS read and inflate their pages by libdeflate
#include <fcntl.h>
#include <libdeflate.h>
#include <libkdumpfile/addrxlat.h>
#include <libkdumpfile/kdumpfile.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "peer.h"

enum { PAGE = 4096, MOST = 1 << 18, THREADS = 2 };

// What is open: the image, the file as it is mapped, and what is read of it.
static char image[4096], list[4096];
static int fd = -1;
static struct stat st;
static const char *map;
static kdump_ctx_t *dump, *clones[THREADS];
static uint64_t addr[MOST], off[MOST];
static uint32_t crcs[MOST];
static size_t count, length;

static int kfail(kdump_ctx_t *ctx)
{
	snprintf(trouble, sizeof trouble, "libkdumpfile: %s", kdump_get_err(ctx));
	return -1;
}

static int open_dump(const char *path, kdump_ctx_t **ctx, int *file)
{
	*ctx = kdump_new();
	*file = open(path, O_RDONLY);
	if (!*ctx || *file < 0)
		return fail(path);
	return kdump_open_fd(*ctx, *file) == KDUMP_OK ? 0 : kfail(*ctx);
}

// load_list reads how long each range is, and a line for each: its address, and where in
// the file it lies, in hexadecimal.
static int load_list(const char *path)
{
	unsigned long long a, o;
	FILE *f = fopen(path, "r");
	if (!f || fscanf(f, "%zu", &length) != 1)
		return fail(path);
	for (count = 0; count < MOST && fscanf(f, "%llx %llx", &a, &o) == 2; count++) {
		addr[count] = a;
		off[count] = o;
	}
	fclose(f);
	return 0;
}

// load opens an image and what is read of it, unless it did that for the last request.
static int load(char **argv, long pages)
{
	if (!strcmp(image, argv[1]) && !strcmp(list, argv[2]))
		return 0;
	if (dump) {
		kdump_free(clones[1]);
		kdump_free(dump);
		munmap((void *)map, st.st_size);
		close(fd);
		dump = NULL;
	}
	snprintf(image, sizeof image, "%s", argv[1]);
	snprintf(list, sizeof list, "%s", argv[2]);
	if (open_dump(argv[1], &dump, &fd) || load_list(argv[2]))
		return -1;
	if (pages && kdump_set_number_attr(dump, "cache.size", pages) != KDUMP_OK)
		return kfail(dump);
	clones[0] = dump;
	clones[1] = kdump_clone(dump, 0);
	fstat(fd, &st);
	map = mmap(NULL, st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	if (!clones[1] || map == MAP_FAILED)
		return fail("mmap");
	return 0;
}

static int read_dump(kdump_ctx_t *ctx, kdump_addrspace_t as, uint64_t a, void *buf, size_t size)
{
	size_t n = size;
	if (kdump_read(ctx, as, a, buf, &n) != KDUMP_OK || n != size)
		return kfail(ctx);
	return 0;
}

// part is what one thread does with the ranges, from first up to last, n times.
struct part {
	int (*each)(struct part *p, size_t i);
	kdump_ctx_t *ctx;
	struct libdeflate_decompressor *inflater;
	char *buf, *raw;
	size_t first, last;
	long n;
	int wanted, status;
};

static void *run_part(void *arg)
{
	struct part *p = arg;
	for (long k = 0; k < p->n; k++)
		for (size_t i = p->first; i < p->last; i++) {
			if (p->each(p, i)) {
				p->status = -1;
				return NULL;
			}
			if (p->wanted)
				crcs[i] = ~crc(0xffffffff, p->buf, length);
		}
	return NULL;
}

// ranges has each thread do its part. The digest is that of the checksums of all ranges.
static int ranges(int (*each)(struct part *, size_t), int threads, long n, struct sum *sum)
{
	struct part p[THREADS];
	pthread_t t[THREADS];
	char *buf = room((size_t)THREADS * 2 << 20);
	if (threads < 1 || threads > THREADS || length > 1 << 20)
		return -1;
	for (int i = 0; i < threads; i++)
		p[i] = (struct part){each, clones[i], libdeflate_alloc_decompressor(), buf + ((size_t)i << 21), buf + ((size_t)i << 21) + (1 << 20),
			count * i / threads, count * (i + 1) / threads, n, sum->wanted, 0};
	begin();
	for (int i = 1; i < threads; i++)
		if (pthread_create(&t[i], NULL, run_part, &p[i]))
			return fail("pthread_create");
	run_part(&p[0]);
	for (int i = 1; i < threads; i++)
		pthread_join(t[i], NULL);
	add(sum, crcs, count * sizeof *crcs);
	for (int i = 0; i < threads; i++) {
		libdeflate_free_decompressor(p[i].inflater);
		if (p[i].status)
			return -1;
	}
	return 0;
}

static int each_read(struct part *p, size_t i)
{
	return read_dump(p->ctx, KDUMP_MACHPHYSADDR, addr[i], p->buf, length);
}

static int seq(int argc, char **argv, long n, struct sum *sum)
{
	if (argc != 4 || load(argv, 0))
		return -1;
	return ranges(each_read, atoi(argv[3]), n, sum);
}

static int each_copy(struct part *p, size_t i)
{
	memcpy(p->buf, map + off[i], length);
	__asm__ volatile("" ::: "memory");
	return 0;
}

static int copy(int argc, char **argv, long n, struct sum *sum)
{
	if (argc != 3 || load(argv, 0))
		return -1;
	return ranges(each_copy, 1, n, sum);
}

static int each_pread(struct part *p, size_t i)
{
	return pread(fd, p->buf, length, off[i]) == (ssize_t)length ? 0 : fail("pread");
}

static int pread_all(int argc, char **argv, long n, struct sum *sum)
{
	if (argc != 3 || load(argv, 0))
		return -1;
	return ranges(each_pread, 1, n, sum);
}

static int words(int argc, char **argv, long n, struct sum *sum)
{
	if (argc != 4 || load(argv, atol(argv[3])))
		return -1;
	uint64_t *w = room(count * sizeof *w);
	begin();
	for (; n > 0; n--)
		for (size_t i = 0; i < count; i++)
			if (read_dump(dump, KDUMP_MACHPHYSADDR, addr[i], &w[i], sizeof *w))
				return -1;
	add(sum, w, count * sizeof *w);
	return 0;
}

static int load_words(int argc, char **argv, long n, struct sum *sum)
{
	if (argc != 3 || load(argv, 0))
		return -1;
	uint64_t *w = room(count * sizeof *w);
	begin();
	for (; n > 0; n--)
		for (size_t i = 0; i < count; i++)
			w[i] = *(const volatile uint64_t *)(map + off[i]);
	add(sum, w, count * sizeof *w);
	return 0;
}

// The page descriptors of a kdump-compressed image (see the header of makedumpfile): which
// one a page has is how many bits are set before its own in the second bitmap.
struct desc {
	int64_t offset;
	uint32_t size, flags;
	uint64_t page_flags;
};

static uint32_t *set_before; // one for each 64 pages
static const uint64_t *saved;
static const struct desc *descs;

static int read_descs(void)
{
	uint32_t block, sub, bitmaps;
	memcpy(&block, map + 428, 4);
	memcpy(&sub, map + 432, 4);
	memcpy(&bitmaps, map + 436, 4);
	if (memcmp(map, "KDUMP   ", 8) || block != PAGE) {
		errno = EINVAL;
		return fail("kdump");
	}
	size_t half = (size_t)bitmaps * block / 2;
	saved = (const uint64_t *)(map + (1 + (size_t)sub) * block + half);
	descs = (const struct desc *)(map + (1 + (size_t)sub + bitmaps) * block);
	free(set_before);
	set_before = calloc(half / 8 + 1, sizeof *set_before);
	for (size_t i = 0; i < half / 8; i++)
		set_before[i + 1] = set_before[i] + __builtin_popcountll(saved[i]);
	return 0;
}

static int each_inflate(struct part *p, size_t i)
{
	for (size_t at = 0; at < length; at += PAGE) {
		uint64_t pfn = (addr[i] + at) / PAGE, word = saved[pfn / 64], bit = 1ull << pfn % 64;
		if (!(word & bit)) {
			memset(p->buf + at, 0, PAGE); // pages of zeros are left out
			continue;
		}
		const struct desc *d = &descs[set_before[pfn / 64] + __builtin_popcountll(word & (bit - 1))];
		if (!(d->flags & 1))
			memcpy(p->buf + at, map + d->offset, PAGE);
		else if (libdeflate_zlib_decompress(p->inflater, map + d->offset, d->size, p->buf + at, PAGE, NULL)) {
			errno = EILSEQ;
			return fail("libdeflate");
		}
	}
	return 0;
}

static int inflate(int argc, char **argv, long n, struct sum *sum)
{
	if (argc != 4 || load(argv, 0) || read_descs())
		return -1;
	return ranges(each_inflate, atoi(argv[3]), n, sum);
}

static int open_read(int argc, char **argv, long n, struct sum *sum, kdump_addrspace_t as)
{
	uint64_t w = 0;
	if (argc != 3)
		return -1;
	uint64_t a = strtoull(argv[2], NULL, 0);
	begin();
	for (; n > 0; n--) {
		int file;
		kdump_ctx_t *ctx;
		if (open_dump(argv[1], &ctx, &file))
			return -1;
		if (as == KDUMP_KVADDR && kdump_set_string_attr(ctx, KDUMP_ATTR_OSTYPE, "linux") != KDUMP_OK)
			return kfail(ctx);
		if (read_dump(ctx, as, a, &w, sizeof w))
			return -1;
		kdump_free(ctx);
		close(file);
	}
	add(sum, &w, sizeof w);
	return 0;
}

static int open_phys(int argc, char **argv, long n, struct sum *sum)
{
	return open_read(argc, argv, n, sum, KDUMP_MACHPHYSADDR);
}

static int open_kernel(int argc, char **argv, long n, struct sum *sum)
{
	return open_read(argc, argv, n, sum, KDUMP_KVADDR);
}

static int translate(int argc, char **argv, long n, struct sum *sum)
{
	addrxlat_ctx_t *ctx;
	addrxlat_sys_t *sys;
	if (argc != 3 || load(argv, 0))
		return -1;
	if (kdump_set_string_attr(dump, KDUMP_ATTR_OSTYPE, "linux") != KDUMP_OK || kdump_get_addrxlat(dump, &ctx, &sys) != KDUMP_OK)
		return kfail(dump);
	uint64_t *w = room(count * sizeof *w);
	int status = 0;
	begin();
	for (; n > 0 && !status; n--)
		for (size_t i = 0; i < count; i++) {
			addrxlat_fulladdr_t a = {addr[i], ADDRXLAT_KVADDR};
			if (addrxlat_fulladdr_conv(&a, ADDRXLAT_MACHPHYSADDR, ctx, sys) != ADDRXLAT_OK) {
				snprintf(trouble, sizeof trouble, "addrxlat: %s", addrxlat_ctx_get_err(ctx));
				status = -1;
				break;
			}
			w[i] = a.addr;
		}
	add(sum, w, count * sizeof *w);
	addrxlat_ctx_decref(ctx);
	addrxlat_sys_decref(sys);
	return status;
}

const struct verb verbs[] = {
	{"open", open_phys}, {"kernel", open_kernel}, {"seq", seq}, {"words", words}, {"translate", translate},
	{"copy", copy}, {"load", load_words}, {"pread", pread_all}, {"inflate", inflate}, {0},
};
