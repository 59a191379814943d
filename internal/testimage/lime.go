// SPDX-License-Identifier: Apache-2.0

package testimage

import (
	"bytes"
	"io"

	"github.com/klauspost/compress/snappy"
)

// Range is a range of physical addresses. End is the first address behind it.
type Range struct{ Start, End uint64 }

// LiMEOptions say how a LiME image is written. The zero ones give version 1 with a
// range for each run of RAM.
type LiMEOptions struct {
	Ranges  []Range // instead of the runs of RAM; they need not begin with pages
	Version uint32  // 1 when 0
	AVML    bool    // AVML's own format: packed ranges, version 2 when Version is 0

	Header func(i int, h *LiMEHeader) // changes a header before it is written
}

// LiMEHeader is the header of a range, without its eight reserved bytes.
type LiMEHeader struct {
	Magic, Version uint32
	First, Last    uint64 // Last is in the range
}

// The magic numbers of LiME and of AVML's own format.
const (
	MagicLiME = 0x4c694d45
	MagicAVML = 0x4c4d5641
)

// LiME gives the memory as LiME or AVML writes it. Pages that are not saved are
// zeros in it.
func (p *Physical) LiME(o LiMEOptions) []byte {
	return inMemory(func(w io.WriterAt) error { return p.LiMETo(w, o) })
}

// LiMETo writes to w what LiME gives. Runs cost nothing, except in AVML's format.
func (p *Physical) LiMETo(w io.WriterAt, o LiMEOptions) error {
	s := &sink{w: w}
	le := &Core{}
	var at int64
	for i, r := range p.ranges(o.Ranges) {
		h := LiMEHeader{Magic: MagicLiME, Version: o.Version, First: r.Start, Last: r.End - 1}
		if o.AVML {
			h.Magic = MagicAVML
		}
		switch {
		case o.Version != 0:
		case o.AVML:
			h.Version = 2
		default:
			h.Version = 1
		}
		if o.Header != nil {
			o.Header(i, &h)
		}
		s.write(le.Put(nil, h.Magic, h.Version, h.First, h.Last, uint64(0)), at)
		at += 32
		if o.AVML {
			b := framed(inMemory(func(w io.WriterAt) error { return p.rangeTo(&sink{w: w}, r, 0) }))
			s.write(le.Put(b, uint64(len(b))), at)
			at += int64(len(b)) + 8
			continue
		}
		s.err = p.rangeTo(s, r, at)
		at += int64(r.End - r.Start)
	}
	return s.close()
}

// framed packs b as a stream of snappy frames.
func framed(b []byte) []byte {
	return packed(b, func(w io.Writer) io.WriteCloser { return snappy.NewBufferedWriter(w) })
}

// packed gives what a packer writes of b.
func packed(b []byte, packer func(io.Writer) io.WriteCloser) []byte {
	var buf bytes.Buffer
	w := packer(&buf)
	_, _ = w.Write(b) // a Buffer gives no error
	_ = w.Close()
	return buf.Bytes()
}

// ranges gives the runs of RAM, unless others are given.
func (p *Physical) ranges(given []Range) []Range {
	if given != nil {
		return given
	}
	size := uint64(p.Size())
	for _, r := range p.RAM() {
		given = append(given, Range{r.First * size, r.End * size})
	}
	return given
}

// rangeTo writes the memory of a range at off; what is not saved reads as zeros.
func (p *Physical) rangeTo(s *sink, r Range, off int64) error {
	size := uint64(p.Size())
	for _, pfn := range p.PFNs() {
		page := p.Pages[pfn]
		start, end := max(pfn*size, r.Start), min(pfn*size+size, r.End)
		if start >= end || page.Class != Saved || page.Data == nil {
			continue
		}
		s.write(page.Data[start-pfn*size:end-pfn*size], off+int64(start-r.Start))
	}
	s.grow(off + int64(r.End-r.Start))
	return s.close()
}
