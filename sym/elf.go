// SPDX-License-Identifier: Apache-2.0

package sym

import (
	"bufio"
	"bytes"
	"debug/elf"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/remora-go/remora"
)

// Bounds of what is read of an ELF file.
const (
	maxStrings = 1 << 28 // bytes of a table of strings
	maxNotes   = 1 << 20 // bytes of a section of notes
)

// ofELF gives the symbols that an ELF file defines: of .symtab, or else of .dynsym.
func (s *File) ofELF(yield func(Symbol, error) bool) {
	table := s.elf.SectionByType(elf.SHT_SYMTAB)
	if table == nil {
		table = s.elf.SectionByType(elf.SHT_DYNSYM)
	}
	if table == nil {
		yield(Symbol{}, s.bad(0, "an ELF symbol table", "none"))
		return
	}
	strings, err := s.strings(table)
	if err != nil {
		yield(Symbol{}, err)
		return
	}
	size := elf.Sym64Size
	if s.elf.Class == elf.ELFCLASS32 {
		size = elf.Sym32Size
	}
	r := bufio.NewReaderSize(io.NewSectionReader(s.f, int64(table.Offset), int64(table.Size)), 64<<10)
	entry := make([]byte, size)
	for no := uint64(0); no < table.Size/uint64(size); no++ {
		if _, err := io.ReadFull(r, entry); err != nil {
			yield(Symbol{}, s.cut(table.Offset+no*uint64(size), "an entry of the symbol table", err))
			return
		}
		one, ok, err := s.entry(entry, strings)
		if err != nil {
			yield(Symbol{}, err)
			return
		}
		if ok && no > 0 && !yield(one, nil) {
			return
		}
	}
}

// cut is the error of a read of the file.
func (s *File) cut(off uint64, what string, err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return s.bad(int64(off), what, "the end of the file")
	}
	return fmt.Errorf("%s: %w", s.path, err)
}

// strings reads the strings of a table of symbols.
func (s *File) strings(table *elf.Section) ([]byte, error) {
	link := table.Link
	if link == 0 || uint64(link) >= uint64(len(s.elf.Sections)) || s.elf.Sections[link].Type != elf.SHT_STRTAB {
		return nil, s.bad(int64(table.Offset), "the strings of a table of symbols", fmt.Sprintf("section %d", link))
	}
	sec := s.elf.Sections[link]
	for _, c := range []*elf.Section{table, sec} {
		if c.Flags&elf.SHF_COMPRESSED != 0 {
			return nil, s.bad(int64(c.Offset), "a table that is not compressed", c.Name)
		}
	}
	return s.contents(sec.Offset, sec.Size, maxStrings)
}

// contents reads a part of the file, and takes no more memory than what is there.
func (s *File) contents(off, size, most uint64) ([]byte, error) {
	if size > most || off > 1<<62 {
		return nil, s.bad(int64(off), fmt.Sprintf("at most %d bytes", most), fmt.Sprint(size))
	}
	b, err := io.ReadAll(io.NewSectionReader(s.f, int64(off), int64(size)))
	if err == nil && uint64(len(b)) < size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, s.cut(off, fmt.Sprintf("%d bytes", size), err)
	}
	return b, nil
}

