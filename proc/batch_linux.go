// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/sys/linux"
	"github.com/remora-go/remora/internal/xfer"
)

// batch is one vector for the kernel. It stands for a window: at most 1,024
// segments and 1 MiB. Small reads that lie on one page become one element that
// spans them: pinning a page costs the kernel far more than copying it, and a page
// shares one fate.
type batch struct {
	n     int // elements
	elems [linux.IOVMax]elem
	next  [linux.IOVMax]int16 // per segment: the next one of its element, or -1

	local  [linux.IOVMax]linux.Local
	remote [linux.IOVMax]linux.Remote
	bounce []byte

	table  [tableSize]int16 // by page: the element that collects it, plus 1
	tabled bool
	spans  int // bytes of the pages that several segments share
}

// elem is one element of the vector.
type elem struct {
	addr  remora.Addr
	size  int32
	pos   int32 // in bounce; -1: bytes go straight to the segment's Buf
	first int16 // its segments, as indexes into the window
	last  int16
}

const (
	tableSize = 4 * linux.IOVMax // a power of two
	mergeMax  = 1 << 10          // bytes; larger reads stay alone
	spansMax  = 1 << 20          // bytes of shared pages in one batch
)

// fill takes segments until the batch is full, and sets N and Err of each. off
// bytes of the first have been moved already. It gives the number it took, and
// how many bytes of the last one are then done, if that is not all of it.
func (b *batch) fill(r *run, segs []remora.Seg, off int, merge bool) (taken, part int) {
	page := uint64(r.p.info.Granule)
	b.reset()
	bytes := 0
	for taken < len(segs) && taken < linux.IOVMax && bytes < xfer.ChunkBytes && b.spans <= spansMax {
		s := &segs[taken]
		if taken > 0 && r.alone(s) {
			break
		}
		s.N, s.Err = off, nil
		rest := len(xfer.Reach(s.Addr, s.Buf)) - off
		a := s.Addr + remora.Addr(off)
		size := min(rest, xfer.ChunkBytes-bytes)
		if size > 0 && !(merge && size <= mergeMax && size == rest && b.join(a, size, taken, page)) {
			b.add(a, size, taken)
		}
		bytes += size
		taken++
		if size < rest {
			return taken, off + size
		}
		off = 0
	}
	return taken, 0
}

func (b *batch) reset() {
	b.n, b.spans = 0, 0
	if b.tabled {
		clear(b.table[:])
		b.tabled = false
	}
}

// add makes an element of one segment.
func (b *batch) add(a remora.Addr, size, seg int) {
	b.next[seg] = -1
	b.elems[b.n] = elem{addr: a, size: int32(size), pos: -1, first: int16(seg), last: int16(seg)}
	b.n++
}

// join puts a small read into the element that collects its page, or makes that
// element. It refuses a read that crosses the end of a page.
func (b *batch) join(a remora.Addr, size, seg int, page uint64) bool {
	start := uint64(a) &^ (page - 1)
	if (uint64(a)+uint64(size)-1)&^(page-1) != start {
		return false
	}
	e := b.collector(start, page)
	if e == nil {
		return false // a new element: it was noted that it collects this page
	}
	if e.pos < 0 {
		e.pos = 0
		b.spans += int(page)
	}
	end := max(e.addr+remora.Addr(e.size), a+remora.Addr(size))
	e.addr = min(e.addr, a)
	e.size = int32(end - e.addr)
	b.next[e.last] = int16(seg)
	b.next[seg] = -1
	e.last = int16(seg)
	return true
}

// collector gives the element that collects the page at start. If there is none
// it gives nil, and the next element to be added becomes it.
func (b *batch) collector(start, page uint64) *elem {
	if b.n > 0 { // sorted reads find it here
		if e := &b.elems[b.n-1]; uint64(e.addr)&^(page-1) == start && e.size <= mergeMax {
			return e
		}
	}
	b.tabled = true
	for h := hash(start); ; h = (h + 1) % tableSize {
		i := b.table[h]
		if i == 0 {
			b.table[h] = int16(b.n + 1)
			return nil
		}
		if e := &b.elems[i-1]; uint64(e.addr)&^(page-1) == start {
			return e
		}
	}
}

func hash(start uint64) uint64 { return start * 0x9e3779b97f4a7c15 >> 52 % tableSize }

// point makes the vectors. With all, every element goes through bounce, so that
// none of the caller's buffers is handed to the kernel.
func (b *batch) point(segs []remora.Seg, all bool) {
	need := 0
	for i := range b.elems[:b.n] {
		if e := &b.elems[i]; all || e.pos >= 0 {
			e.pos = int32(need)
			need += int(e.size)
		}
	}
	if cap(b.bounce) < need {
		b.bounce = make([]byte, max(need, 64<<10))
	}
	b.bounce = b.bounce[:cap(b.bounce)]
	for i := range b.elems[:b.n] {
		e := &b.elems[i]
		b.remote[i].Base, b.remote[i].Len = uintptr(e.addr), int(e.size)
		if e.pos >= 0 {
			linux.SetLocal(&b.local[i], b.bounce[e.pos:e.pos+e.size])
			continue
		}
		s := &segs[e.first]
		at := int(e.addr - s.Addr)
		linux.SetLocal(&b.local[i], s.Buf[at:at+int(e.size)])
	}
}

// load copies what is to be written into bounce.
func (b *batch) load(segs []remora.Seg) {
	for i := range b.elems[:b.n] {
		e := &b.elems[i]
		s := &segs[e.first]
		copy(b.bounce[e.pos:e.pos+e.size], s.Buf[e.addr-s.Addr:])
	}
}

// unpoint forgets the caller's buffers.
func (b *batch) unpoint() { clear(b.local[:b.n]) }

// settle gives the segments of element i their share of the n bytes that were
// moved in it. cause is why it was not more, nil when n is all.
func (b *batch) settle(segs []remora.Seg, i, n int, cause error, read bool) {
	e := &b.elems[i]
	if e.pos < 0 {
		s := &segs[e.first]
		s.N += n
		s.Err = end(s, cause)
		return
	}
	moved := b.bounce[e.pos : e.pos+int32(n)]
	for j := e.first; j >= 0; j = b.next[j] {
		s := &segs[j]
		at := int(s.Addr + remora.Addr(s.N) - e.addr)
		got := 0
		if at < n {
			got = min(n-at, len(s.Buf)-s.N)
			if read {
				copy(s.Buf[s.N:], moved[at:at+got])
			}
		}
		s.N += got
		s.Err = end(s, cause)
	}
}

// end gives the error of a segment of which s.N bytes are moved: nil when that is
// all or when it goes on in the next window, ErrUnmapped at the end of the space.
func end(s *remora.Seg, cause error) error {
	switch {
	case s.N == len(s.Buf):
		return nil
	case s.Addr+remora.Addr(s.N) == 0 && s.N > 0:
		return remora.ErrUnmapped
	}
	return cause
}
