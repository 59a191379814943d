// SPDX-License-Identifier: Apache-2.0

package testimage

import (
	"cmp"
	"debug/elf"
	"io"
	"math/rand/v2"
	"slices"
)

// NoPaddr is the p_paddr of a segment that has no physical address.
const NoPaddr = ^uint64(0)

// VMCore is a kernel image in ELF form to be written. The zero VMCore but for Mem
// is as the kernel's /proc/vmcore: 64-bit, little-endian, one PT_NOTE, then a
// segment for each run of RAM, whose memory begins at a multiple of the page size.
//
// Pages that were filtered out have no bytes in the file: they are the end of a
// segment whose p_filesz is less than its p_memsz. Pages that are lost have their
// place behind the end of the file.
type VMCore struct {
	Mem       *Physical
	Narrow    bool
	BigEndian bool
	Machine   elf.Machine
	Flags     uint32 // e_flags; bit 0 is makedumpfile's mark of an incomplete dump

	Vaddr func(paddr uint64) uint64 // 0 without it
	Extra []Segment                 // further segments, behind those of Mem

	Notes    []Note
	NoteEach bool // a PT_NOTE for each note

	Extended  bool   // PN_XNUM
	ShdrFirst bool   // sections before program headers, as QEMU writes them
	PhOff     uint64 // program headers at this offset, at the end of the file if that is ^0
	Skew      uint64 // memory begins so many bytes behind a multiple of the page size
	Shuffle   uint64 // segments in any order, by this seed
	ZeroProgs int    // so many program headers more, of zeros
}

// Segment is one PT_LOAD. Its memory is in the file at Off.
type Segment struct {
	Vaddr, Paddr  uint64
	Off           uint64
	Filesz, Memsz uint64
	Data          []byte // written for this segment, which sets Off, Filesz and Memsz
	Same          bool   // Off is that of the bytes at Paddr in Mem
}

// Bytes gives the file.
func (v *VMCore) Bytes() []byte {
	return inMemory(func(w io.WriterAt) error {
		_, err := v.WriteTo(w)
		return err
	})
}

// core gives the writer of the pieces.
func (v *VMCore) core() *Core {
	return &Core{Narrow: v.Narrow, BigEndian: v.BigEndian, Machine: v.Machine, EFlags: v.Flags, Extended: v.Extended}
}

// WriteTo writes the file to w, which must be empty, and gives its segments in the
// order of the file. Runs of Mem cost nothing: a file of many TiB can be sparse.
func (v *VMCore) WriteTo(w io.WriterAt) ([]Segment, error) {
	s := &sink{w: w}
	c := v.core()
	segments := v.segments()
	notes := v.noteParts(c)
	count := uint64(len(segments) + len(v.Extra) + len(notes) + v.ZeroProgs)
	head, progSize, sectionSize := uint64(64), uint64(56), uint64(64)
	if v.Narrow {
		head, progSize, sectionSize = 52, 32, 40
	}
	at := head
	var shoff uint64
	if v.ShdrFirst {
		shoff, at = at, at+2*sectionSize
		c.Sections = 2
	}
	phoff := at
	switch v.PhOff {
	case 0, ^uint64(0):
	default:
		phoff = v.PhOff
	}
	if v.PhOff != ^uint64(0) {
		at = phoff + count*progSize
	}
	var table []byte
	for _, n := range notes {
		at = (at + 3) &^ 3
		s.write(n, int64(at))
		table = c.prog(table, elf.PT_NOTE, Load{Off: at, Filesz: uint64(len(n)), Mem: uint64(len(n))}, 4)
		at += uint64(len(n))
	}
	segments, at = v.memory(s, segments, at)
	for _, g := range segments {
		table = c.prog(table, elf.PT_LOAD, Load{Addr: g.Vaddr, Paddr: g.Paddr, Off: g.Off, Filesz: g.Filesz, Mem: g.Memsz,
			Flags: elf.PF_R | elf.PF_W | elf.PF_X}, 0)
	}
	if v.PhOff == ^uint64(0) {
		phoff = at
		at += count * progSize
	}
	s.write(table, int64(phoff))
	s.grow(int64(phoff + count*progSize))
	if v.Extended && shoff == 0 {
		shoff = at
	}
	if v.Extended {
		s.write(c.section0(uint32(count)), int64(shoff))
	}
	s.write(c.header(phoff, shoff, count), 0)
	return segments, s.close()
}

