# SPDX-License-Identifier: Apache-2.0

# offsets.py VMLINUX STRUCT.MEMBER...: where debugging information has members: the first
# bit, and of bit fields the number of bits; the size in bytes of others.
import sys

import drgn

prog = drgn.Program(drgn.Platform(drgn.Architecture.X86_64))
prog.load_debug_info([sys.argv[1]])
for name in sys.argv[2:]:
    struct, path = name.split(".", 1)
    typ, bit = prog.type("struct " + struct), 0
    for part in path.split("."):
        while typ.kind == drgn.TypeKind.TYPEDEF:
            typ = typ.type
        member = typ.member(part)
        bit, typ = bit + member.bit_offset, member.type
    size = member.bit_field_size or 0
    whole = size or not typ.is_complete()  # an array may have no length
    print(name, bit, size, 0 if whole else drgn.sizeof(typ))
