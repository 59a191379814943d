// SPDX-License-Identifier: Apache-2.0

package compose

import (
	"context"
	"maps"
	"math/bits"
	"slices"
	"sync"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/xfer"
)

// Overlay gives s as a Space that can be written without being changed: copy on
// write. A Layer keeps what is written to it; reads see s with the changes on top.
//
// A byte can be written when it can be read in s with the same op bits, and faults
// with the cause of that read otherwise, whatever rights to write s knows of. It
// follows that a byte can be read after it was written exactly when it could be
// before: a Layer changes contents, never what is there. A write costs a read of
// the same bytes. What is kept is exact to the byte: those beside it are
// s's own, also when they change.
func Overlay(s remora.Space) *Layer {
	return &Layer{below: s, pages: map[uint64]*page{}}
}

// Layer is what Overlay makes. It keeps pages of layerPage bytes for all that was
// ever written, up to Discard or Close; how much that may be is for the user to
// bound.
type Layer struct {
	below remora.Space
	gate  xfer.Gate

	mu    sync.RWMutex
	pages map[uint64]*page // by address / layerPage
}

var (
	_ remora.Space     = (*Layer)(nil)
	_ remora.Explainer = (*Layer)(nil)
)

// layerPage is the unit in which changes are kept, in bytes.
const layerPage = 4096

// page holds changed bytes, and which they are.
type page struct {
	changed [layerPage / 64]uint64
	data    [layerPage]byte
}

// Info is that of the Space below, but writable.
func (l *Layer) Info() remora.Info {
	info := l.below.Info()
	info.Writable = true
	return info
}

// Transfer reads below and puts the changes on top, or writes to the Layer.
func (l *Layer) Transfer(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
	if err := l.gate.Admit(op, l.below.Info().Ops, true); err != nil {
		return xfer.Refuse(segs, err)
	}
	defer l.gate.Leave()
	if op&remora.Write != 0 {
		return xfer.Each(ctx, op, segs, (*layerMover)(l))
	}
	n, err := l.below.Transfer(ctx, op, segs)
	l.mu.RLock()
	defer l.mu.RUnlock()
	for i := range segs {
		l.patch(segs[i].Buf[:segs[i].N], segs[i].Addr)
	}
	return n, err
}

// Explain asks the Space below about the read that decides.
func (l *Layer) Explain(ctx context.Context, op remora.Op, a remora.Addr, c error) error {
	return explain(ctx, l.below, op&^remora.Write, a, c)
}

// Changes gives the ranges that have been written to, in address order and as long
// as can be. Bytes count as changed also when they were overwritten by what they
// already were.
func (l *Layer) Changes() []remora.Range {
	l.mu.RLock()
	defer l.mu.RUnlock()
	var out []remora.Range
	for _, no := range slices.Sorted(maps.Keys(l.pages)) {
		p := l.pages[no]
		for start, end := p.run(0, layerPage); start < end; start, end = p.run(end, layerPage) {
			r := remora.Range{Start: remora.Addr(no*layerPage) + remora.Addr(start), Size: uint64(end - start)}
			if i := len(out) - 1; i >= 0 && out[i].Start+remora.Addr(out[i].Size) == r.Start {
				out[i].Size += r.Size
				continue
			}
			out = append(out, r)
		}
	}
	return out
}

// Discard forgets all changes.
func (l *Layer) Discard() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.pages)
}

// Close waits for calls that run, refuses later ones with fs.ErrClosed and forgets
// all changes. The Space below stays open.
func (l *Layer) Close() error {
	l.gate.Close()
	l.Discard()
	return nil
}

// patch puts the changes on top of buf, which was read at a. The lock is held.
func (l *Layer) patch(buf []byte, a remora.Addr) {
	if len(l.pages) == 0 {
		return
	}
	for len(buf) > 0 {
		off := int(a % layerPage)
		n := min(len(buf), layerPage-off)
		if p := l.pages[uint64(a)/layerPage]; p != nil {
			for start, end := p.run(off, off+n); start < end; start, end = p.run(end, off+n) {
				copy(buf[start-off:end-off], p.data[start:])
			}
		}
		buf, a = buf[n:], a+remora.Addr(n)
	}
}

// store keeps buf as what lies at a.
func (l *Layer) store(buf []byte, a remora.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(buf) > 0 {
		p := l.pages[uint64(a)/layerPage]
		if p == nil {
			p = new(page)
			l.pages[uint64(a)/layerPage] = p
		}
		off := int(a % layerPage)
		n := copy(p.data[off:], buf)
		p.mark(off, off+n)
		buf, a = buf[n:], a+remora.Addr(n)
	}
}

// mark notes that the bytes from start to end are changed.
func (p *page) mark(start, end int) {
	for start < end {
		n := min(end-start, 64-start%64)
		p.changed[start/64] |= (1<<n - 1) << (start % 64)
		start += n
	}
}

// run gives the first run of changed bytes between from and to, an empty one if
// there is none.
func (p *page) run(from, to int) (start, end int) {
	start = p.find(from, to, 0)
	return start, p.find(start, to, ^uint64(0))
}

// find gives the first byte between i and to that is changed or, with all bits of
// flip set, is not; else to.
func (p *page) find(i, to int, flip uint64) int {
	for i < to {
		if word := (p.changed[i/64] ^ flip) >> (i % 64); word != 0 {
			return min(to, i+bits.TrailingZeros64(word))
		}
		i += 64 - i%64
	}
	return to
}

// layerMover is a Layer as xfer.Each needs it for writes.
type layerMover Layer

var _ xfer.Mover = (*layerMover)(nil)

// probe is what it takes to read what is about to be overwritten.
type probe struct {
	segs [1]remora.Seg
	buf  [64 << 10]byte
}

var probes = sync.Pool{New: func() any { return new(probe) }}

// Move keeps as much of buf as could be read below.
func (m *layerMover) Move(ctx context.Context, op remora.Op, a remora.Addr, buf []byte) (int, error) {
	p := probes.Get().(*probe)
	p.segs[0] = remora.Seg{Addr: a, Buf: p.buf[:min(len(buf), len(p.buf))]}
	m.below.Transfer(ctx, op&^remora.Write, p.segs[:])
	n, err := p.segs[0].N, p.segs[0].Err
	p.segs[0] = remora.Seg{}
	probes.Put(p)
	(*Layer)(m).store(buf[:n], a)
	return n, err
}
