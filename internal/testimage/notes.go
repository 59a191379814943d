// SPDX-License-Identifier: Apache-2.0

package testimage

import "fmt"

// PRStatus is the NT_PRSTATUS of a thread (struct elf_prstatus of the kernel's
// include/linux/elfcore.h). regs are the general registers in the kernel's order.
func (c *Core) PRStatus(tid, signal int, regs ...uint64) Note {
	b := c.Put(nil, uint32(signal), uint32(0), uint32(0), uint16(signal), uint16(0), Word(0), Word(0),
		uint32(tid), uint32(1), uint32(tid), uint32(tid))
	b = append(b, make([]byte, 8*c.WordSize())...) // four struct timeval
	for _, r := range regs {
		b = c.Put(b, Word(r))
	}
	b = c.Put(b, uint32(0)) // pr_fpvalid
	return Note{Name: "CORE", Type: 1, Desc: pad(b, uint64(c.WordSize()))}
}

// PRPSInfo is the NT_PRPSINFO of a process (struct elf_prpsinfo). In a 32-bit core
// its uid and gid are two bytes, as on 386 and ARM.
func (c *Core) PRPSInfo(pid, uid int, command, args string) Note {
	b := c.Put(nil, uint8(0), uint8('R'), uint8(0), uint8(0))
	b = pad(b, uint64(c.WordSize()))
	b = c.Put(b, Word(0))
	if c.Narrow {
		b = c.Put(b, uint16(uid), uint16(uid))
	} else {
		b = c.Put(b, uint32(uid), uint32(uid))
	}
	b = c.Put(b, uint32(pid), uint32(1), uint32(pid), uint32(pid))
	text := make([]byte, 16+80)
	copy(text[:15], command)
	copy(text[16:95], args)
	return Note{Name: "CORE", Type: 3, Desc: append(b, text...)}
}

// SigInfo is the NT_SIGINFO of a fault: number, code and address.
func (c *Core) SigInfo(signal, code int, addr uint64) Note {
	b := c.Put(nil, uint32(signal), uint32(0), uint32(code))
	b = pad(b, uint64(c.WordSize()))
	b = c.Put(b, Word(addr))
	return Note{Name: "CORE", Type: 0x53494749, Desc: append(b, make([]byte, 128-len(b))...)}
}

// Auxv is the NT_AUXV: pairs of tag and value, closed by AT_NULL.
func (c *Core) Auxv(pairs ...uint64) Note {
	var b []byte
	for _, v := range append(pairs, 0, 0) {
		b = c.Put(b, Word(v))
	}
	return Note{Name: "CORE", Type: 6, Desc: b}
}

// Mapping is one entry of NT_FILE; Page is its offset in the file in pages.
type Mapping struct {
	Start, End, Page uint64
	Name             string
}

// Files is the NT_FILE (fill_files_note in the kernel's fs/binfmt_elf.c), with
// pages of 4096 bytes.
func (c *Core) Files(maps ...Mapping) Note {
	b := c.Put(nil, Word(len(maps)), Word(4096))
	for _, m := range maps {
		b = c.Put(b, Word(m.Start), Word(m.End), Word(m.Page))
	}
	for _, m := range maps {
		b = append(append(b, m.Name...), 0)
	}
	return Note{Name: "CORE", Type: 0x46494c45, Desc: b}
}

// BuildID is the GNU build id of an executable.
func BuildID(id []byte) Note { return Note{Name: "GNU", Type: 3, Desc: id} }

// DelveHeader is the note by which Delve marks its cores (pkg/proc/dump.go).
func DelveHeader(platform string, pid int, entry uint64) Note {
	text := fmt.Sprintf("%s\nVersion: 1.25.0\nBuild: test\nTarget Pid: %d\nEntry Point: %#x\n", platform, pid, entry)
	return Note{Name: "Delve Header", Bare: true, Type: 0x444c5645, Desc: []byte(text)}
}

// DelveReg is one register of a Delve thread.
type DelveReg struct {
	Name  string
	Bytes []byte
}

// DelveThread is Delve's own note of a thread: always little-endian, without a name.
func DelveThread(tid, pc, sp, bp, tls uint64, regs ...DelveReg) Note {
	le := &Core{}
	b := le.Put(nil, tid, pc, sp, bp, tls, uint8(1), uint64(0xc000), uint32(len(regs)))
	for _, r := range regs {
		b = le.Put(b, uint16(len(r.Name)), r.Name, uint16(len(r.Bytes)), r.Bytes)
	}
	return Note{Type: 0x444c5654, Desc: b}
}
