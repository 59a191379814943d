// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"encoding/binary"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/sys/linux"
	"github.com/remora-go/remora/internal/xfer"
)

// batch is one vector for the kernel. It stands for a window: at most 1,024
// segments and 1 MiB. Small reads that lie on one page become one element that
// spans them: pinning a page costs the kernel far more than copying it, and a page
// shares one fate.
type batch struct {
	calls int // that were made for batches, this one and those before
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
	segs = segs[:min(len(segs), linux.IOVMax)]
	b.reset()
	bytes := 0
	for taken < len(segs) && bytes < xfer.ChunkBytes && b.spans <= spansMax {
		if merge && off == 0 {
			if n, size := b.gather(segs, taken, page); n > 0 {
				taken, bytes = taken+n, bytes+size
				continue
			}
		}
		s := &segs[taken]
		if taken > 0 && r.alone(s) {
			break
		}
		s.N, s.Err = off, nil
		rest := len(xfer.Reach(s.Addr, s.Buf)) - off
		size := min(rest, xfer.ChunkBytes-bytes)
		if size > 0 {
			b.add(s.Addr+remora.Addr(off), size, taken)
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

// gather puts segment i, and those behind it as far as they are small reads on the
// same page, into the element that collects this page, or makes that element. It
// gives how many segments and bytes that were: 0 if i is no such read.
func (b *batch) gather(segs []remora.Seg, i int, page uint64) (n, bytes int) {
	start := uint64(segs[i].Addr) &^ (page - 1)
	if start > uint64(^uintptr(0))-(page-1) {
		return 0, 0
	}
	lo, hi := page, uint64(0)
	for ; i+n < len(segs); n++ {
		s := &segs[i+n]
		size, off := uint64(len(s.Buf)), uint64(s.Addr)-start
		if size == 0 || size > mergeMax || off > page-size {
			break
		}
		lo, hi = min(lo, off), max(hi, off+size)
		bytes += int(size)
		b.next[i+n] = int16(i + n + 1)
		s.N, s.Err = 0, nil
	}
	if n == 0 {
		return 0, 0
	}
	last := int16(i + n - 1)
	b.next[last] = -1
	e := b.collector(start, page)
	if e == nil {
		e = &b.elems[b.n]
		*e = elem{addr: remora.Addr(start + lo), size: int32(hi - lo), pos: -1, first: int16(i), last: last}
		b.n++
	} else {
		b.next[e.last] = int16(i)
		e.last = last
		end := max(e.addr+remora.Addr(e.size), remora.Addr(start+hi))
		e.addr = min(e.addr, remora.Addr(start+lo))
		e.size = int32(end - e.addr)
	}
	if e.pos < 0 && e.first != e.last {
		e.pos = 0
		b.spans += int(page)
	}
	return n, bytes
}

// collector gives the element that collects the page at start. If there is none
// it gives nil, and the next element to be added becomes it.
func (b *batch) collector(start, page uint64) *elem {
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
	if read && n == int(e.size) {
		b.scatter(segs, e, moved)
		return
	}
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

// scatter copies the whole of an element to its segments.
func (b *batch) scatter(segs []remora.Seg, e *elem, moved []byte) {
	for j := e.first; j >= 0; j = b.next[j] {
		s := &segs[j]
		from := moved[s.Addr+remora.Addr(s.N)-e.addr:]
		if len(s.Buf) == 8 && s.N == 0 { // most often a pointer; quicker than a call
			binary.NativeEndian.PutUint64(s.Buf, binary.NativeEndian.Uint64(from))
			s.N = 8
			continue
		}
		s.N += copy(s.Buf[s.N:], from)
		s.Err = end(s, nil)
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
