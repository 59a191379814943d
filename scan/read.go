// SPDX-License-Identifier: Apache-2.0

package scan

import (
	"context"
	"errors"
	"iter"

	"github.com/remora-go/remora"
)

const (
	pieceBytes  = 1 << 20  // the longest piece that is read as one segment
	windowBytes = 16 << 20 // what one transfer moves at most
	windowItems = 64 << 10 // and in how many segments
	wholeRounds = 2        // how often the rest of a piece is tried as one, after a hole in it
)

// Piece is a part of one range: bytes, or a hole.
type Piece struct {
	Range int         // which of the ranges
	Addr  remora.Addr // of the first byte
	Data  []byte      // the bytes, valid until the next Piece; nil for a hole
	Size  uint64      // len(Data), or how long the hole is
	Err   error       // the cause of the hole; nil where there are bytes
	Past  bool        // the hole lies behind the last address; Addr means nothing then
}

// Fault gives the *remora.Fault for a hole, with what the space can explain.
func (p *Piece) Fault(ctx context.Context, m *remora.Memory, op remora.Op) error {
	if p.Past {
		return &remora.Fault{Space: m.Info().Name, Op: op, Past: true, Err: p.Err}
	}
	return remora.SegFault(ctx, m, op, &remora.Seg{Addr: p.Addr, Err: p.Err})
}

// Read reads the ranges and gives their pieces in order: first all of the first range, and
// so on. A range may run past the last address; what does is a hole. Small ranges are read
// together, large ones in parts of 1 MiB. An error is the last thing that is given.
func Read(ctx context.Context, m *remora.Memory, ranges []remora.Range) iter.Seq2[Piece, error] {
	return func(yield func(Piece, error) bool) {
		r := reader{ctx: ctx, mem: m, ranges: ranges}
		for r.fill() {
			r.transfer()
			if !r.give(yield) {
				return
			}
		}
	}
}

// reader goes through the ranges window by window.
type reader struct {
	ctx    context.Context
	mem    *remora.Memory
	ranges []remora.Range

	next int    // the range that the next window begins in
	done uint64 // bytes of it that were read or are in a hole

	items []item // of this window
	segs  []remora.Seg
	where []place // of each of segs
	buf   []byte
	regs  []remora.Region // the map, as looked up in this round

	absent remora.Range // what is not in memory, as last looked up in this round
}

// item is a run of one range in a window, and what became of it.
type item struct {
	rng   int
	addr  remora.Addr
	buf   []byte
	past  uint64      // instead of buf: how much of the range lies behind the last address
	parts []part      // in order, without gaps, once the window is read
	hole  remora.Addr // the last address of the hole at its end, as far as is known; 0: none
}

// part is a run of an item that shares one fate.
type part struct {
	off, n int
	err    error
}

// place says what a segment is part of.
type place struct {
	item, off int
	small     bool // one granule: what is missing of it is missing as a whole
}

// fill makes the items of the next window. It says whether there are any.
func (r *reader) fill() bool {
	r.items = r.items[:0]
	room := windowBytes
	for r.next < len(r.ranges) && room > 0 && len(r.items) < windowItems {
		rng := r.ranges[r.next]
		left := rng.Size - r.done
		if left == 0 {
			r.next, r.done = r.next+1, 0
			continue
		}
		it := item{rng: r.next, addr: rng.Start + remora.Addr(r.done)}
		below := uint64(remora.MaxAddr-it.addr) + 1 // 0: 2^64
		switch {
		case r.done > 0 && it.addr <= rng.Start: // wrapped
			it.past, r.done = left, rng.Size
		default:
			n := min(left, pieceBytes, uint64(room))
			if below != 0 {
				n = min(n, below)
			}
			it.buf = r.buffer(windowBytes-room, int(n))
			room -= int(n)
			r.done += n
		}
		r.items = append(r.items, it)
	}
	return len(r.items) > 0
}

// buffer gives n bytes at off of the window's memory, which grows with the need. The
// part that was given out before a growth stays where it is.
func (r *reader) buffer(off, n int) []byte {
	if off+n > len(r.buf) {
		r.buf = make([]byte, min(windowBytes, max(off+n, 2*len(r.buf), 64<<10)))
	}
	return r.buf[off : off+n : off+n]
}

