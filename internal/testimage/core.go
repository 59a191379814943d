// SPDX-License-Identifier: Apache-2.0

package testimage

import (
	"debug/elf"
	"encoding/binary"
)

// Core is an ELF file to be written. The zero Core is a 64-bit little-endian one
// with the program headers first, then the notes, then memory.
type Core struct {
	Narrow    bool // class 32
	BigEndian bool
	Type      elf.Type    // ET_CORE when 0
	Machine   elf.Machine // EM_X86_64 when 0
	Loads     []Load
	Notes     []Note
	NoteAlign uint64 // p_align of the notes, and padding when 8; 4 when 0
	NotePad   uint64 // padding, when it differs from what p_align says
	PageAlign bool   // memory starts at multiples of 4096 in the file, as the kernel's does
	Extended  bool   // count of program headers in section 0 (PN_XNUM)
	Sections  uint16 // e_shnum, without any sections
	ProgsLast bool   // notes and program headers behind memory, as Delve writes them
	NotesLast bool   // notes behind memory, as gdb writes them
	EFlags    uint32 // e_flags
}

// Load is one PT_LOAD.
type Load struct {
	Addr  uint64
	Paddr uint64
	Data  []byte
	Mem   uint64 // p_memsz; len(Data) when 0
	Flags elf.ProgFlag
	Null  bool // PT_NULL instead of PT_LOAD

	Lie    bool   // take Off and Filesz as they stand instead of writing Data
	Off    uint64 // p_offset
	Filesz uint64
}

// Note is one note. Name is written with a NUL, unless Bare is set or it is empty.
type Note struct {
	Name string
	Bare bool
	Type uint32
	Desc []byte
}

// ByteOrder reads, writes and appends.
type ByteOrder interface {
	binary.ByteOrder
	binary.AppendByteOrder
}

// Order is the byte order of the file.
func (c *Core) Order() ByteOrder {
	if c.BigEndian {
		return binary.BigEndian
	}
	return binary.LittleEndian
}

// WordSize is the size of an address in the file, in bytes.
func (c *Core) WordSize() int {
	if c.Narrow {
		return 4
	}
	return 8
}

// Put appends integers and text as they are, a Word as wide as an address.
func (c *Core) Put(b []byte, values ...any) []byte {
	order := c.Order()
	for _, v := range values {
		switch v := v.(type) {
		case uint8:
			b = append(b, v)
		case uint16:
			b = order.AppendUint16(b, v)
		case uint32:
			b = order.AppendUint32(b, v)
		case uint64:
			b = order.AppendUint64(b, v)
		case Word:
			if c.Narrow {
				b = order.AppendUint32(b, uint32(v))
			} else {
				b = order.AppendUint64(b, uint64(v))
			}
		case string:
			b = append(b, v...)
		case []byte:
			b = append(b, v...)
		}
	}
	return b
}

// Word is a value as wide as an address of the file.
type Word uint64

func pad(b []byte, align uint64) []byte {
	for uint64(len(b))%align != 0 {
		b = append(b, 0)
	}
	return b
}

// NoteBytes gives the notes as they stand in the file.
func (c *Core) NoteBytes() []byte {
	align := max(c.NoteAlign, 4)
	if c.NotePad != 0 {
		align = c.NotePad
	}
	var b []byte
	for _, n := range c.Notes {
		name := n.Name
		if !n.Bare && name != "" {
			name += "\x00"
		}
		b = pad(b, align)
		b = c.Put(b, uint32(len(name)), uint32(len(n.Desc)), n.Type, name)
		b = pad(b, align)
		b = append(b, n.Desc...)
	}
	return b
}

