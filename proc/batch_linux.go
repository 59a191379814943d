// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"encoding/binary"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/sys/linux"
	"github.com/remora-go/remora/internal/xfer"
)

// batch is one vector for the kernel. It stands for a window: at most 1,024
// segments, and a chunk of bytes. Small reads that lie on one page become one element that
// spans them: pinning a page costs the kernel far more than copying it, and a page
// shares one fate.
//
// N and Err of the segments say from the first on what they are to be when all goes
// well. An element of one segment is moved straight from or to its Buf, so in the usual
// case nothing is left to do after the call; one of several goes through bounce.
type batch struct {
	calls int // that were made for batches, this one and those before
	n     int // elements
	bytes int // of all of them, while nothing is collected
	elems [linux.IOVMax]elem
	next  [linux.IOVMax]int16 // per segment but the last of its element: the next one

	local  linux.Stream
	remote [linux.IOVMax]linux.Remote // of each element
	bounce []byte

	table  [tableSize]int16 // by page: the element that collects it, plus 1
	tabled bool
	spans  int // bytes of the pages that several segments share
	pooled int // elements that go through bounce
}

// elem is what there is to say of an element besides its addresses.
type elem struct {
	pos   int32 // in bounce; -1: it is one segment's, and moved from or to its Buf
	first int16 // its segments, as indexes into the window
	last  int16
	local int16 // the element of the caller's side that holds its bytes
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
	bytes, most := 0, r.chunk()
	for taken < len(segs) && bytes < most && b.spans <= spansMax {
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
		rest := len(xfer.Reach(s.Addr, s.Buf)) - off
		size := min(rest, most-bytes)
		if size > 0 {
			b.add(s.Addr+remora.Addr(off), s.Buf[off:off+size], taken)
		}
		s.N = off + size
		s.Err = end(s, nil)
		bytes += size
		taken++
		if size < rest {
			part = s.N
			break
		}
		off = 0
	}
	b.bytes = bytes
	return taken, part
}

// wholeChunk is how many bytes a call moves that nothing can end; far below linux.MaxRW.
const wholeChunk = 64 << 20

// chunk is how many bytes one call moves. The context is looked at in between (rule
// 11), if it can end.
func (r *run) chunk() int {
	if r.async {
		return xfer.ChunkBytes
	}
	return wholeChunk
}

func (b *batch) reset() {
	b.n, b.spans, b.pooled = 0, 0, 0
	b.local.Reset()
	if b.tabled {
		clear(b.table[:])
		b.tabled = false
	}
}

// add makes an element that moves buf, of one segment.
func (b *batch) add(a remora.Addr, buf []byte, seg int) {
	e := b.element(a, len(buf), seg, int16(seg))
	e.local = int16(b.local.Add(buf))
}

// element makes an element of the segments from first to last.
func (b *batch) element(a remora.Addr, size, first int, last int16) *elem {
	e := &b.elems[b.n]
	// A literal would be made elsewhere and copied, which takes longer than all the rest.
	e.pos, e.first, e.last = -1, int16(first), last
	b.reach(b.n, a, size)
	b.n++
	return e
}

// reach has element i begin at a and be of that size.
func (b *batch) reach(i int, a remora.Addr, size int) {
	b.remote[i].Base, b.remote[i].Len = uintptr(a), size
}

func (b *batch) addr(i int) remora.Addr { return remora.Addr(b.remote[i].Base) }
func (b *batch) size(i int) int         { return b.remote[i].Len }

// memory gives where the bytes of element i go to or come from.
func (b *batch) memory(segs []remora.Seg, i int) []byte {
	e := &b.elems[i]
	if e.pos >= 0 {
		return b.bounce[e.pos:][:b.size(i)]
	}
	s := &segs[e.first]
	return s.Buf[b.addr(i)-s.Addr:][:b.size(i)]
}

// from gives the vector from element i on. None can be had from an earlier one after.
func (b *batch) from(segs []remora.Seg, i int) ([]linux.Local, []linux.Remote) {
	return b.local.From(int(b.elems[i].local), b.memory(segs, i)), b.remote[i:b.n]
}

