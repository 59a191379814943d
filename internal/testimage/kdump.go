// SPDX-License-Identifier: Apache-2.0

package testimage

import (
	"bytes"
	"io"
	"iter"
	"slices"
)

// Kdump is a kdump-compressed file (diskdump) to be written. NewKdump gives one of
// the current version for a 64-bit little-endian machine; the fields tell the rest.
type Kdump struct {
	Mem      *Physical
	DiskDump bool // the old signature
	Version  int  // header_version, 0 to 6

	Narrow    bool // a 32-bit machine
	Packed    bool // with Narrow: no padding before 8-byte fields, as on i386
	BigEndian bool

	BlockSize int      // of the header; the page size when 0
	Utsname   []string // sysname, nodename, release, version, machine, domainname
	Sec, Usec uint64   // timestamp
	Status    uint32
	NrCPUs    uint32

	PhysBase  uint64
	DumpLevel int
	Split     bool
	StartPFN  uint64 // with Split: the pages of this file
	EndPFN    uint64
	MaxMapNr  uint64 // one more than the last page of Mem when 0
	BasePFN   uint64 // page of the first bit, as ARM's physical base is

	OneBitmap bool // there is no bitmap of RAM
	Garbage   bool // what this version does not know of the sub header is not zeros

	VMCoreInfo  []byte
	InNotesOnly bool // VMCOREINFO is a note, and the sub header has no word of it
	Apart       bool // VMCOREINFO is no note
	Notes       []Note
	NotesLast   bool // notes behind the pages, not behind the sub header
	EraseInfo   []byte

	Compress   Method
	SharedZero bool // pages of zeros are stored once, as makedumpfile does
	SizeZero   bool // pages of zeros have size 0, as some foreign writers do

	Lie  map[string]uint64         // header fields by name, see KdumpLayout.Fields
	Desc func(pfn uint64, d *Desc) // changes a descriptor before it is written
}

// NewKdump gives a Kdump of version 6 that saves mem.
func NewKdump(mem *Physical) *Kdump {
	return &Kdump{
		Mem: mem, Version: 6, NrCPUs: 2, SharedZero: true,
		Utsname: []string{"Linux", "test", "6.12.0-test", "#1 SMP", "x86_64", "(none)"},
	}
}

// Desc is a page descriptor.
type Desc struct {
	Off       uint64 // in the file
	Size      uint32
	Flags     uint32
	PageFlags uint64
}

// KdumpLayout says where things are in a file that was written.
type KdumpLayout struct {
	Fields       []Field // of the main header and the sub header
	BlockSize    int64
	SubHeader    int64 // offset of the sub header
	Bitmap       int64
	BitmapBlocks int64
	Descs        int64 // offset of the first descriptor
	Count        uint64
	Data         int64             // behind the last descriptor
	Index        map[uint64]uint64 // of the descriptors that were written, by page frame number
	Pages        map[uint64]Desc   // the same, as they were written
	Notes        int64
	VMCoreInfo   int64 // 0 for none
	Erase        int64
	End          int64
}

// DescOff is where the descriptor of a page is.
func (l *KdumpLayout) DescOff(pfn uint64) int64 { return l.Descs + 24*int64(l.Index[pfn]) }

// DescFields are the integers of a page's descriptor.
func (l *KdumpLayout) DescFields(pfn uint64) []Field {
	at, d, big := l.DescOff(pfn), l.Pages[pfn], l.Fields[0].BigEndian
	return []Field{
		{"offset", at, 8, d.Off, big},
		{"size", at + 8, 4, uint64(d.Size), big},
		{"flags", at + 12, 4, uint64(d.Flags), big},
		{"page_flags", at + 16, 8, d.PageFlags, big},
	}
}

