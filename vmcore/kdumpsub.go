// SPDX-License-Identifier: Apache-2.0

package vmcore

import (
	"fmt"
	"strings"

	"github.com/remora-go/remora"
)

// kdumpSub is the sub header, as far as the version has it.
type kdumpSub struct {
	layout   kdumpSubLayout
	physBase uint64 // from version 1
	level    int    // from version 1; -1 otherwise
	split    bool   // from version 2
	start    uint64 // of the pages of this part: all, unless split
	end      uint64
	info     kdumpBlob // VMCOREINFO, from version 3
	notes    kdumpBlob // from version 4
	erase    kdumpBlob // from version 5
}

// kdumpBlob is a part of the file that a header points to.
type kdumpBlob struct {
	name      string
	off, size uint64
	field     int64 // where the header has off
}

// kdumpSubLayout holds where the fields of the sub header lie. It depends on the size
// of a long, and where that is 4 on the alignment of an 8-byte field.
type kdumpSubLayout struct {
	level, split, start, end int
	info, notes, erase       [2]int // offset and size
	pfn64                    int    // start, end and max_mapnr follow one another
	size                     int
}

func kdumpSubLayoutOf(wide, padded bool) kdumpSubLayout {
	switch {
	case wide:
		return kdumpSubLayout{level: 8, split: 12, start: 16, end: 24,
			info: [2]int{32, 40}, notes: [2]int{48, 56}, erase: [2]int{64, 72}, pfn64: 80, size: 104}
	case padded: // ARM, MIPS, PowerPC
		return kdumpSubLayout{level: 4, split: 8, start: 12, end: 16,
			info: [2]int{24, 32}, notes: [2]int{40, 48}, erase: [2]int{56, 64}, pfn64: 72, size: 96}
	}
	return kdumpSubLayout{level: 4, split: 8, start: 12, end: 16, // i386
		info: [2]int{20, 28}, notes: [2]int{32, 40}, erase: [2]int{44, 52}, pfn64: 56, size: 80}
}

// readSub reads the sub header, and from version 6 max_mapnr.
func (h *kdumpHead) readSub(src *source) error {
	h.sub = kdumpSub{level: -1, end: h.maxPFN}
	if h.version < 1 {
		return nil
	}
	var b [104]byte
	size := kdumpSubLayoutOf(h.wide, true).size
	if err := src.fill(b[:size], h.block, fmt.Sprintf("a sub header of %d bytes", size)); err != nil {
		return err
	}
	l := kdumpSubLayoutOf(h.wide, true)
	if !h.wide && h.version >= 3 {
		l = h.packing(src, b[:])
	}
	h.parseSub(b[:], l)
	return h.judgeSub(src)
}

func (h *kdumpHead) word(b []byte) uint64 {
	if h.wide {
		return h.order.Uint64(b)
	}
	return uint64(h.order.Uint32(b))
}

func (h *kdumpHead) parseSub(b []byte, l kdumpSubLayout) {
	s := &h.sub
	s.layout = l
	s.physBase = h.word(b)
	s.level = int(int32(h.order.Uint32(b[l.level:])))
	if h.version >= 2 && h.order.Uint32(b[l.split:]) != 0 {
		s.split = true
		s.start, s.end = h.word(b[l.start:]), h.word(b[l.end:])
	}
	blob := func(since int, name string, at [2]int) kdumpBlob {
		if h.version < since {
			return kdumpBlob{name: name}
		}
		return kdumpBlob{name: name, off: h.order.Uint64(b[at[0]:]), size: h.word(b[at[1]:]), field: h.block + int64(at[0])}
	}
	s.info, s.notes, s.erase = blob(3, "VMCOREINFO", l.info), blob(4, "notes", l.notes), blob(5, "erase info", l.erase)
	if h.version >= 6 {
		if s.split {
			s.start, s.end = h.order.Uint64(b[l.pfn64:]), h.order.Uint64(b[l.pfn64+8:])
		}
		// Who leaves the new field empty is taken by the old one.
		if n := h.order.Uint64(b[l.pfn64+16:]); n != 0 {
			h.maxPFN = n
		}
	}
	if !s.split {
		s.start, s.end = 0, h.maxPFN
	}
}

// packing chooses how the compiler of a 32-bit machine laid out the sub header: by
// what points into the file, and from version 6 by the two max_mapnr.
func (h *kdumpHead) packing(src *source, b []byte) kdumpSubLayout {
	fit := func(l kdumpSubLayout) (points int) {
		for i, at := range [][2]int{l.info, l.notes, l.erase} {
			if h.version < 3+i {
				break
			}
			off, size := h.order.Uint64(b[at[0]:]), h.word(b[at[1]:])
			switch {
			case off == 0 && size == 0:
			case size > 0 && off >= uint64(h.block) && off <= uint64(src.size) && size <= uint64(src.size)-off:
				points++
			case size > 0 || off > uint64(src.size):
				points--
			}
		}
		if h.version >= 6 {
			if n := h.order.Uint64(b[l.pfn64+16:]); n != 0 && uint32(n) == uint32(h.maxPFN) && n <= h.bits() {
				points += 2
			}
		}
		return points
	}
	padded, packed := kdumpSubLayoutOf(false, true), kdumpSubLayoutOf(false, false)
	switch p, q := fit(padded), fit(packed); {
	case p > q:
		return padded
	case q > p:
		return packed
	}
	if m := h.uname[4]; len(m) == 4 && m[0] == 'i' && strings.HasSuffix(m, "86") {
		return packed
	}
	return padded
}

// judgeSub bounds the numbers of pages. What the blobs point to is judged when they
// are read: the pages are there without them.
func (h *kdumpHead) judgeSub(src *source) error {
	at := h.block + int64(h.sub.layout.pfn64)
	if h.version < 6 {
		at = h.block + int64(h.sub.layout.start)
	}
	if h.maxPFN == 0 || h.maxPFN > h.bits() || h.maxPFN > kdumpMaxPFN {
		return src.bad(at+16, remora.ErrCorrupt, fmt.Sprintf("max_mapnr from 1 to the %d bits of the bitmap", h.bits()), fmt.Sprint(h.maxPFN))
	}
	if h.sub.start > h.sub.end || h.sub.end > h.maxPFN {
		return src.bad(at, remora.ErrCorrupt, fmt.Sprintf("a part that begins before it ends, at %d at most", h.maxPFN),
			fmt.Sprintf("pages %d to %d", h.sub.start, h.sub.end))
	}
	return nil
}
