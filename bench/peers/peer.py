# SPDX-License-Identifier: Apache-2.0

# What a side of the benchmark that is written in Python needs: see measure.Program for what
# it is asked. A verb is a context manager that makes the work ready, and gives what does it
# and returns the bytes that came out. Where the digest is not that of doing it once, it gives
# a pair: the second of it is called for the bytes.
import os
import sys
import time
import zlib


def serve(verbs, answers=None):
    out = answers or os.dup(1)
    for line in sys.stdin:
        words = line.split()
        wanted = words[0] == "sum"
        n, work = (1, words[1:]) if wanted else (int(words[1]), words[2:])
        try:
            with verbs[work[0]](*work[1:]) as do:
                do, whole = do if isinstance(do, tuple) else (do, do)
                if wanted:
                    data = whole()
                    answer = "%08x/%d" % (zlib.crc32(data), len(data))
                else:
                    began = time.perf_counter_ns()
                    for _ in range(n):
                        do()
                    answer = "%d" % (time.perf_counter_ns() - began)
            answer = "ok " + answer
        except Exception as e:
            answer = "error " + repr(e).replace("\n", "; ")
        os.write(out, answer.encode() + b"\n")


def ranges(path):
    """Gives the addresses and sizes of a file that has one of each on a line."""
    with open(path) as f:
        return [tuple(int(w, 0) for w in line.split()) for line in f]
