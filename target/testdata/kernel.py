# SPDX-License-Identifier: Apache-2.0

# kernel.py FILE VMLINUX PID [ADDR SIZE] <NAMES: what drgn finds of the kernel in an image
# by its debugging information, a line each. The mappings and the memory are those of the
# process PID.
import hashlib
import sys

import drgn
from drgn.helpers.linux.fs import d_path
from drgn.helpers.linux.list import list_for_each_entry
from drgn.helpers.linux.mm import access_process_vm
from drgn.helpers.linux.pid import find_task, for_each_task
from drgn.helpers.linux.printk import get_printk_records
from drgn.helpers.linux.sched import task_state_to_char

prog = drgn.Program()
prog.set_core_dump(sys.argv[1])
prog.load_debug_info([sys.argv[2]])


def entries(entry, last):
    """The entries of a maple tree below a node, up to an index."""
    node, kind = drgn.Object(prog, "struct maple_node *", entry & ~255), entry >> 3 & 15
    inner = node.ma64 if kind == 3 else node.mr64  # maple_arange_64 or not
    for i in range(len(inner.slot)):
        end = last
        if i < len(inner.pivot) and (i == 0 or inner.pivot[i]):
            end = inner.pivot[i].value_()
        child = inner.slot[i].value_()
        if kind == 1:  # maple_leaf_64
            yield child
        elif child:
            yield from entries(child, end)
        if end >= last:
            return


for task in for_each_task(prog):
    parent, comm = task.real_parent.tgid.value_(), task.comm.string_().decode()
    print("task", task.pid.value_(), task.tgid.value_(), parent, task_state_to_char(task), hex(task.value_()), comm)
for member in prog.type("struct task_struct").members:
    if member.name:
        print("member", member.name, member.bit_offset)
for name in sys.stdin.read().split():
    print("symbol", name, hex(prog.symbol(name).address))
for module in list_for_each_entry("struct module", prog["modules"].address_of_(), "list"):
    try:
        parts = list(module.mem)
    except AttributeError:  # before Linux 6.4
        parts = [module.core_layout, module.init_layout]
    print("module", module.name.string_().decode(), hex(parts[0].base.value_()), sum(p.size.value_() for p in parts))
for record in get_printk_records(prog):
    print("log", record.seq, record.level, record.timestamp // 1000, record.text.hex())

pid = int(sys.argv[3])
task = find_task(prog, pid)
for entry in filter(None, entries(task.mm.mm_mt.ma_root.value_(), 2**64 - 1)):
    vma = drgn.Object(prog, "struct vm_area_struct *", entry)
    flags, file = vma.vm_flags.value_(), vma.vm_file
    print("vma", hex(vma.vm_start.value_()), hex(vma.vm_end.value_()), end=" ")
    print("".join(c if flags & 1 << i else "-" for i, c in enumerate("rwx")), end=" ")
    if file:
        print(vma.vm_pgoff.value_(), file.f_inode.i_ino.value_(), file.f_path.dentry.d_name.name.string_().decode())
    else:
        print("0 0")
if len(sys.argv) > 4:
    at, size = int(sys.argv[4], 16), int(sys.argv[5])
    print("memory", hashlib.sha256(access_process_vm(task, at, size)).hexdigest())