// transfer reads the items of the window: all at once, then what lies behind holes.
func (r *reader) transfer() {
	r.segs, r.where = r.segs[:0], r.where[:0]
	for i := range r.items {
		r.ask(place{item: i}, len(r.items[i].buf))
	}
	for round := 0; len(r.segs) > 0; round++ {
		_, _ = r.mem.ReadV(r.ctx, r.segs) // each segment has its own result
		r.regs, r.absent = nil, remora.Range{}
		segs, where := r.segs, r.where
		r.segs, r.where = nil, nil
		for i := range segs {
			r.settle(&segs[i], where[i], round)
		}
	}
}

// ask puts n bytes at a place on the list for the next transfer.
func (r *reader) ask(p place, n int) {
	it := &r.items[p.item]
	if n > 0 {
		r.segs = append(r.segs, remora.Seg{Addr: it.addr + remora.Addr(p.off), Buf: it.buf[p.off : p.off+n]})
		r.where = append(r.where, p)
	}
}

// settle notes what became of a segment. What lies behind a hole in it is asked for.
func (r *reader) settle(seg *remora.Seg, p place, round int) {
	it := &r.items[p.item]
	it.add(p.off, seg.N, nil)
	if seg.Err == nil {
		return
	}
	off, end := p.off+seg.N, p.off+len(seg.Buf)
	if !errors.Is(seg.Err, remora.ErrFault) {
		it.add(off, end-off, seg.Err)
		return
	}
	last := r.holeEnd(seg.Addr+remora.Addr(seg.N), seg.Err)
	if p.small || last-it.addr >= remora.Addr(end-1) {
		it.add(off, end-off, seg.Err)
		if end == len(it.buf) {
			it.hole = last
		}
		return
	}
	from := int(last-it.addr) + 1
	it.add(off, from-off, seg.Err)
	if round < wholeRounds {
		r.ask(place{item: p.item, off: from}, end-from)
		return
	}
	for from < end {
		n := min(end-from, int(r.pageEnd(it.addr+remora.Addr(from))-it.addr)+1-from)
		r.ask(place{item: p.item, off: from, small: true}, n)
		from += n
	}
}

// add appends a run; one that goes on as the last one does makes it longer. Cut to size
// are the runs of a hole that were tried page by page.
func (it *item) add(off, n int, err error) {
	if n == 0 {
		return
	}
	if k := len(it.parts); k > 0 && it.parts[k-1].err == err {
		it.parts[k-1].n += n
		return
	}
	it.parts = append(it.parts, part{off, n, err})
}

// holeEnd gives the last address of the hole that begins at a, from the map as it is
// now.
func (r *reader) holeEnd(a remora.Addr, cause error) remora.Addr {
	reg, ok := r.regionFrom(a)
	switch {
	case !ok:
		return r.pageEnd(a)
	case reg.Size == 0:
		return remora.MaxAddr
	case reg.Start > a:
		return reg.Start - 1
	case cause == remora.ErrProtected, cause == remora.ErrBeyondEOF, cause == remora.ErrDevice:
		return reg.Last() // these hold for the rest of a mapping
	case cause == remora.ErrNotPresent:
		return r.absentEnd(a, reg.Last())
	}
	return r.pageEnd(a)
}

// absentEnd gives the last address before the next one up to last that is in memory, where
// that is told.
func (r *reader) absentEnd(a, last remora.Addr) remora.Addr {
	p, ok := remora.As[remora.Presence](r.mem)
	if !ok {
		return r.pageEnd(a)
	}
	if a <= r.absent.Last() && a >= r.absent.Start && r.absent.Size > 0 {
		return r.absent.Last()
	}
	for run, err := range p.Present(r.ctx, remora.Range{Start: a, Size: uint64(last-a) + 1}) {
		if err != nil || run.Start <= a {
			return r.pageEnd(a)
		}
		last = run.Start - 1
		break
	}
	r.absent = remora.Range{Start: a, Size: uint64(last-a) + 1}
	return last
}

// pageEnd is the last address of the granule that holds a.
func (r *reader) pageEnd(a remora.Addr) remora.Addr {
	return a | remora.Addr(max(r.mem.Info().Granule, 1)-1)
}
