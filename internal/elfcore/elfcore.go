// SPDX-License-Identifier: Apache-2.0

package elfcore

import (
	"debug/elf"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/remora-go/remora"
)

// MaxProgs is the largest number of program headers that is accepted. A process
// has 65,530 mappings unless vm.max_map_count was raised.
const MaxProgs = 1 << 22

// extended is the e_phnum that says that the count is sh_info of section 0
// (PN_XNUM in the gABI).
const extended = 0xffff

// File is the header of an ELF file and its program headers.
type File struct {
	Name      string // for messages
	Size      int64  // of the file, in bytes
	Class     elf.Class
	BigEndian bool
	Type      elf.Type
	Machine   elf.Machine
	OSABI     elf.OSABI
	Flags     uint32 // e_flags; makedumpfile sets bit 0 when the image is incomplete
	Sections  int    // e_shnum; 0 in the cores of the Linux kernel, 1 with an extended count
	ProgOff   int64
	ProgCount int    // headers in the table, PT_NULL counted
	Progs     []Prog // in file order, without PT_NULL

	r     io.ReaderAt
	order binary.ByteOrder
}

// Prog is a program header, widened to 64 bits.
type Prog struct {
	Type   elf.ProgType
	Flags  elf.ProgFlag
	Off    uint64
	Vaddr  uint64
	Paddr  uint64
	Filesz uint64
	Memsz  uint64
	Align  uint64
	Index  int // place in the table, PT_NULL counted
}

// Saved is how many of the segment's Filesz bytes lie before the end of the file.
func (f *File) Saved(p *Prog) uint64 {
	size := uint64(f.Size)
	if p.Off >= size {
		return 0
	}
	return min(p.Filesz, size-p.Off)
}

// Wide says whether words of the file are 8 bytes: a file of class 64.
func (f *File) Wide() bool { return f.Class == elf.ELFCLASS64 }

// WordSize is the size of an address in the file, in bytes.
func (f *File) WordSize() int {
	if f.Wide() {
		return 8
	}
	return 4
}

// Last is the highest address that the file can name.
func (f *File) Last() remora.Addr {
	if f.Wide() {
		return remora.MaxAddr
	}
	return 1<<32 - 1
}

// Order is the byte order of the file.
func (f *File) Order() binary.ByteOrder { return f.order }

// bad makes the error of this file.
func (f *File) bad(off int64, cause error, want, got string) error {
	return &remora.FormatError{File: f.Name, Offset: off, Want: want, Got: got, Err: cause}
}

// read fills buf from off, and says what was wanted there if that fails.
func (f *File) read(buf []byte, off int64, want string) error {
	_, err := f.readSome(buf, len(buf), off, want)
	return err
}

// readSome fills buf from off as far as it can, and fails below need bytes.
func (f *File) readSome(buf []byte, need int, off int64, want string) (int, error) {
	if off < 0 || off > f.Size || int64(need) > f.Size-off {
		return 0, f.bad(off, remora.ErrTruncated, want, fmt.Sprintf("the end of the file at 0x%x", f.Size))
	}
	n, err := f.r.ReadAt(buf, off)
	switch {
	case n >= need:
		return n, nil
	case err == nil || err == io.EOF:
		return n, f.bad(off+int64(n), remora.ErrTruncated, want, "the end of the file, which has shrunk")
	}
	return n, f.bad(off+int64(n), err, want, err.Error())
}

// header holds where the fields of one class lie.
type header struct {
	size, progSize           int
	phoff, shoff             int // e_phoff and e_shoff; e_phentsize and the rest follow from tail
	tail                     int // e_phentsize
	infoOff, sectionSize     int // sh_info in a section header, and the size of one
	flags, off, vaddr, paddr int // in a program header
	filesz, memsz, align     int
}

func layout(c elf.Class) header {
	if c == elf.ELFCLASS64 {
		return header{size: 64, progSize: 56, phoff: 32, shoff: 40, tail: 54, infoOff: 44, sectionSize: 64,
			flags: 4, off: 8, vaddr: 16, paddr: 24, filesz: 32, memsz: 40, align: 48}
	}
	return header{size: 52, progSize: 32, phoff: 28, shoff: 32, tail: 42, infoOff: 28, sectionSize: 40,
		off: 4, vaddr: 8, paddr: 12, filesz: 16, memsz: 20, flags: 24, align: 28}
}

// Read reads the header and the program headers of an ELF file of size bytes.
// name is for messages. r is kept.
func Read(r io.ReaderAt, size int64, name string) (*File, error) {
	f := &File{Name: name, Size: size, r: r}
	var buf [64]byte
	if err := f.ident(buf[:elf.EI_NIDENT]); err != nil {
		return nil, err
	}
	h := layout(f.Class)
	if err := f.read(buf[:h.size], 0, "an ELF header"); err != nil {
		return nil, err
	}
	f.Type = elf.Type(f.order.Uint16(buf[16:]))
	f.Machine = elf.Machine(f.order.Uint16(buf[18:]))
	f.Flags = f.order.Uint32(buf[h.shoff+f.WordSize():])
	f.Sections = int(f.order.Uint16(buf[h.tail+6:]))
	phoff, shoff := f.Word(buf[h.phoff:]), f.Word(buf[h.shoff:])
	entry := int(f.order.Uint16(buf[h.tail:]))
	count := uint64(f.order.Uint16(buf[h.tail+2:]))
	if count == 0 {
		return f, nil
	}
	if entry != h.progSize {
		return nil, f.bad(int64(h.tail), remora.ErrCorrupt, fmt.Sprintf("program headers of %d bytes", h.progSize),
			fmt.Sprintf("%d", entry))
	}
	if count == extended && shoff != 0 {
		var err error
		if count, err = f.extendedCount(h, shoff); err != nil {
			return nil, err
		}
	}
	return f, f.progs(h, phoff, count)
}

