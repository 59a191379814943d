// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"os"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/sys/linux"
	"github.com/remora-go/remora/internal/xfer"
)

// sharedOne is the short way for one small read of a shared mapping. It gives
// false, with nothing that matters changed, where the long way must be taken.
func (p *Process) sharedOne(seg *remora.Seg, async bool) bool {
	n := len(seg.Buf)
	if n == 0 || n > small || !p.gate.Enter() {
		return false
	}
	t := &p.shared
	t.mu.RLock()
	s := t.find(seg.Addr)
	kept := p.kept()
	ok := s != nil && s.usable(seg.Addr, n, async) && s.copySafely(seg.Buf, seg.Addr, n) &&
		(p.opts.MapUnchecked || s.stands(p.as, seg.Addr, seg.Addr+remora.Addr(n-1)) && p.runsOn(p.as, kept))
	t.mu.RUnlock()
	if ok {
		seg.N, seg.Err = n, nil
	}
	p.gate.Leave()
	return ok
}

// copySafely fills dst from our view of a, as linux.CopyMapped does. Where a page cannot be
// had it gives false, and neither that page nor any behind it is used from then on.
func (s *share) copySafely(dst []byte, a remora.Addr, whole int) bool {
	fault, ok := linux.CopyMapped(dst, s.base+uint64(a)-s.was.Start, whole)
	if !ok {
		s.lower(fault)
	}
	return ok
}

// lower takes the page at our address here, and all behind it, out of use.
func (s *share) lower(here uint64) {
	page := uint64(os.Getpagesize())
	off := (here - s.base) &^ (page - 1)
	for old := s.limit.Load(); off < old && !s.limit.CompareAndSwap(old, off); old = s.limit.Load() {
	}
}

// touch is a share that a window of segments was read from, and how much of it.
type touch struct {
	s      *share
	lo, hi remora.Addr
	ok     bool
}

// sharing is scratch: a window of segments, which of them were copied from shares,
// and the rest, to be read in the ordinary way.
type sharing struct {
	from    [linux.IOVMax]int8 // per segment: index in touched, or how it is to be read
	touched [8]touch
	n       int // of touched
	rest    [linux.IOVMax]remora.Seg
	index   [linux.IOVMax]int16 // of each of rest, in the window
}

const (
	fromNowhere = -1 // settled: it is empty
	fromTarget  = -2 // to be read in the ordinary way
)

// sharedOr reads from shares what can be, and all else in the ordinary way.
func (r *run) sharedOr(segs []remora.Seg) (int64, error) {
	if !r.as.query {
		return r.vector(segs)
	}
	if r.sharing == nil {
		r.sharing = new(sharing)
	}
	for i := 0; i < len(segs); {
		if cut := r.ctx.Err(); cut != nil {
			xfer.Abandon(segs, i, cut)
			break
		}
		taken := r.fromShares(segs[i:])
		if err := r.fromTarget(segs[i : i+taken]); err != nil {
			xfer.Abandon(segs, i+taken, err)
			break
		}
		i += taken
	}
	return xfer.Finish(r.ctx, segs)
}

// fromShares copies a window of segments, as far as they lie in shares, and looks
// then whether the shares still stand. It gives the number it took: at most 1,024,
// or 1 MiB unless the first alone is longer.
func (r *run) fromShares(segs []remora.Seg) (taken int) {
	w, t := r.sharing, &r.p.shared
	w.n = 0
	t.mu.RLock()
	bytes := 0
	for taken < len(segs) && taken < len(w.from) {
		seg := &segs[taken]
		if taken > 0 && bytes+len(seg.Buf) > xfer.ChunkBytes || w.n == len(w.touched) {
			break
		}
		bytes += len(seg.Buf)
		w.from[taken] = r.fromShare(seg)
		taken++
	}
	t.mu.RUnlock()
	kept := r.p.kept()
	for i := range w.touched[:w.n] {
		c := &w.touched[i]
		c.ok = r.p.opts.MapUnchecked || c.s.stands(r.as, c.lo, c.hi) && r.p.runsOn(r.as, kept)
		if !c.ok {
			t.drop(c.s)
		}
	}
	return taken
}

// fromShare copies one segment, and says from where. The caller holds the table for
// reading; it is let go while an unknown mapping is looked at.
func (r *run) fromShare(seg *remora.Seg) int8 {
	n := len(seg.Buf)
	seg.N, seg.Err = 0, nil
	if n == 0 {
		return fromNowhere
	}
	t := &r.p.shared
	s := t.find(seg.Addr)
	if s == nil && seg.Addr < remora.MaxAddr { // there is never anything at the last one
		t.mu.RUnlock()
		r.p.learn(r.as, seg.Addr)
		t.mu.RLock()
		s = t.find(seg.Addr)
	}
	if s == nil || !s.usable(seg.Addr, n, r.async) || !r.copyChunks(s, seg) {
		return fromTarget
	}
	return r.sharing.touch(s, seg.Addr, seg.Addr+remora.Addr(n-1))
}

// copyChunks copies a segment that lies in s, and looks at the context between
// chunks. When that ends, what has been copied so far is the result.
func (r *run) copyChunks(s *share, seg *remora.Seg) bool {
	for seg.N < len(seg.Buf) {
		if seg.N > 0 {
			if seg.Err = r.ctx.Err(); seg.Err != nil {
				return true
			}
		}
		chunk := seg.Buf[seg.N:min(seg.N+xfer.ChunkBytes, len(seg.Buf))]
		if !s.copySafely(chunk, seg.Addr+remora.Addr(seg.N), len(seg.Buf)) {
			return false
		}
		seg.N += len(chunk)
	}
	return true
}

// touch notes that [lo, hi] of s was read.
func (w *sharing) touch(s *share, lo, hi remora.Addr) int8 {
	for i := range w.touched[:w.n] {
		if c := &w.touched[i]; c.s == s {
			c.lo, c.hi = min(c.lo, lo), max(c.hi, hi)
			return int8(i)
		}
	}
	w.touched[w.n] = touch{s: s, lo: lo, hi: hi}
	w.n++
	return int8(w.n - 1)
}

// fromTarget reads in the ordinary way those segments of a window that were not
// copied, or whose share turned out not to stand. The error is that of all segments
// that follow, nil when they are to be read.
func (r *run) fromTarget(segs []remora.Seg) error {
	w := r.sharing
	n := 0
	for i := range segs {
		if f := w.from[i]; f == fromTarget || f >= 0 && !w.touched[f].ok {
			w.rest[n] = remora.Seg{Addr: segs[i].Addr, Buf: segs[i].Buf}
			w.index[n] = int16(i)
			n++
		}
	}
	clear(w.touched[:w.n])
	if n == 0 {
		return nil
	}
	r.p.shared.missed()
	_, _ = r.vector(w.rest[:n])
	var follow error
	for i := range w.rest[:n] {
		seg := &segs[w.index[i]]
		seg.N, seg.Err = w.rest[i].N, w.rest[i].Err
		switch err := seg.Err; {
		case err == nil || follow != nil:
		case err == remora.ErrGone || xfer.Cut(r.ctx, err) != nil:
			follow = err
		case r.op&remora.StopAtFault != 0:
			follow = remora.ErrStopped
			xfer.Abandon(segs, int(w.index[i])+1, follow)
		}
	}
	clear(w.rest[:n])
	return follow
}
