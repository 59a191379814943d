// SPDX-License-Identifier: Apache-2.0

// crowd N leaves N processes behind that sleep.
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	for (int n = argc > 1 ? atoi(argv[1]) : 0; n > 0; n--)
		switch (fork()) {
		case -1:
			perror("fork");
			return 1;
		case 0:
			for (int fd = 0; fd < 3; fd++)
				close(fd);
			for (;;)
				pause();
		}
	return 0;
}