// Boundaries are the places where something begins or ends, ascending: the fields
// of the headers, the bitmaps, the descriptors, the pages, the notes.
func (l *KdumpLayout) Boundaries() []int64 {
	half := l.BitmapBlocks * l.BlockSize / 2
	all := []int64{0, l.SubHeader, l.Bitmap, l.Bitmap + half, l.Descs, l.Descs + 24, l.Data, l.Notes, l.VMCoreInfo, l.Erase, l.End}
	for _, f := range l.Fields {
		all = append(all, f.Off)
	}
	for _, d := range l.Pages {
		all = append(all, int64(d.Off))
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// order is the byte order of the file.
func (k *Kdump) order() ByteOrder { return (&Core{BigEndian: k.BigEndian}).Order() }

func (k *Kdump) blockSize() int64 {
	if k.BlockSize != 0 {
		return int64(k.BlockSize)
	}
	return int64(k.Mem.Size())
}

// Bytes gives the file.
func (k *Kdump) Bytes() []byte {
	return inMemory(func(w io.WriterAt) error {
		_, err := k.WriteTo(w)
		return err
	})
}

// Layout says where things will be in the file.
func (k *Kdump) Layout() *KdumpLayout {
	l, _ := k.WriteTo(new(Sparse)) // gives no error
	return l
}

// WriteTo writes the file to w, which must be empty. Runs of Mem that are lost or
// filtered cost bits of the bitmaps only, and descriptors that are not written: a
// file of many TiB can be sparse.
func (k *Kdump) WriteTo(w io.WriterAt) (*KdumpLayout, error) {
	s := &sink{w: w}
	l := k.place()
	notes, info := k.noteBytes(), k.VMCoreInfo
	at := k.pages(s, l)
	if k.NotesLast {
		l.Notes, at = at, at+int64(len(notes))
	}
	s.write(notes, l.Notes)
	switch {
	case len(info) == 0 || k.Version < 3:
	case k.apart():
		s.write(info, at)
		l.VMCoreInfo, at = at, at+int64(len(info))
	default:
		l.VMCoreInfo = l.Notes + int64(bytes.LastIndex(notes, info))
	}
	s.write(k.EraseInfo, at)
	l.Erase, l.End = at, at+int64(len(k.EraseInfo))
	s.grow(l.End)
	k.headers(s, l, len(notes))
	k.bitmaps(s, l)
	return l, s.close()
}

// apart says that VMCOREINFO is no note: version 3 has no notes.
func (k *Kdump) apart() bool { return k.Apart || k.Version < 4 }

// noteBytes gives the notes, VMCOREINFO last.
func (k *Kdump) noteBytes() []byte {
	c := Core{BigEndian: k.BigEndian}
	if k.Version >= 4 {
		c.Notes = append(c.Notes, k.Notes...)
	}
	if len(k.VMCoreInfo) > 0 && !k.apart() {
		c.Notes = append(c.Notes, VMCoreInfoNote(k.VMCoreInfo))
	}
	return c.NoteBytes()
}

// place lays out what comes before the pages.
func (k *Kdump) place() *KdumpLayout {
	bs := k.blockSize()
	l := &KdumpLayout{BlockSize: bs, SubHeader: bs, Index: make(map[uint64]uint64), Pages: make(map[uint64]Desc)}
	l.Notes = bs + k.subSize()
	sub := max(k.subSize(), 1)
	if !k.NotesLast {
		sub = k.subSize() + int64(len(k.noteBytes()))
	}
	l.Bitmap = bs + roundUp(max(sub, 1), bs)
	l.BitmapBlocks = k.halfBlocks()
	if !k.OneBitmap {
		l.BitmapBlocks *= 2
	}
	l.Descs = l.Bitmap + l.BitmapBlocks*bs
	for r := range k.pieces() {
		l.Count += r.End - r.First
	}
	l.Data = l.Descs + 24*int64(l.Count)
	return l
}

// pieces gives what has descriptors in this file, ascending.
func (k *Kdump) pieces() iter.Seq[Run] {
	return func(yield func(Run) bool) {
		for r := range k.Mem.pieces() {
			if k.Split {
				r.First, r.End = max(r.First, k.StartPFN), min(r.End, k.EndPFN)
			}
			if r.Class != Excluded && r.First < r.End && !yield(r) {
				return
			}
		}
	}
}

// pages writes the descriptors and the pages, and gives the end of them.
func (k *Kdump) pages(s *sink, l *KdumpLayout) int64 {
	at, index := l.Data, uint64(0)
	pack := packer{method: k.Compress}
	var zero *Desc
	for r := range k.pieces() {
		_, own := k.Mem.Pages[r.First]
		if !own && r.Class == Lost {
			index += r.End - r.First // descriptors of zeros, which nobody needs to write
			continue
		}
		for pfn := r.First; pfn < r.End; pfn++ {
			l.Index[pfn] = index
			index++
			data, class := k.Mem.Page(pfn)
			switch isZero := allZero(data); {
			case class == Lost:
				k.desc(s, l, pfn, Desc{})
			case isZero && zero != nil && k.SharedZero:
				k.desc(s, l, pfn, *zero)
			default:
				b, flags := pack.pack(data)
				d := Desc{Off: uint64(at), Size: uint32(len(b)), Flags: flags}
				s.write(b, at)
				at += int64(len(b))
				if isZero && k.SizeZero {
					d.Size = 0
				}
				if isZero && zero == nil {
					zero = &d
				}
				k.desc(s, l, pfn, d)
			}
		}
	}
	s.grow(at)
	return at
}

func (k *Kdump) desc(s *sink, l *KdumpLayout, pfn uint64, d Desc) {
	if k.Desc != nil {
		k.Desc(pfn, &d)
	}
	l.Pages[pfn] = d
	o := k.order()
	b := o.AppendUint64(nil, d.Off)
	b = o.AppendUint32(b, d.Size)
	b = o.AppendUint32(b, d.Flags)
	s.write(o.AppendUint64(b, d.PageFlags), l.DescOff(pfn))
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// Parts gives copies that split the dump before each of the pages at, ascending.
func (k *Kdump) Parts(at ...uint64) []*Kdump {
	var all []*Kdump
	first := uint64(0)
	for _, end := range append(at[:len(at):len(at)], k.Mem.End()) {
		part := *k
		part.Split, part.StartPFN, part.EndPFN = true, first, end
		all = append(all, &part)
		first = end
	}
	return all
}

// SplitFiles gives the dump split into n files, whose pages are as many.
func (k *Kdump) SplitFiles(n int) [][]byte {
	var at []uint64
	for i := 1; i < n; i++ {
		at = append(at, k.Mem.End()*uint64(i)/uint64(n))
	}
	var files [][]byte
	for _, part := range k.Parts(at...) {
		files = append(files, part.Bytes())
	}
	return files
}

// maxMapNr is how many bits the bitmaps have.
func (k *Kdump) maxMapNr() uint64 {
	if k.MaxMapNr != 0 {
		return k.MaxMapNr
	}
	return max(k.Mem.End(), k.BasePFN) - k.BasePFN
}

// halfBlocks is how many blocks one bitmap takes.
func (k *Kdump) halfBlocks() int64 {
	bs := k.blockSize()
	return (int64((k.maxMapNr()+7)/8) + bs - 1) / bs
}

// bitmaps writes the two bitmaps, or the one.
func (k *Kdump) bitmaps(s *sink, l *KdumpLayout) {
	half := k.halfBlocks() * l.BlockSize
	if k.OneBitmap {
		k.bitmap(s, l.Bitmap, half, false)
		return
	}
	k.bitmap(s, l.Bitmap, half, true)
	k.bitmap(s, l.Bitmap+half, half, false)
}

// bitmap writes one bitmap: of all RAM, or of what is saved or should have been.
func (k *Kdump) bitmap(s *sink, off, size int64, ram bool) {
	const piece = 4096
	buf, at := make([]byte, piece), int64(-1)
	ones := bytes.Repeat([]byte{0xff}, piece)
	flush := func() {
		if at >= 0 && at < size {
			s.write(buf[:min(piece, size-at)], off+at)
		}
		clear(buf)
	}
	for r := range k.Mem.All() {
		if !ram && r.Class == Excluded || r.End <= k.BasePFN {
			continue
		}
		first, end := max(r.First, k.BasePFN)-k.BasePFN, r.End-k.BasePFN
		for first < end {
			n := int64(first/8) / piece * piece
			if n != at {
				flush()
				at = n
			}
			stop := min(end, uint64(n+piece)*8)
			setBits(buf, first-uint64(n)*8, stop-uint64(n)*8, ones)
			first = stop
		}
	}
	flush()
}

// setBits sets the bits from first to end, which are numbered from the low bit of
// the first byte. ones is as many bytes as b, all bits set.
func setBits(b []byte, first, end uint64, ones []byte) {
	for first < end {
		if n := (end - first) / 8; first%8 == 0 && n > 0 {
			copy(b[first/8:], ones[:n])
			first += n * 8
			continue
		}
		b[first/8] |= 1 << (first % 8)
		first++
	}
}

// wordSize is the size of an address of the machine, in bytes.
func (k *Kdump) wordSize() int {
	if k.Narrow {
		return 4
	}
	return 8
}
