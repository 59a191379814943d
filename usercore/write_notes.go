// SPDX-License-Identifier: Apache-2.0

package usercore

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"math"

	"github.com/remora-go/remora"
)

// finish writes the notes, the program headers and the header.
func (c *coreWriter) finish() error {
	if err := c.ctx.Err(); err != nil {
		return err
	}
	c.makeNotes()
	le := binary.LittleEndian
	notesAt := align(c.at, 8)
	progsAt := align(notesAt+int64(len(c.notes)), 8)
	count := len(c.segs) + 1
	progs := make([]byte, 0, count*progSize+headerSize)
	progs = prog(progs, elf.PT_NOTE, 0, notesAt, 0, uint64(len(c.notes)), 0, 4)
	for i := range c.segs {
		s := &c.segs[i]
		flags := elf.ProgFlag(0)
		for k, f := range [...]elf.ProgFlag{elf.PF_R, elf.PF_W, elf.PF_X} {
			if s.perm&(remora.Perm(1)<<k) != 0 {
				flags |= f
			}
		}
		progs = prog(progs, elf.PT_LOAD, flags, s.off, uint64(s.Start), s.file, s.Size, c.c.PageSize)
	}
	h := make([]byte, headerSize)
	copy(h, elf.ELFMAG)
	h[elf.EI_CLASS], h[elf.EI_DATA], h[elf.EI_VERSION] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)
	le.PutUint16(h[16:], uint16(elf.ET_CORE))
	le.PutUint16(h[18:], uint16(c.c.Machine))
	le.PutUint32(h[20:], uint32(elf.EV_CURRENT))
	le.PutUint64(h[32:], uint64(progsAt))
	le.PutUint16(h[52:], headerSize)
	le.PutUint16(h[54:], progSize)
	le.PutUint16(h[56:], uint16(min(count, math.MaxUint16))) // PN_XNUM
	if count >= math.MaxUint16 {
		le.PutUint64(h[40:], uint64(progsAt)+uint64(len(progs))) // section 0 has the count
		le.PutUint16(h[58:], headerSize)
		le.PutUint16(h[60:], 1)
		section := make([]byte, headerSize)
		le.PutUint32(section[44:], uint32(count))
		progs = append(progs, section...)
	}
	c.done.Size = progsAt + int64(len(progs))
	for _, part := range []struct {
		b  []byte
		at int64
	}{{c.notes, notesAt}, {progs, progsAt}, {h, 0}} {
		if _, err := c.w.WriteAt(part.b, part.at); err != nil {
			return err
		}
	}
	return nil
}

func align(n, to int64) int64 { return (n + to - 1) &^ (to - 1) }

// prog adds a program header.
func prog(b []byte, kind elf.ProgType, flags elf.ProgFlag, off int64, addr, file, mem, align uint64) []byte {
	le := binary.LittleEndian
	b = le.AppendUint32(le.AppendUint32(b, uint32(kind)), uint32(flags))
	b = le.AppendUint64(le.AppendUint64(b, uint64(off)), addr)
	b = le.AppendUint64(b, 0) // p_paddr
	b = le.AppendUint64(le.AppendUint64(b, file), mem)
	return le.AppendUint64(b, align)
}

// makeNotes makes the notes in the order of the kernel's: the first thread, the process,
// the auxiliary vector, the files, the other threads.
func (c *coreWriter) makeNotes() {
	for i := range c.c.Threads {
		c.note(ntPRStatus, c.prStatus(&c.c.Threads[i]))
		if i > 0 {
			continue
		}
		c.note(ntPRPSInfo, c.prpsInfo())
		if len(c.c.Auxv) > 0 {
			c.note(ntAuxv, c.c.Auxv)
		}
		c.note(ntFile, c.fileList())
	}
}

func (c *coreWriter) note(kind uint32, desc []byte) {
	le := binary.LittleEndian
	const owner = "CORE\x00\x00\x00\x00"
	b := le.AppendUint32(c.notes, 5) // with its NUL, without padding
	b = le.AppendUint32(b, uint32(len(desc)))
	b = append(le.AppendUint32(b, kind), owner...)
	b = append(b, desc...)
	c.notes = append(b, make([]byte, -len(b)&3)...)
}

// prStatus is struct elf_prstatus (include/linux/elfcore.h).
func (c *coreWriter) prStatus(t *ThreadRegs) []byte {
	le := binary.LittleEndian
	b := make([]byte, 112)
	le.PutUint32(b, uint32(t.Signal))
	le.PutUint16(b[12:], uint16(t.Signal))
	le.PutUint32(b[32:], uint32(t.ID))
	le.PutUint32(b[36:], uint32(c.c.Process.PPID))
	le.PutUint32(b[40:], uint32(c.c.Process.PID))
	for _, name := range machineOf(c.c.Machine).names {
		b = le.AppendUint64(b, t.Regs[name])
	}
	return append(b, make([]byte, 8)...) // pr_fpvalid: none
}

// prpsInfo is struct elf_prpsinfo.
func (c *coreWriter) prpsInfo() []byte {
	le := binary.LittleEndian
	p := &c.c.Process
	b := make([]byte, 136)
	b[1] = 'R'
	for i, n := range [...]uint32{p.UID, p.GID, uint32(p.PID), uint32(p.PPID), uint32(p.PID)} {
		le.PutUint32(b[16+4*i:], n)
	}
	copy(b[40:40+15], p.Command)
	copy(b[56:56+79], p.Args)
	return b
}

// fileList is NT_FILE (fill_files_note): the count, the size of a page, three words a
// mapping, then the names. A name ends at its first NUL, which a real one does not have.
func (c *coreWriter) fileList() []byte {
	le := binary.LittleEndian
	b := le.AppendUint64(nil, uint64(len(c.files)))
	b = le.AppendUint64(b, c.c.PageSize)
	var names bytes.Buffer
	for i := range c.files {
		r := &c.files[i]
		b = le.AppendUint64(b, uint64(r.Start))
		b = le.AppendUint64(b, uint64(r.Start)+r.Size)
		b = le.AppendUint64(b, r.Offset/c.c.PageSize)
		name, _, _ := bytes.Cut([]byte(r.Name), []byte{0})
		names.Write(name)
		if r.Deleted {
			names.WriteString(" (deleted)")
		}
		names.WriteByte(0)
	}
	return append(b, names.Bytes()...)
}
