# SPDX-License-Identifier: Apache-2.0

# Lists the processes of a guest as drgn does where it reads guest memory by QMP: this drgn
# cannot do that by itself, so each of its reads is answered by pmemsave. Where the kernel
# lies QEMU tells, in the notes of an image of one byte; the page tables are not walked.
#
#   qmp_ps.py SOCKET VMLINUX    prints pid, parent, processor, address, state, KiB and name
import os
import re
import sys

import drgn
from drgn.helpers.linux.list import list_for_each_entry
from qmp import QMP

IMAGE = 0xFFFFFFFF80000000  # where the kernel's image is mapped from phys_base on


def vmcoreinfo(qmp):
    path = "/dev/shm/remora-bench-%d" % os.getpid()
    qmp.ask("dump-guest-memory", paging=False, protocol="file:" + path, begin=0x100000, length=1)
    with open(path, "rb") as f:
        text = f.read()
    os.unlink(path)
    return dict(re.findall(rb"^(.*)=(.*)$", text[text.index(b"OSRELEASE=") :], re.M))


qmp = QMP(sys.argv[1])
info = vmcoreinfo(qmp)
base, slide = int(info[b"NUMBER(phys_base)"]), int(info[b"KERNELOFFSET"], 16)

prog = drgn.Program(drgn.host_platform)
prog.load_debug_info([sys.argv[2]])
prog.add_memory_segment(IMAGE, 1 << 30, lambda address, count, offset, physical: qmp.physical(address - IMAGE + base, count))


def symbol(name):
    return drgn.Object(prog, prog[name].type_, address=prog[name].address_ + slide)


direct = symbol("page_offset_base").value_()
prog.add_memory_segment(direct, 1 << 46, lambda address, count, offset, physical: qmp.physical(offset, count))


def state(t):
    bits = t.member_("__state").value_() | t.exit_state.value_()
    return "I" if bits & 0x402 == 0x402 else "RSDTtXZP"[(bits & 0x7F).bit_length()]


for t in list_for_each_entry("struct task_struct", symbol("init_task").tasks.address_of_(), "tasks"):
    pages = t.mm.total_vm.value_() if t.mm else 0
    print(t.pid.value_(), t.real_parent.tgid.value_(), t.thread_info.cpu.value_(), "%x" % t.value_(),
          state(t), pages << 2, t.comm.string_().decode())