// noteParts gives the contents of each PT_NOTE.
func (v *VMCore) noteParts(c *Core) [][]byte {
	if len(v.Notes) == 0 {
		return nil
	}
	if !v.NoteEach {
		c.Notes = v.Notes
		return [][]byte{c.NoteBytes()}
	}
	var parts [][]byte
	for _, n := range v.Notes {
		c.Notes = []Note{n}
		parts = append(parts, c.NoteBytes())
	}
	return parts
}

// lost is the Off of segments whose bytes are cut off, until they have one.
const lost = ^uint64(0)

// segments makes the segments of Mem: each is saved pages and then filtered ones,
// or lost ones.
func (v *VMCore) segments() []Segment {
	size := uint64(v.Mem.Size())
	var all []Segment
	var last Run
	for r := range v.Mem.All() {
		g := Segment{Paddr: r.First * size, Memsz: (r.End - r.First) * size}
		switch {
		case r.Class == Saved:
			g.Filesz = g.Memsz
		case r.Class == Lost:
			g.Filesz, g.Off = g.Memsz, lost
		case last.Class == Saved && last.End == r.First && len(all) > 0:
			all[len(all)-1].Memsz += g.Memsz
			last = r
			continue
		}
		if v.Vaddr != nil {
			g.Vaddr = v.Vaddr(g.Paddr)
		}
		all, last = append(all, g), r
	}
	return all
}

// memory writes the memory from at on, and gives the segments as they are and the
// end of the file.
func (v *VMCore) memory(s *sink, segments []Segment, at uint64) ([]Segment, uint64) {
	size := uint64(v.Mem.Size())
	begin := func() { at = (at+size-1)/size*size + v.Skew }
	for i := range segments {
		g := &segments[i]
		if g.Off == lost {
			continue
		}
		begin()
		g.Off = at
		at += g.Filesz
	}
	for _, pfn := range v.Mem.PFNs() {
		if data := v.Mem.Pages[pfn]; data.Class == Saved && data.Data != nil {
			s.write(data.Data, int64(offsetOf(segments, pfn*size)))
		}
	}
	of := segments
	for _, g := range v.Extra {
		switch {
		case g.Data != nil:
			begin()
			g.Off, g.Filesz = at, uint64(len(g.Data))
			g.Memsz = max(g.Memsz, g.Filesz)
			s.write(g.Data, int64(at))
			at += g.Filesz
		case g.Same:
			g.Off = offsetOf(of, g.Paddr)
		}
		segments = append(segments, g)
	}
	s.grow(int64(at))
	end := at + uint64(len(segments)+v.ZeroProgs+1)<<16 // behind whatever follows
	for i := range segments {
		if g := &segments[i]; g.Off == lost {
			g.Off, end = end, end+g.Filesz
		}
	}
	if v.Shuffle != 0 {
		rng := rand.New(rand.NewPCG(v.Shuffle, 2))
		rng.Shuffle(len(segments), func(i, j int) { segments[i], segments[j] = segments[j], segments[i] })
	}
	return segments, at
}

// offsetOf is where in the file the byte at a physical address is. The segments are
// ascending.
func offsetOf(segments []Segment, paddr uint64) uint64 {
	i, _ := slices.BinarySearchFunc(segments, paddr+1, func(g Segment, at uint64) int { return cmp.Compare(g.Paddr, at) })
	if i == 0 || paddr-segments[i-1].Paddr >= segments[i-1].Filesz || segments[i-1].Off == lost {
		return lost
	}
	return segments[i-1].Off + paddr - segments[i-1].Paddr
}