// entry takes an entry apart. ok is false for what names no address.
func (s *File) entry(b, strings []byte) (one Symbol, ok bool, err error) {
	order := s.elf.ByteOrder
	var info byte
	var section elf.SectionIndex
	if len(b) == elf.Sym32Size {
		one.Addr, one.Size = remora.Addr(order.Uint32(b[4:])), uint64(order.Uint32(b[8:]))
		info, section = b[12], elf.SectionIndex(order.Uint16(b[14:]))
	} else {
		one.Addr, one.Size = remora.Addr(order.Uint64(b[8:])), order.Uint64(b[16:])
		info, section = b[4], elf.SectionIndex(order.Uint16(b[6:]))
	}
	kind := elf.ST_TYPE(info)
	if section == elf.SHN_UNDEF || kind == elf.STT_FILE || kind == elf.STT_SECTION {
		return one, false, nil
	}
	at := order.Uint32(b)
	if uint64(at) >= uint64(len(strings)) {
		return one, false, s.bad(int64(at), fmt.Sprintf("a name within %d bytes of strings", len(strings)), "one behind them")
	}
	name, _, ended := bytes.Cut(strings[at:min(len(strings), int(at)+MaxName+1)], []byte{0})
	if !ended {
		return one, false, s.bad(int64(at), fmt.Sprintf("a name of at most %d bytes", MaxName), "a longer one")
	}
	one.Name, one.Type = string(name), s.letter(info, section)
	return one, len(name) > 0, nil
}

// letter gives the letter that nm(1) shows.
func (s *File) letter(info byte, section elf.SectionIndex) byte {
	c := byte('?')
	switch {
	case section == elf.SHN_ABS:
		c = 'A'
	case section == elf.SHN_COMMON:
		c = 'C'
	case int(section) < len(s.elf.Sections):
		switch sec := s.elf.Sections[section]; {
		case sec.Flags&elf.SHF_EXECINSTR != 0:
			c = 'T'
		case sec.Flags&elf.SHF_ALLOC == 0:
			c = 'N'
		case sec.Flags&elf.SHF_WRITE == 0:
			c = 'R'
		case sec.Type == elf.SHT_NOBITS:
			c = 'B'
		default:
			c = 'D'
		}
	}
	switch bind := elf.ST_BIND(info); {
	case bind == elf.STB_WEAK:
		return 'W'
	case bind == elf.STB_LOCAL && c != '?':
		return c + 'a' - 'A'
	}
	return c
}

// BuildID gives the build id of an ELF file in hexadecimal, "" where it has none.
func (s *File) BuildID() string {
	if s.elf == nil {
		return ""
	}
	for _, sec := range s.elf.Sections {
		if sec.Type != elf.SHT_NOTE || sec.Size > maxNotes {
			continue
		}
		if b, err := s.contents(sec.Offset, sec.Size, maxNotes); err == nil {
			if id := BuildID(b, s.elf.ByteOrder.Uint32); id != "" {
				return id
			}
		}
	}
	return ""
}

// BuildID finds the build id among ELF notes (NT_GNU_BUILD_ID), in hexadecimal. It is ""
// where there is none. word decodes 32 bits.
func BuildID(notes []byte, word func([]byte) uint32) string {
	const head, gnuBuildID = 12, 3
	for len(notes) >= head {
		name, desc := uint64(word(notes)), uint64(word(notes[4:]))
		kind := word(notes[8:])
		at, end := head+(name+3)&^3, head+(name+3)&^3+desc
		if end > uint64(len(notes)) {
			break
		}
		if kind == gnuBuildID && string(notes[head:head+name]) == "GNU\x00" && desc > 0 && desc <= 64 {
			return hex.EncodeToString(notes[at:end])
		}
		notes = notes[min(uint64(len(notes)), (end+3)&^3):]
	}
	return ""
}

// Read fills b with what an ELF file holds for an address, of the sections that have
// bytes. It says how much of it that is.
func (s *File) Read(b []byte, a remora.Addr) int {
	if s.elf == nil {
		return 0
	}
	for _, sec := range s.elf.Sections {
		off := uint64(a) - sec.Addr
		if sec.Flags&elf.SHF_ALLOC == 0 || sec.Type == elf.SHT_NOBITS || sec.Flags&elf.SHF_COMPRESSED != 0 || uint64(a) < sec.Addr || off >= sec.Size {
			continue
		}
		n, _ := s.f.ReadAt(b[:min(uint64(len(b)), sec.Size-off)], int64(sec.Offset+off))
		return n
	}
	return 0
}
