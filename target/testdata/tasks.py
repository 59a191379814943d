# SPDX-License-Identifier: Apache-2.0

# tasks.py FILE VMLINUX: the threads that drgn finds in a kernel image, a line each.
import sys

import drgn
from drgn.helpers.linux.pid import for_each_task
from drgn.helpers.linux.sched import task_cpu, task_state_to_char

prog = drgn.Program()
prog.set_core_dump(sys.argv[1])
prog.load_debug_info([sys.argv[2]])
for task in for_each_task(prog):
    print(
        "task", hex(task.value_()), task.pid.value_(), task.tgid.value_(), task.real_parent.tgid.value_(), task_cpu(task),
        task_state_to_char(task), task.real_cred.euid.val.value_(), hex(task.mm.value_()), task.start_boottime.value_(),
        task.comm.string_().decode(),
    )