// ident reads e_ident: the magic number, the class and the byte order.
func (f *File) ident(buf []byte) error {
	magic := buf[:len(elf.ELFMAG)]
	if f.Size < int64(len(magic)) {
		got := fmt.Sprintf("a file of %d bytes", f.Size)
		if f.Size == 0 {
			got = "an empty file"
		}
		return f.bad(0, remora.ErrUnrecognized, "an ELF file", got)
	}
	if err := f.read(magic, 0, "an ELF file"); err != nil {
		return err
	}
	if string(magic) != elf.ELFMAG {
		return f.bad(0, remora.ErrUnrecognized, `an ELF file ("\x7fELF")`, fmt.Sprintf("%q", magic))
	}
	if err := f.read(buf, 0, "an ELF identification"); err != nil {
		return err
	}
	f.Class, f.OSABI = elf.Class(buf[elf.EI_CLASS]), elf.OSABI(buf[elf.EI_OSABI])
	if f.Class != elf.ELFCLASS32 && f.Class != elf.ELFCLASS64 {
		return f.bad(elf.EI_CLASS, remora.ErrCorrupt, "class 1 or 2", fmt.Sprintf("%d", f.Class))
	}
	switch data := elf.Data(buf[elf.EI_DATA]); data {
	case elf.ELFDATA2LSB:
		f.order = binary.LittleEndian
	case elf.ELFDATA2MSB:
		f.order, f.BigEndian = binary.BigEndian, true
	default:
		return f.bad(elf.EI_DATA, remora.ErrCorrupt, "byte order 1 or 2", fmt.Sprintf("%d", data))
	}
	return nil
}

// Word reads an address or offset of the file's class.
func (f *File) Word(b []byte) uint64 {
	if f.Wide() {
		return f.order.Uint64(b)
	}
	return uint64(f.order.Uint32(b))
}

// extendedCount reads the number of program headers from section 0. A zero there
// means that the count in the header is the count, as binutils has it.
func (f *File) extendedCount(h header, shoff uint64) (uint64, error) {
	var b [4]byte
	off := int64(shoff) + int64(h.infoOff)
	if shoff > uint64(f.Size) {
		return 0, f.bad(int64(min(shoff, 1<<63-1)), remora.ErrTruncated, "section 0, which holds the number of program headers",
			fmt.Sprintf("the end of the file at 0x%x", f.Size))
	}
	if err := f.read(b[:], off, "section 0, which holds the number of program headers"); err != nil {
		return 0, err
	}
	if n := f.order.Uint32(b[:]); n != 0 {
		return uint64(n), nil
	}
	return extended, nil
}

// progs reads the table of program headers, a piece at a time.
func (f *File) progs(h header, phoff, count uint64) error {
	size := uint64(h.progSize)
	f.ProgOff = int64(min(phoff, 1<<63-1))
	if phoff > uint64(f.Size) || count > (uint64(f.Size)-phoff)/size {
		return f.bad(f.ProgOff, remora.ErrTruncated, fmt.Sprintf("%d program headers of %d bytes", count, size),
			fmt.Sprintf("the end of the file at 0x%x", f.Size))
	}
	if count > MaxProgs {
		return f.bad(f.ProgOff, remora.ErrCorrupt, fmt.Sprintf("at most %d program headers", MaxProgs), fmt.Sprintf("%d", count))
	}
	f.ProgCount = int(count)
	const piece = 1024
	buf := make([]byte, min(count, piece)*size)
	for i := uint64(0); i < count; i += piece {
		b := buf[:min(count-i, piece)*size]
		if err := f.read(b, int64(phoff+i*size), "program headers"); err != nil {
			return err
		}
		for j := 0; len(b) > 0; j, b = j+1, b[size:] {
			if p := f.prog(h, b); p.Type != elf.PT_NULL {
				p.Index = int(i) + j
				f.Progs = append(f.Progs, p)
			}
		}
	}
	return nil
}

func (f *File) prog(h header, b []byte) Prog {
	return Prog{
		Type:   elf.ProgType(f.order.Uint32(b)),
		Flags:  elf.ProgFlag(f.order.Uint32(b[h.flags:])),
		Off:    f.Word(b[h.off:]),
		Vaddr:  f.Word(b[h.vaddr:]),
		Paddr:  f.Word(b[h.paddr:]),
		Filesz: f.Word(b[h.filesz:]),
		Memsz:  f.Word(b[h.memsz:]),
		Align:  f.Word(b[h.align:]),
	}
}

// ProgOffset is where in the file the header p lies.
func (f *File) ProgOffset(p *Prog) int64 {
	return f.ProgOff + int64(p.Index)*int64(layout(f.Class).progSize)
}
