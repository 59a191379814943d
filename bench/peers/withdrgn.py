# SPDX-License-Identifier: Apache-2.0

# The sides of the rows about kernel images that are drgn with debugging information, as a
# program of Python. As a command it does the work once and prints what came out; without
# arguments it reads requests: see peer.h.
#
#   first FILE VMLINUX NAME              open an image, and read the byte at a symbol
#   symbol FILE VMLINUX NAME             open an image, and find a symbol
#   symbols FILE VMLINUX NAMES           open an image, and list all symbols
#   ps FILE VMLINUX                      list the processes
#   lookup FILE VMLINUX NAMES            find the symbols that a file names
#   process FILE VMLINUX PID ADDR SIZE   read memory of a process
#   mappings FILE VMLINUX PID            list what it has mapped
#   seq FILE RANGES                      read ranges of physical memory
#   words FILE RANGES                    the same for words
import struct
import sys
import time
import zlib

import drgn


def load(path, vmlinux=None):
    prog = drgn.Program()
    prog.set_core_dump(path)
    if vmlinux:
        prog.load_debug_info([vmlinux])
    return prog


def digest(data):
    return "%08x/%d" % (zlib.crc32(data), len(data))


def lines(all):
    return digest("".join(sorted(all)).encode())


def names(path):
    with open(path) as f:
        return f.read().split()


def ranges(path):
    with open(path) as f:
        size = int(f.readline())
        return size, [int(line.split()[0], 16) for line in f]


# Each of these makes work ready, and gives what does it and what tells its digest.


def first(path, vmlinux, name):
    def do():
        prog = load(path, vmlinux)
        return "%x:%02x" % (prog[name].address_, prog[name][0].value_() & 255)

    return do, lambda out: out


def symbol(path, vmlinux, name):
    return lambda: load(path, vmlinux).symbol(name).address, lambda out: "%x" % out


def symbols(path, vmlinux, file):
    wanted = set(names(file))
    some = lambda out: ["%s %x\n" % (s.name, s.address) for s in out if s.name in wanted]
    return lambda: load(path, vmlinux).symbols(), lambda out: lines(some(out))


def lookup(path, vmlinux, file):
    prog, wanted = load(path, vmlinux), names(file)
    return lambda: [prog.symbol(name).address for name in wanted], lambda out: digest(struct.pack("<%dQ" % len(out), *out))


def tasks(prog):
    from drgn.helpers.linux.pid import for_each_task

    for t in for_each_task(prog):
        pid = t.pid.value_()
        if pid == t.tgid.value_():
            yield "%d %d %s\n" % (pid, t.real_parent.tgid, t.comm.string_().decode())


def ps(path, vmlinux):
    prog = load(path, vmlinux)
    return lambda: list(tasks(prog)), lines


def process(path, vmlinux, pid, addr, size):
    from drgn.helpers.linux.mm import access_process_vm
    from drgn.helpers.linux.pid import find_task

    task, addr, size = find_task(load(path, vmlinux), int(pid)), int(addr, 0), int(size)
    return lambda: access_process_vm(task, addr, size), digest


def entries(prog, entry, last):
    """The entries of a maple tree below a node, up to an index: this drgn has no other way."""
    node, kind = drgn.Object(prog, "struct maple_node *", entry & ~255), entry >> 3 & 15
    inner = (node.ma64 if kind == 3 else node.mr64).read_()  # maple_arange_64 or not
    slots, pivots = inner.slot.value_(), inner.pivot.value_()
    for i, child in enumerate(slots):
        end = last
        if i < len(pivots) and (i == 0 or pivots[i]):
            end = pivots[i]
        if kind == 1:  # maple_leaf_64
            yield child
        elif child:
            yield from entries(prog, child, end)
        if end >= last:
            return


def mappings(path, vmlinux, pid):
    from drgn.helpers.linux.pid import find_task

    prog = load(path, vmlinux)
    task = find_task(prog, int(pid))

    def do():
        out = []
        for entry in filter(None, entries(prog, task.mm.mm_mt.ma_root.value_(), 2**64 - 1)):
            vma = drgn.Object(prog, "struct vm_area_struct *", entry)
            out += vma.vm_start.value_(), vma.vm_end.value_()
        return out

    return do, lambda out: digest(struct.pack("<%dQ" % len(out), *out))


def seq(path, file):
    prog, (size, all) = load(path), ranges(file)

    def do():
        for a in all:
            prog.read(a, size, True)

    def out(_):
        return digest(struct.pack("<%dI" % len(all), *(zlib.crc32(prog.read(a, size, True)) for a in all)))

    return do, out


def words(path, file):
    prog, (_, all) = load(path), ranges(file)
    return lambda: [prog.read_u64(a, True) for a in all], lambda out: digest(struct.pack("<%dQ" % len(out), *out))


def answer(line, state):
    request, *work = line.split()
    n = int(work.pop(0)) if request == "run" else 1
    if state.get("work") != work:
        state.clear()
        state["made"] = globals()[work[0]](*work[1:])
        state["work"] = work
    do, out = state["made"]
    if request == "sum":
        return "ok " + out(do())
    began = time.monotonic_ns()
    for _ in range(n):
        do()
    return "ok %d" % (time.monotonic_ns() - began)


def serve():
    state = {}
    for line in sys.stdin:
        try:
            text = answer(line, state)
        except Exception as e:
            text = "error %r" % e
        print(text.replace("\n", " "), flush=True)


def once(verb, path, vmlinux, *rest):
    if verb == "ps":
        sys.stdout.writelines(tasks(load(path, vmlinux)))
    elif verb == "symbols":
        sys.stdout.writelines("%x %s\n" % (s.address, s.name) for s in load(path, vmlinux).symbols())
    else:
        do, out = globals()[verb](path, vmlinux, *rest)
        print(out(do()))


if len(sys.argv) > 1:
    once(*sys.argv[1:])
else:
    serve()
