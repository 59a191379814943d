// SPDX-License-Identifier: Apache-2.0

package xfer

import (
	"context"
	"errors"
	"sync"

	"github.com/remora-go/remora"
)

// Plan moves segments of a space that is made of other spaces: a Translator says
// where each run of addresses lies. Writes go down segment by segment with
// StopAtFault, so that nothing behind a fault is changed; only segments that lie
// in one piece travel together. Pieces adjacent both in the lower space and in the
// buffer are merged.
//
// Translation is looked up before a window of pieces moves: a write that changes
// the translation itself is seen by the next window.
type Plan struct {
	// Table must be usable from many goroutines. The Spaces it names in Extent.In
	// must be comparable; pointers are.
	Table remora.Translator
	// Below is where an Extent without In counts. It may be nil when all have one.
	Below remora.Space
	// Live has a read translate once more what it has moved: where the answer has changed
	// meanwhile the bytes may be those of something else, and are read again.
	Live bool
}

// Transfer moves segs and keeps the contract, but for what Gate.Admit does. The
// bits of op must be honoured by every Space that the Table names.
func (p *Plan) Transfer(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
	for i := range segs {
		segs[i].N, segs[i].Err = 0, nil
	}
	w := windows.Get().(*window)
	for at := 0; at < len(segs); {
		if len(segs[at].Buf) == 0 {
			at++
			continue
		}
		if cut := ctx.Err(); cut != nil {
			segs[at].Err = cut
			Abandon(segs, at+1, cut)
			break
		}
		at = p.step(ctx, op, segs, at, w)
	}
	windows.Put(w)
	return Finish(ctx, segs)
}

// maxTurns is how often a window is read whose translation does not stand still.
const maxTurns = 16

// step moves one window of pieces, from the N of segment at on, and gives the
// first segment that is not finished.
func (p *Plan) step(ctx context.Context, op remora.Op, segs []remora.Seg, at int, w *window) int {
	var next int
	for turn := 1; ; turn++ {
		next = p.lower(ctx, op, segs, at, w)
		if w.transfer(ctx, op, 0, w.alone) || op&remora.StopAtFault == 0 {
			w.transfer(ctx, op|remora.StopAtFault, w.alone, w.n)
		}
		if !p.Live || op&remora.Write != 0 || turn == maxTurns || ctx.Err() != nil || p.stands(ctx, w) {
			break
		}
		w.reset()
		for i := at; i <= next && i < len(segs); i++ {
			segs[i].Err = nil
		}
	}
	w.raise(segs)
	w.reset()
	if op&remora.StopAtFault != 0 && p.stop(ctx, segs, at, next) {
		return len(segs)
	}
	if next < len(segs) && segs[next].Err != nil {
		next++
	}
	return next
}

// stands says whether the translations that a window was made by are what they were.
func (p *Plan) stands(ctx context.Context, w *window) bool {
	for i := range w.looked {
		was := &w.looked[i]
		is := p.find(ctx, was.at)
		d := was.at - was.run.Virt
		switch {
		case (is.Err == nil) != (was.run.Err == nil):
			return false
		case is.Err == nil && (is.In != was.run.In || is.Phys+(was.at-is.Virt) != was.run.Phys+d || is.left(was.at) < was.run.left(was.at)):
			return false
		}
	}
	return true
}

// stop ends the segments behind the first incomplete one from at to next, if
// there is one.
func (p *Plan) stop(ctx context.Context, segs []remora.Seg, at, next int) bool {
	for i := at; i < len(segs) && i <= next; i++ {
		if segs[i].Err == nil {
			continue
		}
		why := error(remora.ErrStopped)
		if cut := Cut(ctx, segs[i].Err); cut != nil {
			why = cut
		}
		Abandon(segs, i+1, why)
		return true
	}
	return false
}

// lower fills the window with pieces, from the N of segment at on, and gives the
// first segment that it does not hold to its end. A segment that runs into a hole
// has the cause of the hole as its Err already.
func (p *Plan) lower(ctx context.Context, op remora.Op, segs []remora.Seg, at int, w *window) int {
	for i := at; i < len(segs); i++ {
		if len(segs[i].Buf) == 0 {
			continue
		}
		from := w.n
		whole := p.split(ctx, op, &segs[i], i, w)
		if op&remora.Write != 0 && w.n-from > 1 {
			w.alone = from
			if whole {
				i++
			}
			return i
		}
		w.alone = w.n
		if !whole {
			return i
		}
		if segs[i].Err != nil && op&remora.StopAtFault != 0 {
			return i + 1
		}
	}
	return len(segs)
}

// split adds the pieces of one segment. It gives false if the window is full.
func (p *Plan) split(ctx context.Context, op remora.Op, s *remora.Seg, owner int, w *window) bool {
	buf := Reach(s.Addr, s.Buf)
	for off := s.N; off < len(buf); {
		a := s.Addr + remora.Addr(off)
		if w.n == ChunkSegs {
			return false
		}
		if w.last.Err != nil || !w.last.holds(a) {
			if w.looks == ChunkSegs {
				return false
			}
			w.looks++
			w.last = p.find(ctx, a)
			if p.Live {
				w.looked = append(w.looked, look{a, w.last})
			}
		}
		if s.Err = w.last.refuses(op); s.Err != nil {
			return true
		}
		n := int(min(w.last.left(a), uint64(len(buf)-off)))
		w.add(&w.last, a, s.Buf[off:off+n], owner)
		off += n
	}
	if len(buf) < len(s.Buf) {
		s.Err = remora.ErrUnmapped
	}
	return true
}

