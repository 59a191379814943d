# SPDX-License-Identifier: Apache-2.0

# The twin of the benchmark of a gdb stub: gdb itself, which runs this. It reads commands,
# one a line, "read N SOCKET FILE FIRST END", and answers each with the nanoseconds that N
# dumps of physical memory took, and N. It holds the stub only as long as that takes.
import os
import sys
import time

answers = os.dup(1)
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # gdb says much besides


def do(line):
    gdb.execute(line, to_string=True)


do("set confirm off")
do("set architecture i386:x86-64")
for line in sys.stdin:
    _, n, socket, file, first, end = line.split()
    do("target remote " + socket)
    do("maintenance packet Qqemu.PhyMemMode:1")
    began = time.monotonic_ns()
    for _ in range(int(n)):
        do("dump binary memory %s %s %s" % (file, first, end))
    took = time.monotonic_ns() - began
    do("maintenance packet Qqemu.PhyMemMode:0")
    do("detach")
    os.write(answers, b"%d %d\n" % (took, int(n)))
