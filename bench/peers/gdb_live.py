# SPDX-License-Identifier: Apache-2.0

# gdb as a side of the rows about live processes: gdb -nx -batch -x gdb_live.py. Memory is read
# by Inferior.read_memory of its Python, which the manual has for that. It has attached to the
# process before the time begins, and detaches after each request: there is one tracer at a
# time. See peer.h for how it is asked.
#
#	read, write PID ADDR SIZE
#	each PID RANGES             each range by itself; a file of lines "ADDR SIZE"
#	space PID ADDR SIZE         all that is mapped there, 1 MiB a call
#	open PID ADDR SIZE          attach, read, detach
import os
import sys
import time
import zlib

import gdb

PIECE = 1 << 20
answers = os.fdopen(os.dup(1), "w")
os.dup2(os.open("/dev/null", os.O_WRONLY), 1)  # what gdb has to say
gdb.execute("set auto-solib-add off")


class Digest:
    def __init__(self):
        self.crc, self.size = 0, 0

    def add(self, data):
        self.crc = zlib.crc32(data, self.crc)
        self.size += len(data)

    def __str__(self):
        return "%08x/%d" % (self.crc, self.size)


def attach(pid):
    gdb.execute("attach %s" % pid, to_string=True)
    return gdb.selected_inferior()


def detach():
    gdb.execute("detach", to_string=True)
    gdb.execute("file", to_string=True)  # forget its symbols


def numbers(words):
    return [int(w, 0) for w in words]


def read(process, pid, addr, size, n, digest):
    addr, size = numbers((addr, size))
    began = time.monotonic_ns()
    for _ in range(n):
        data = process.read_memory(addr, size)
    took = time.monotonic_ns() - began
    if digest:
        digest.add(data)
    return took


def write(process, pid, addr, size, n, digest):
    addr, size = numbers((addr, size))
    data = bytes(((i >> 12) * 31 + i % 251) & 255 for i in range(size))
    fd = os.open("/proc/%s/mem" % pid, os.O_RDWR) if digest else -1
    if digest:
        os.pwrite(fd, b"\x5a" * size, addr)
    began = time.monotonic_ns()
    for _ in range(n):
        process.write_memory(addr, data)
    took = time.monotonic_ns() - began
    if digest:
        digest.add(os.pread(fd, size, addr))
        os.close(fd)
    return took


def each(process, pid, ranges, n, digest):
    with open(ranges) as lines:
        wanted = [(int(a, 16), int(s)) for a, s in map(str.split, lines)]
    began = time.monotonic_ns()
    for _ in range(n):
        for addr, size in wanted:
            try:
                data = process.read_memory(addr, size)
            except gdb.MemoryError:
                continue
            if digest:
                digest.add(data)
    return time.monotonic_ns() - began


def space(process, pid, addr, size, n, digest):
    addr, size = numbers((addr, size))
    began = time.monotonic_ns()
    for _ in range(n):
        with open("/proc/%s/maps" % pid) as lines:
            for line in lines:
                span, perm = line.split()[:2]
                start, end = (int(x, 16) for x in span.split("-"))
                if perm[0] != "r" or start < addr or end > addr + size:
                    continue
                for at in range(start, end, PIECE):
                    data = process.read_memory(at, min(PIECE, end - at))
                    if digest:
                        digest.add(data)
    return time.monotonic_ns() - began


def attached(verb):
    def do(pid, *args):
        process = attach(pid)
        try:
            return verb(process, pid, *args)
        finally:
            detach()

    return do


def opening(pid, addr, size, n, digest):
    addr, size = numbers((addr, size))
    began = time.monotonic_ns()
    for _ in range(n):
        data = attach(pid).read_memory(addr, size)
        detach()
    took = time.monotonic_ns() - began
    if digest:
        digest.add(data)
    return took


VERBS = {"open": opening}
for verb in (read, write, each, space):
    VERBS[verb.__name__] = attached(verb)

for line in sys.stdin:
    words = line.split()
    try:
        if words[0] == "sum":
            digest = Digest()
            VERBS[words[1]](*words[2:], 1, digest)
            answer = "ok %s" % digest
        else:
            answer = "ok %d" % VERBS[words[2]](*words[3:], int(words[1]), None)
    except Exception as error:
        answer = "error %s" % str(error).replace("\n", "; ")
    print(answer, file=answers, flush=True)
