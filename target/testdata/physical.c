// SPDX-License-Identifier: Apache-2.0

// physical FILE COUNT: reads the first COUNT pages of 4 KiB of a kernel image by
// libkdumpfile, and writes them. A page that is not in the image is zeros, as the library
// itself has it for some pages that an ELF image lacks: those just before a segment.
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <libkdumpfile/kdumpfile.h>

int main(int argc, char **argv)
{
	static char page[4096];
	kdump_ctx_t *ctx = kdump_new();
	int fd = argc == 3 ? open(argv[1], O_RDONLY) : -1;

	if (!ctx || fd < 0 || kdump_open_fd(ctx, fd) != KDUMP_OK) {
		fprintf(stderr, "%s\n", ctx ? kdump_get_err(ctx) : "no memory");
		return 1;
	}
	for (long i = 0; i < atol(argv[2]); i++) {
		size_t size = sizeof page;
		kdump_status s = kdump_read(ctx, KDUMP_MACHPHYSADDR, i * sizeof page, page, &size);
		if (s != KDUMP_OK && s != KDUMP_ERR_NODATA) {
			fprintf(stderr, "page %ld: %s\n", i, kdump_get_err(ctx));
			return 1;
		}
		kdump_clear_err(ctx);
		if (s != KDUMP_OK)
			memset(page, 0, sizeof page);
		if (fwrite(page, sizeof page, 1, stdout) != 1)
			return 1;
	}
	return fflush(stdout) != 0;
}