// Bytes gives the file.
func (c *Core) Bytes() []byte {
	headerSize, progSize := uint64(64), uint64(56)
	if c.Narrow {
		headerSize, progSize = 52, 32
	}
	notes := c.NoteBytes()
	count := uint64(len(c.Loads) + 1)
	phoff := headerSize
	body := make([]byte, headerSize)
	if !c.ProgsLast {
		body = append(body, make([]byte, count*progSize)...)
	}
	var noteOff uint64
	putNotes := func() {
		body = pad(body, 4)
		noteOff = uint64(len(body))
		body = append(body, notes...)
	}
	if !c.NotesLast && !c.ProgsLast {
		putNotes()
	}
	progs := make([]Load, 0, count)
	for _, l := range c.Loads {
		if !l.Lie {
			if c.PageAlign {
				body = pad(body, 4096)
			}
			l.Off, l.Filesz = uint64(len(body)), uint64(len(l.Data))
			body = append(body, l.Data...)
		}
		if l.Mem == 0 {
			l.Mem = l.Filesz
		}
		progs = append(progs, l)
	}
	if c.NotesLast || c.ProgsLast {
		putNotes()
	}
	table := c.table(progs, Load{Off: noteOff, Filesz: uint64(len(notes))})
	if c.ProgsLast {
		phoff = uint64(len(body))
		body = append(body, table...)
	} else {
		copy(body[phoff:], table)
	}
	var shoff uint64
	if c.Extended {
		shoff = uint64(len(body))
	}
	copy(body, c.header(phoff, shoff, count))
	if c.Extended {
		body = append(body, c.section0(uint32(count))...)
	}
	return body
}

// table gives the program headers: the notes first, except where Delve's are last.
func (c *Core) table(loads []Load, notes Load) []byte {
	var b []byte
	if !c.ProgsLast {
		b = c.prog(b, elf.PT_NOTE, notes, max(c.NoteAlign, 4))
	}
	for _, l := range loads {
		typ, align := elf.PT_LOAD, uint64(1)
		if l.Null {
			typ = elf.PT_NULL
		}
		if c.PageAlign {
			align = 4096
		}
		b = c.prog(b, typ, l, align)
	}
	if c.ProgsLast {
		b = c.prog(b, elf.PT_NOTE, notes, max(c.NoteAlign, 4))
	}
	return b
}

func (c *Core) prog(b []byte, typ elf.ProgType, l Load, align uint64) []byte {
	if c.Narrow {
		return c.Put(b, uint32(typ), Word(l.Off), Word(l.Addr), Word(l.Paddr), Word(l.Filesz), Word(l.Mem), uint32(l.Flags), Word(align))
	}
	return c.Put(b, uint32(typ), uint32(l.Flags), Word(l.Off), Word(l.Addr), Word(l.Paddr), Word(l.Filesz), Word(l.Mem), Word(align))
}

func (c *Core) header(phoff, shoff, count uint64) []byte {
	class, data := elf.ELFCLASS64, elf.ELFDATA2LSB
	if c.Narrow {
		class = elf.ELFCLASS32
	}
	if c.BigEndian {
		data = elf.ELFDATA2MSB
	}
	typ, machine := c.Type, c.Machine
	if typ == 0 {
		typ = elf.ET_CORE
	}
	if machine == 0 {
		machine = elf.EM_X86_64
	}
	sizes := [3]uint16{64, 56, 64} // of this header, of a program header, of a section header
	if c.Narrow {
		sizes = [3]uint16{52, 32, 40}
	}
	shnum := c.Sections
	if c.Extended {
		shnum, count = max(shnum, 1), 0xffff
	}
	b := append([]byte(elf.ELFMAG), byte(class), byte(data), byte(elf.EV_CURRENT), 0, 0, 0, 0, 0, 0, 0, 0, 0)
	return c.Put(b, uint16(typ), uint16(machine), uint32(elf.EV_CURRENT), Word(0), Word(phoff), Word(shoff), c.EFlags,
		sizes[0], sizes[1], uint16(count), sizes[2], shnum, uint16(0))
}

// section0 is the section header whose sh_info holds the true count.
func (c *Core) section0(count uint32) []byte {
	return c.Put(nil, uint32(0), uint32(0), Word(0), Word(0), Word(0), Word(1), uint32(0), count, Word(0), Word(0))
}
