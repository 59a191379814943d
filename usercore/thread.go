// SPDX-License-Identifier: Apache-2.0

package usercore

import (
	"debug/elf"
	"encoding/binary"
	"fmt"
	"io/fs"
	"strings"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/elfcore"
)

// Thread is a thread as it was when the core was made. The first one of a core by
// the Linux kernel is the thread that crashed.
type Thread struct {
	ID     int64
	Signal int // the signal it was stopped by; 0 where none is recorded
	PC, SP remora.Addr
	// Regs are the general registers: for amd64, 386, arm64 and riscv64 in the order of the
	// kernel's user_regs_struct, in Delve's own notes in the order and with the
	// names that Delve gave them, in lower case. Registers wider than 8 bytes are in
	// Raw alone. Regs is nil for other machines.
	Regs []Register
	// Raw holds the registers as they stand in the core: pr_reg of NT_PRSTATUS, or
	// the whole of Delve's note.
	Raw []byte
}

// Register is a register and its value.
type Register struct {
	Name  string
	Value uint64
}

// Reg gives the register of that name.
func (t *Thread) Reg(name string) (uint64, bool) {
	for _, r := range t.Regs {
		if r.Name == name {
			return r.Value, true
		}
	}
	return 0, false
}

// machine says how a machine keeps its registers in pr_reg.
type machine struct {
	size   int      // of a register, in bytes
	names  []string // in the kernel's order
	pc, sp int      // places in names
}

var (
	amd64Regs = [...]string{"r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx", "rsi",
		"rdi", "orig_rax", "rip", "cs", "eflags", "rsp", "ss", "fs_base", "gs_base", "ds", "es", "fs", "gs"}
	x86Regs = [...]string{"ebx", "ecx", "edx", "esi", "edi", "ebp", "eax", "ds", "es", "fs", "gs", "orig_eax", "eip", "cs",
		"eflags", "esp", "ss"}
	arm64Regs = [...]string{"x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14",
		"x15", "x16", "x17", "x18", "x19", "x20", "x21", "x22", "x23", "x24", "x25", "x26", "x27", "x28", "x29", "x30",
		"sp", "pc", "pstate"}
	riscv64Regs = [...]string{"pc", "ra", "sp", "gp", "tp", "t0", "t1", "t2", "fp", "s1", "a0", "a1", "a2", "a3", "a4", "a5",
		"a6", "a7", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10", "s11", "t3", "t4", "t5", "t6"}
)

// machineOf gives the register layout of a machine, or one without names.
func machineOf(m elf.Machine) machine {
	switch m {
	case elf.EM_X86_64:
		return machine{size: 8, names: amd64Regs[:], pc: 16, sp: 19}
	case elf.EM_386:
		return machine{size: 4, names: x86Regs[:], pc: 12, sp: 15}
	case elf.EM_AARCH64:
		return machine{size: 8, names: arm64Regs[:], pc: 32, sp: 31}
	case elf.EM_RISCV:
		return machine{size: 8, names: riscv64Regs[:], pc: 0, sp: 2}
	}
	return machine{}
}

// Threads decodes the threads in file order. An error is one of reading the file;
// a thread whose note is damaged has its ID alone.
func (c *Core) Threads() ([]Thread, error) {
	if !c.gate.Enter() {
		return nil, fs.ErrClosed
	}
	defer c.gate.Leave()
	var list []Thread
	for i := range c.notes {
		n := &c.notes[i]
		kind := kindOf(n)
		if kind != ntPRStatus && kind != ntDelveThread {
			continue
		}
		t := Thread{ID: n.Thread}
		b, err := c.file.Desc(elfcore.Note{Off: n.Offset, Size: n.Size}, maxDesc)
		if err != nil {
			if !damage(err) {
				return list, err
			}
		} else if kind == ntPRStatus {
			c.prStatus(&t, b)
		} else {
			delveThread(&t, b)
		}
		list = append(list, t)
	}
	return list, nil
}

// prStatus decodes struct elf_prstatus (include/linux/elfcore.h): signal, masks,
// ids and times, then the registers, then pr_fpvalid.
func (c *Core) prStatus(t *Thread, b []byte) {
	head, tail := 72, 4
	if c.file.Wide() {
		head, tail = 112, 8
	}
	if len(b) < head+tail {
		return
	}
	t.Signal = int(int16(c.file.Order().Uint16(b[12:])))
	m := machineOf(c.file.Machine)
	if m.names == nil || len(b) < head+m.size*len(m.names) {
		t.Raw = b[head : len(b)-tail]
		return
	}
	t.Raw = b[head : head+m.size*len(m.names)]
	t.Regs = make([]Register, len(m.names))
	for i, name := range m.names {
		v := t.Raw[i*m.size:]
		if m.size == 8 {
			t.Regs[i] = Register{name, c.file.Order().Uint64(v)}
		} else {
			t.Regs[i] = Register{name, uint64(c.file.Order().Uint32(v))}
		}
	}
	t.PC, t.SP = remora.Addr(t.Regs[m.pc].Value), remora.Addr(t.Regs[m.sp].Value)
}

// delveThread decodes Delve's note of a thread (dumpThreadNotes in its
// pkg/proc/dump.go): little-endian; id, pc, sp, bp, tls, a flag and the address of
// the g, a count, then registers as length and name, length and value.
func delveThread(t *Thread, b []byte) {
	const head = 5*8 + 1 + 8 + 4
	t.Raw = b
	if len(b) < head {
		return
	}
	le := binary.LittleEndian
	t.PC, t.SP = remora.Addr(le.Uint64(b[8:])), remora.Addr(le.Uint64(b[16:]))
	count := le.Uint32(b[head-4:])
	b = b[head:]
	field := func() (f []byte, ok bool) {
		if len(b) < 2 {
			return nil, false
		}
		n := int(le.Uint16(b))
		if b = b[2:]; n > len(b) {
			return nil, false
		}
		f, b = b[:n], b[n:]
		return f, true
	}
	for ; count > 0; count-- {
		name, ok := field()
		value, ok2 := field()
		if !ok || !ok2 {
			return
		}
		if len(value) > 0 && len(value) <= 8 {
			var v [8]byte
			copy(v[:], value)
			t.Regs = append(t.Regs, Register{strings.ToLower(string(name)), le.Uint64(v[:])})
		}
	}
}

// arch names the machine as Go does, where Go has a name for it.
func (c *Core) arch() string {
	little := !c.file.BigEndian
	switch m := c.file.Machine; {
	case m == elf.EM_X86_64 && c.file.Wide():
		return "amd64"
	case m == elf.EM_X86_64:
		return "amd64 (x32)"
	case m == elf.EM_386:
		return "386"
	case m == elf.EM_AARCH64 && c.file.Wide():
		return "arm64"
	case m == elf.EM_ARM && little:
		return "arm"
	case m == elf.EM_RISCV && c.file.Wide():
		return "riscv64"
	case m == elf.EM_S390 && c.file.Wide():
		return "s390x"
	case m == elf.EM_PPC64 && little:
		return "ppc64le"
	case m == elf.EM_PPC64:
		return "ppc64"
	case m == elf.EM_LOONGARCH && c.file.Wide():
		return "loong64"
	default:
		return strings.ToLower(strings.TrimPrefix(fmt.Sprint(m), "EM_"))
	}
}
