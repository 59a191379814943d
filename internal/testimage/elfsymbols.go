// SPDX-License-Identifier: Apache-2.0

package testimage

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
)

// ELFSymbol is an entry of a table of symbols.
type ELFSymbol struct {
	Name    string
	Value   uint64
	Info    byte
	Section elf.SectionIndex
}

// Sections of ELFSymbols.
const (
	ELFText   elf.SectionIndex = 1 + iota // executable
	ELFRodata                             // holds rodata, at ELFRodataAt
	ELFData                               // writable
	ELFBSS                                // without bytes
	ELFDebug                              // not loaded: .BTF
)

// ELFRodataAt is the address of the section ELFRodata.
const ELFRodataAt = 0xffffffff82000000

// ELFSymbols makes an ELF file of nothing but sections: those above, of which rodata has
// the bytes given first, notes that are given next, BTF that is given last, the symbols
// and their names. Each symbol has 8 bytes.
func ELFSymbols(order binary.ByteOrder, symbols []ELFSymbol, contents ...[]byte) []byte {
	names := []byte{0}
	table := make([]byte, elf.Sym64Size)
	for _, s := range symbols {
		entry := make([]byte, elf.Sym64Size)
		order.PutUint32(entry, uint32(len(names)))
		entry[4] = s.Info
		order.PutUint16(entry[6:], uint16(s.Section))
		order.PutUint64(entry[8:], s.Value)
		order.PutUint64(entry[16:], 8)
		table = append(table, entry...)
		names = append(append(names, s.Name...), 0)
	}
	contents = append(contents, nil, nil, nil)
	rodata, notes, btf := contents[0], contents[1], contents[2]
	btfName := uint32(len(names))
	names = append(names, ".BTF\x00"...)
	const header = 64
	at := func(parts ...[]byte) uint64 { return header + uint64(len(bytes.Join(parts, nil))) }
	sections := []elf.Section64{
		{},
		{Type: uint32(elf.SHT_PROGBITS), Flags: uint64(elf.SHF_ALLOC | elf.SHF_EXECINSTR)},
		{Type: uint32(elf.SHT_PROGBITS), Flags: uint64(elf.SHF_ALLOC), Addr: ELFRodataAt, Off: at(table, names), Size: uint64(len(rodata))},
		{Type: uint32(elf.SHT_PROGBITS), Flags: uint64(elf.SHF_ALLOC | elf.SHF_WRITE)},
		{Type: uint32(elf.SHT_NOBITS), Flags: uint64(elf.SHF_ALLOC | elf.SHF_WRITE)},
		{Name: btfName, Type: uint32(elf.SHT_PROGBITS), Off: at(table, names, rodata, notes), Size: uint64(len(btf))},
		{Type: uint32(elf.SHT_SYMTAB), Off: header, Size: uint64(len(table)), Link: 7, Entsize: elf.Sym64Size},
		{Type: uint32(elf.SHT_STRTAB), Off: at(table), Size: uint64(len(names))},
		{Type: uint32(elf.SHT_NOTE), Off: at(table, names, rodata), Size: uint64(len(notes))},
	}
	h := elf.Header64{Type: uint16(elf.ET_EXEC), Machine: uint16(elf.EM_X86_64), Version: 1, Ehsize: header,
		Shoff: at(table, names, rodata, notes, btf), Shentsize: 64, Shnum: uint16(len(sections)), Shstrndx: 7}
	copy(h.Ident[:], elf.ELFMAG)
	h.Ident[elf.EI_CLASS], h.Ident[elf.EI_DATA], h.Ident[elf.EI_VERSION] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), 1
	if order == binary.ByteOrder(binary.BigEndian) {
		h.Ident[elf.EI_DATA] = byte(elf.ELFDATA2MSB)
	}
	var out bytes.Buffer
	for _, part := range []any{h, table, names, rodata, notes, btf, sections} {
		if err := binary.Write(&out, order, part); err != nil {
			panic(err) // a size that is not fixed
		}
	}
	return out.Bytes()
}
