// SPDX-License-Identifier: Apache-2.0

package usercore

import "debug/elf"

// Maker is the program that made a core, as far as its form gives it away.
type Maker uint8

// The makers that are told apart.
const (
	Unknown Maker = iota
	Linux         // the kernel: lists every mapping, those too that it did not save
	GDB           // gdb, gcore: leaves mappings out without a trace
	Delve         // dlv core: likewise, and has no NT_FILE
)

func (m Maker) String() string {
	switch m {
	case Linux:
		return "the Linux kernel"
	case GDB:
		return "gdb"
	case Delve:
		return "Delve"
	}
	return "an unknown program"
}

// Maker gives the guess of who made the core.
func (c *Core) Maker() Maker { return c.maker }

// guessMaker knows Delve by its header note; gdb by its own notes, or by the
// section headers that BFD writes; and the kernel by its first two notes, which
// fill_note_info in fs/binfmt_elf.c puts in this order (CRIU has the other one).
func (c *Core) guessMaker() Maker {
	if c.delve.platform != "" {
		return Delve
	}
	for i := range c.notes {
		if c.notes[i].Owner == "GDB" {
			return GDB
		}
	}
	switch {
	case c.file.Sections > 1:
		return GDB
	case len(c.notes) > 1 && c.notes[0].Owner == "CORE" && kindOf(&c.notes[0]) == ntPRStatus && kindOf(&c.notes[1]) == ntPRPSInfo:
		return Linux
	}
	return Unknown
}

// kernelImage names what the file is when it is the image of a kernel or a whole
// machine, whose addresses are not those of a process. /proc/kcore has the note
// NT_TASKSTRUCT, as cores of Linux 2.4 do, but no address of a process.
func (c *Core) kernelImage() string {
	task := false
	for i := range c.notes {
		switch n := &c.notes[i]; n.Owner {
		case "VMCOREINFO":
			return "the image of a Linux kernel (note VMCOREINFO)"
		case "QEMU", "Xen", "VBCORE":
			return "the memory of a virtual machine (note " + n.Owner + ")"
		case "CORE":
			task = task || n.Type == ntTaskStruct
		}
	}
	if c.physical() {
		return "the image of a machine (segments with physical addresses)"
	}
	if !task || !c.file.Wide() {
		return ""
	}
	for i := range c.file.Progs {
		if p := &c.file.Progs[i]; p.Type == elf.PT_LOAD && p.Vaddr < 1<<63 {
			return ""
		}
	}
	return "the memory of a running kernel (/proc/kcore)"
}

// physical says that segments have physical addresses, and no note is of a process: QEMU
// writes such images of machines for which it has no note of its own.
func (c *Core) physical() bool {
	for i := range c.notes {
		switch n := &c.notes[i]; {
		case n.Owner == "CORE" && n.Type != ntPRStatus, n.Owner == "GDB", n.Owner == "Delve Header":
			return false
		}
	}
	for i := range c.file.Progs {
		if p := &c.file.Progs[i]; p.Type == elf.PT_LOAD && p.Paddr != 0 {
			return true
		}
	}
	return false
}
