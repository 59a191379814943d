# SPDX-License-Identifier: Apache-2.0

# The twin of the benchmarks of kernels in images: drgn, with debugging information.
#
#   peer.py ps FILE VMLINUX    lists the tasks as ps does
#   peer.py serve              reads commands, one a line, and answers each with the
#                              nanoseconds that it took and the number of reads
import sys
import time

import drgn
from drgn.helpers.linux.mm import access_process_vm
from drgn.helpers.linux.pid import find_task, for_each_task
from drgn.helpers.linux.sched import task_cpu, task_state_to_char


def load(dump, vmlinux):
    prog = drgn.Program()
    prog.set_core_dump(dump)
    prog.load_debug_info([vmlinux])
    return prog


def ps(prog):
    for t in for_each_task(prog):
        if t.pid.value_() != t.tgid.value_():
            continue
        pages = t.mm.total_vm.value_() if t.mm else 0
        print(t.pid.value_(), t.real_parent.tgid.value_(), task_cpu(t), hex(t.value_()),
              task_state_to_char(t), pages << 12, t.comm.string_().decode())


def serve():
    task = at = size = None
    for line in sys.stdin:
        words = line.split()
        n = 1
        if words[0] == "load":
            prog = load(words[1], words[2])
            task = find_task(prog, int(words[3]))
            at, size = int(words[4], 16), int(words[5])
        else:
            n = int(words[1])
        began = time.monotonic_ns()
        if words[0] == "read":
            for _ in range(n):
                access_process_vm(task, at, size)
        print(time.monotonic_ns() - began, n, flush=True)


if sys.argv[1] == "ps":
    ps(load(sys.argv[2], sys.argv[3]))
else:
    serve()
