# SPDX-License-Identifier: Apache-2.0

# look.py FILE VMLINUX ADDR...: what drgn reads from a kernel image: physical memory, and
# virtual memory and tasks with debugging information. A page that is not in the image
# counts as zeros, as drgn itself has it in an ELF image.
import hashlib
import sys

import drgn
from drgn.helpers.linux.pid import for_each_task

prog = drgn.Program()
prog.set_core_dump(sys.argv[1])
print("flags", prog.flags)
print("platform", prog.platform)
for first in range(0x1000000, 0x10000000, 0x1000000):
    digest = hashlib.sha256()
    for at in range(first, first + 0x1000000, 0x1000):
        try:
            digest.update(prog.read(at, 0x1000, True))
        except drgn.FaultError:
            digest.update(bytes(0x1000))
    print("physical", hex(first), digest.hexdigest())
for at in sys.argv[3:]:
    print("virtual", at, prog.read(int(at, 16), 64).hex())
prog.load_debug_info([sys.argv[2]])
print("release", prog["init_uts_ns"].name.release.string_().decode())
for task in for_each_task(prog):
    print("task", task.pid.value_(), task.comm.string_().decode())