// gather puts segment i, and those behind it as far as they are small reads on the
// same page, into the element that collects this page, or makes that element. It
// gives how many segments and bytes that were: 0 if i is no such read.
func (b *batch) gather(segs []remora.Seg, i int, page uint64) (n, bytes int) {
	s := &segs[i]
	size, lo := uint64(len(s.Buf)), uint64(s.Addr)&(page-1)
	start, hi := uint64(s.Addr)-lo, lo+size
	if size-1 >= mergeMax || hi > page || start > uint64(^uintptr(0))-(page-1) {
		return 0, 0
	}
	s.N, s.Err = int(size), nil
	bytes = int(size)
	for n = 1; i+n < len(segs); n++ {
		s := &segs[i+n]
		size, off := uint64(len(s.Buf)), uint64(s.Addr)-start
		if off > page || size-1 >= mergeMax || off+size > page {
			break
		}
		lo, hi = min(lo, off), max(hi, off+size)
		bytes += int(size)
		b.next[i+n-1] = int16(i + n)
		s.N, s.Err = int(size), nil
	}
	last := int16(i + n - 1)
	k := b.collector(start, page)
	switch {
	case k < 0 && n == 1:
		e := b.element(s.Addr, len(s.Buf), i, last)
		e.local = int16(b.local.Add(s.Buf))
		return 1, bytes
	case k < 0:
		b.pool(b.element(remora.Addr(start+lo), int(hi-lo), i, last), page)
		return n, bytes
	}
	e := &b.elems[k]
	if e.pos < 0 {
		b.pool(e, page)
	}
	b.next[e.last] = int16(i)
	e.last = last
	from := min(b.addr(k), remora.Addr(start+lo))
	to := max(b.addr(k)+remora.Addr(b.size(k)), remora.Addr(start+hi))
	b.reach(k, from, int(to-from))
	return n, bytes
}

// pool has e collected in bounce; point says where.
func (b *batch) pool(e *elem, page uint64) {
	e.pos = 0
	b.pooled++
	b.spans += int(page)
}

// collector gives the element that collects the page at start. If there is none
// it gives -1, and the next element to be added becomes it.
func (b *batch) collector(start, page uint64) int {
	b.tabled = true
	for h := hash(start); ; h = (h + 1) % tableSize {
		i := b.table[h]
		if i == 0 {
			b.table[h] = int16(b.n + 1)
			return -1
		}
		if uint64(b.remote[i-1].Base)&^(page-1) == start {
			return int(i - 1)
		}
	}
}

func hash(start uint64) uint64 { return start * 0x9e3779b97f4a7c15 >> 52 % tableSize }

// point gives what is collected its place in bounce. With all, that is every element,
// so that none of the caller's buffers is handed to the kernel.
func (b *batch) point(segs []remora.Seg, all bool) {
	if b.pooled == 0 && !all {
		return
	}
	need := 0
	for i := range b.elems[:b.n] {
		e := &b.elems[i]
		if e.pos < 0 {
			if !all {
				continue
			}
			b.pooled++
		}
		e.pos = int32(need)
		need += b.size(i)
	}
	if cap(b.bounce) < need {
		b.bounce = make([]byte, max(need, 64<<10))
	}
	b.bounce = b.bounce[:cap(b.bounce)]
	b.local.Reset()
	for i := range b.elems[:b.n] {
		b.elems[i].local = int16(b.local.Add(b.memory(segs, i)))
	}
}

// load copies what is to be written into bounce.
func (b *batch) load(segs []remora.Seg) {
	for i := range b.elems[:b.n] {
		s := &segs[b.elems[i].first]
		copy(b.memory(segs, i), s.Buf[b.addr(i)-s.Addr:])
	}
}

// settle says of element i that n bytes were moved, and why it was not more; cause is
// nil when n is all. The bytes of a read are taken from bounce if they are there.
func (b *batch) settle(segs []remora.Seg, i, n int, cause error, read bool) {
	e := &b.elems[i]
	if e.pos >= 0 && read {
		b.deliver(segs, i, 0, b.bounce[e.pos:e.pos+int32(n)])
	}
	if n == b.size(i) {
		return // as the segments say
	}
	stop := b.addr(i) + remora.Addr(n)
	for j := e.first; ; j = b.next[j] {
		s := &segs[j]
		if s.Addr >= stop {
			s.N = 0
		} else {
			s.N = min(s.N, int(stop-s.Addr))
		}
		s.Err = end(s, cause)
		if j == e.last {
			return
		}
	}
}

// deliver copies data, found at bytes into element i, to the segments it is for.
func (b *batch) deliver(segs []remora.Seg, i, at int, data []byte) {
	e := &b.elems[i]
	from := b.addr(i) + remora.Addr(at)
	for j := e.first; ; j = b.next[j] {
		s := &segs[j]
		if s.Addr < from {
			if into := uint64(from - s.Addr); into < uint64(len(s.Buf)) {
				copy(s.Buf[into:], data)
			}
		} else if skip := uint64(s.Addr - from); skip < uint64(len(data)) {
			rest := data[skip:]
			if len(s.Buf) == 8 && len(rest) >= 8 { // most often a pointer; quicker than a call
				binary.NativeEndian.PutUint64(s.Buf, binary.NativeEndian.Uint64(rest))
			} else {
				copy(s.Buf, rest)
			}
		}
		if j == e.last {
			return
		}
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
