// SPDX-License-Identifier: Apache-2.0

// The sides of the rows about live processes that are written in C: they make the system
// calls and nothing else. See peer.h for how they are asked.
//
//	read PID ADDR SIZE    process_vm_readv of one range
#include <sys/uio.h>

#include "peer.h"

static int read_one(int argc, char **argv, long n, struct sum *sum)
{
	if (argc != 4)
		return -1;
	pid_t pid = atoi(argv[1]);
	size_t size = strtoull(argv[3], NULL, 0);
	struct iovec local = {room(size), size}, remote = {(void *)strtoull(argv[2], NULL, 0), size};
	begin();
	for (; n > 0; n--)
		if (process_vm_readv(pid, &local, 1, &remote, 1, 0) != (ssize_t)size)
			return fail("process_vm_readv");
	add(sum, local.iov_base, size);
	return 0;
}

const struct verb verbs[] = {{"read", read_one}, {0}};
