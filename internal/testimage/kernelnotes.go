// SPDX-License-Identifier: Apache-2.0

package testimage

import "strings"

// VMCoreInfo gives the text of VMCOREINFO: a line for each pair of key and value.
func VMCoreInfo(pairs ...string) []byte {
	var b strings.Builder
	for i := 0; i+1 < len(pairs); i += 2 {
		b.WriteString(pairs[i] + "=" + pairs[i+1] + "\n")
	}
	return []byte(b.String())
}

// VMCoreInfoNote is the note that holds the text.
func VMCoreInfoNote(text []byte) Note { return Note{Name: "VMCOREINFO", Desc: text} }

// QEMUState is what QEMU's note says of an x86-64 CPU (QEMUCPUState in its
// target/i386/arch_dump.c).
type QEMUState struct {
	GP         [16]uint64 // rax rbx rcx rdx rsi rdi rsp rbp r8 to r15
	RIP, Flags uint64
	Segments   [10]QEMUSegment // cs ds es fs gs ss ldt tr gdt idt
	CR         [5]uint64
	KernelGS   uint64
}

// QEMUSegment is a segment register.
type QEMUSegment struct {
	Selector, Limit, Flags uint32
	Base                   uint64
}

// Note gives the note.
func (q *QEMUState) Note() Note {
	le := &Core{}
	b := le.Put(nil, uint32(1), uint32(440))
	for _, v := range append(q.GP[:len(q.GP):len(q.GP)], q.RIP, q.Flags) {
		b = le.Put(b, v)
	}
	for _, s := range q.Segments {
		b = le.Put(b, s.Selector, s.Limit, s.Flags, uint32(0), s.Base)
	}
	for _, v := range q.CR {
		b = le.Put(b, v)
	}
	return Note{Name: "QEMU", Desc: le.Put(b, q.KernelGS)}
}

// XenNotes are notes of a Xen hypervisor's dump.
func XenNotes() []Note {
	return []Note{
		{Name: "Xen", Type: 0x1000002, Desc: make([]byte, 112)}, // XEN_ELFNOTE_CRASH_INFO
		{Name: "Xen", Type: 0x1000001, Desc: make([]byte, 80)},  // XEN_ELFNOTE_CRASH_REGS
	}
}

// DeviceDump is the note of a driver's dump (VMCOREDD, struct vmcoredd_header of
// the kernel's include/uapi/linux/vmcore.h).
func DeviceDump(device string, dump []byte) Note {
	b := make([]byte, 44)
	copy(b, device)
	return Note{Name: "LINUX", Type: 0x700, Desc: append(b, dump...)}
}

// EraseNote is the list of what makedumpfile erased.
func EraseNote(text string) Note { return Note{Name: "ERASEINFO", Desc: []byte(text)} }
