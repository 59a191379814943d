# SPDX-License-Identifier: Apache-2.0

# gdb, which runs this, reads by a gdb stub. It holds the stub only while a request lasts, as
# a stub serves one client at a time. Connecting and letting go are not timed.
#
#   dump SOCKET ADDR SIZE     "dump binary memory" of physical memory of a machine of QEMU's to
#                             a file in memory
#   word SOCKET FILE          one read of gdb's Python: the next of the ranges in FILE
#   words SOCKET FILE         one for each of them
import contextlib
import itertools
import os

import gdb
import peer

answers = os.dup(1)
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # gdb says much besides


def do(line):
    return gdb.execute(line, to_string=True)


@contextlib.contextmanager
def attached(address):
    do("target remote " + address)
    do("maintenance packet Qqemu.PhyMemMode:1")
    try:
        yield gdb.selected_inferior()
    finally:
        do("maintenance packet Qqemu.PhyMemMode:0")
        do("detach")


@contextlib.contextmanager
def dump(address, addr, size):
    first, path = int(addr, 0), "/dev/shm/remora-bench-%d" % os.getpid()
    line = "dump binary memory %s %#x %#x" % (path, first, first + int(size))

    def whole():
        do(line)
        with open(path, "rb") as f:
            return f.read()

    with attached(address):
        try:
            yield lambda: do(line), whole
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)


@contextlib.contextmanager
def word(address, file):
    all = peer.ranges(file)
    turn = itertools.cycle(all)
    with attached(address) as memory:
        yield lambda: memory.read_memory(*next(turn)), lambda: b"".join(bytes(memory.read_memory(*r)) for r in all)


@contextlib.contextmanager
def words(address, file):
    all = peer.ranges(file)
    with attached(address) as memory:
        yield lambda: b"".join(bytes(memory.read_memory(*r)) for r in all)


do("set confirm off")
do("set architecture i386:x86-64")
peer.serve({"dump": dump, "word": word, "words": words}, answers)