// find gives the run that holds a. What no Translator may answer becomes a hole.
func (p *Plan) find(ctx context.Context, a remora.Addr) run {
	e := run(p.Table.Translate(ctx, a))
	if e.In == nil {
		e.In = p.Below
	}
	switch {
	case !e.holds(a):
		return run{Virt: a, Size: 1, Err: remora.ErrCorrupt}
	case e.Err == nil && e.In == nil:
		e.Err = remora.ErrUnmapped
	}
	return e
}

// Explain is what a Space made with a Plan says as remora.Explainer: the fault in
// the lower space where it happened there, else what the Table has to say.
func (p *Plan) Explain(ctx context.Context, op remora.Op, a remora.Addr, c error) error {
	e := p.find(ctx, a)
	if e.refuses(op) == nil {
		return Nest(ctx, e.In, op, e.Phys+(a-e.Virt), c)
	}
	if x, ok := remora.As[remora.Explainer](p.Table); ok {
		return x.Explain(ctx, op, a, c)
	}
	return c
}

// Nest explains c, met at a of the lower space s, as a Fault of that space. What
// is not a fault says nothing of a byte, and stays as it is.
func Nest(ctx context.Context, s remora.Space, op remora.Op, a remora.Addr, c error) error {
	if !errors.Is(c, remora.ErrFault) {
		return c
	}
	f := &remora.Fault{Space: s.Info().Name, Op: op, Addr: a, Err: c}
	if x, ok := remora.As[remora.Explainer](s); ok {
		f.Err = x.Explain(ctx, op, a, c)
	}
	return f
}

// run is an Extent with the arithmetic that a Plan needs.
type run remora.Extent

func (r *run) holds(a remora.Addr) bool { return a >= r.Virt && uint64(a-r.Virt) < r.Size }

// left is how many bytes the run has from a on.
func (r *run) left(a remora.Addr) uint64 { return r.Size - uint64(a-r.Virt) }

// refuses gives why op cannot be done in the run, or nil.
func (r *run) refuses(op remora.Op) error {
	need := remora.PermRead
	if op&remora.Write != 0 {
		need = remora.PermWrite
	}
	if r.Err == nil && op&remora.Force == 0 && r.Perm&need == 0 {
		return remora.ErrProtected
	}
	return r.Err
}

// window is the working memory of a call.
type window struct {
	segs  [ChunkSegs]remora.Seg   // the pieces
	in    [ChunkSegs]remora.Space // where each goes
	owner [ChunkSegs]int          // the segment of the caller that each belongs to
	n     int
	alone int // the first piece of a write that must stop at its own fault; n if none
	looks int // translations asked for
	last  run

	looked []look // of a Plan that is Live: all of them
}

// look is the translation of an address.
type look struct {
	at  remora.Addr
	run run
}

var windows = sync.Pool{New: func() any { return new(window) }}

// add adds a piece that holds buf at a, or makes the one before it longer.
func (w *window) add(r *run, a remora.Addr, buf []byte, owner int) {
	lower := r.Phys + (a - r.Virt)
	if w.n > 0 && lower != 0 && w.owner[w.n-1] == owner && w.in[w.n-1] == r.In {
		if s := &w.segs[w.n-1]; s.Addr+remora.Addr(len(s.Buf)) == lower {
			s.Buf = s.Buf[:len(s.Buf)+len(buf)]
			return
		}
	}
	w.segs[w.n] = remora.Seg{Addr: lower, Buf: buf}
	w.in[w.n], w.owner[w.n] = r.In, owner
	w.n++
}

// transfer moves the pieces first to end, those in a row that go to the same
// Space in one call, and says whether all moved whole. Under StopAtFault it stops
// at the first that does not.
func (w *window) transfer(ctx context.Context, op remora.Op, first, end int) bool {
	whole := true
	for first < end {
		in, i, bits := w.in[first], first+1, op
		if op&remora.StopAtFault != 0 && in.Info().Ops&remora.StopAtFault == 0 {
			bits &^= remora.StopAtFault // one piece by itself needs no bit
		} else {
			for i < end && w.in[i] == in {
				i++
			}
		}
		if _, err := in.Transfer(ctx, bits, w.segs[first:i]); err != nil {
			if whole = false; op&remora.StopAtFault != 0 {
				break
			}
		}
		first = i
	}
	return whole
}

// raise folds the results of the pieces back. The first short piece ends its
// segment, before the hole that lower may have found behind it.
func (w *window) raise(segs []remora.Seg) {
	ended := -1
	for i := range w.n {
		owner := w.owner[i]
		if owner == ended {
			continue
		}
		s, piece := &segs[owner], &w.segs[i]
		s.N += piece.N
		if piece.N == len(piece.Buf) {
			continue
		}
		ended, s.Err = owner, piece.Err
		if s.Err == nil {
			s.Err = remora.ErrFault
		}
	}
}

// reset leaves nothing of the caller's behind.
func (w *window) reset() {
	clear(w.segs[:w.n])
	clear(w.in[:w.n])
	clear(w.looked)
	w.looked = w.looked[:0]
	w.n, w.alone, w.looks, w.last = 0, 0, 0, run{}
}
