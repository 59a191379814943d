// SPDX-License-Identifier: Apache-2.0

package vmcore

import (
	"debug/elf"
	"encoding/binary"
	"fmt"
	"strings"
)

// Registers in the order of pr_reg, by the names that gdb uses: struct user_regs_struct of
// arch/x86 and arch/riscv, struct user_pt_regs of arch/arm64.
const (
	amd64Regs = "r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss" +
		" fs_base gs_base ds es fs gs"
	arm64Regs = "x0 x1 x2 x3 x4 x5 x6 x7 x8 x9 x10 x11 x12 x13 x14 x15 x16 x17 x18 x19 x20 x21 x22 x23 x24 x25" +
		" x26 x27 x28 x29 x30 sp pc cpsr"
	riscv64Regs = "pc ra sp gp tp t0 t1 t2 fp s1 a0 a1 a2 a3 a4 a5 a6 a7 s2 s3 s4 s5 s6 s7 s8 s9 s10 s11 t3 t4 t5 t6"
)

// prStatus decodes struct elf_prstatus of a 64-bit machine: pr_pid at 32, pr_reg at 112.
// Other machines are not known here, and get no registers.
func prStatus(c *CPU, b []byte, order binary.ByteOrder, m elf.Machine) (want string) {
	var names []string
	switch m {
	case elf.EM_X86_64:
		names = strings.Fields(amd64Regs)
	case elf.EM_AARCH64:
		names = strings.Fields(arm64Regs)
	case elf.EM_RISCV:
		names = strings.Fields(riscv64Regs)
	default:
		return ""
	}
	const head = 112
	if len(b) < head+8*len(names) {
		return fmt.Sprintf("NT_PRSTATUS of at least %d bytes", head+8*len(names))
	}
	c.PID = int(int32(order.Uint32(b[32:])))
	c.Regs = make(map[string]uint64, len(names))
	for i, name := range names {
		c.Regs[name] = order.Uint64(b[head+8*i:])
	}
	return ""
}

// Parts of QEMU's note of an x86 processor (QEMUCPUState in its target/i386/arch_dump.c):
// version and size, 18 registers, 10 segments of selector, limit, flags, padding and base,
// then cr0 to cr4 and the base that swapgs swaps in.
const (
	qemuRegs     = "rax rbx rcx rdx rsi rdi rsp rbp r8 r9 r10 r11 r12 r13 r14 r15 rip eflags"
	qemuSegments = "cs ds es fs gs ss ldt tr gdt idt"
	qemuControl  = "cr0 cr1 cr2 cr3 cr4 k_gs_base"
	qemuSize     = 8 + 18*8 + 10*24 + 5*8 // without the last, which old versions do not have
)

func qemuState(c *CPU, b []byte, order binary.ByteOrder) (want string) {
	if len(b) < qemuSize {
		return fmt.Sprintf("the state of a processor, at least %d bytes", qemuSize)
	}
	if v := order.Uint32(b); v != 1 {
		return "the state of a processor in version 1"
	}
	c.Regs = make(map[string]uint64)
	b = b[8:]
	for _, name := range strings.Fields(qemuRegs) {
		c.Regs[name] = order.Uint64(b)
		b = b[8:]
	}
	for _, name := range strings.Fields(qemuSegments) {
		c.Regs[name], c.Regs[name+"_base"] = uint64(order.Uint32(b)), order.Uint64(b[16:])
		b = b[24:]
	}
	for _, name := range strings.Fields(qemuControl) {
		if len(b) < 8 {
			break
		}
		c.Regs[name] = order.Uint64(b)
		b = b[8:]
	}
	return ""
}
