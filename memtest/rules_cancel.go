// SPDX-License-Identifier: Apache-2.0

package memtest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/remora-go/remora"
)

// chunkSegs is the most segments between two looks at the context.
const chunkSegs = 1024

// ruleCancel: the context is looked at before each chunk, and what was not
// attempted says so.
func ruleCancel(p *probe) error {
	for _, op := range p.dirs() {
		if err := p.afresh(
			func() error { return p.ended(op) },
			func() error { return p.looks(op) },
			func() error { return p.canceledBeside(op) },
			p.everywhere,
		); err != nil {
			return err
		}
	}
	return nil
}

// ended makes calls whose context has ended before: nothing may move.
func (p *probe) ended(op remora.Op) error {
	canceled, cancel := context.WithCancel(context.Background())
	cancel()
	expired, cancel := context.WithDeadline(context.Background(), time.Unix(1, 0))
	defer cancel()
	good := p.lay.longest(op)
	for _, ctx := range []context.Context{canceled, expired, newLooker(0)} {
		for _, bits := range []remora.Op{0, remora.StopAtFault & p.info.Ops} {
			segs := []remora.Seg{p.inside(good, 9), {Addr: good.Start}, p.inside(good, 9)}
			if holes := p.lay.holes(op); len(holes) > 0 {
				segs = append(segs, p.seg(holes[0].Start, 3))
			}
			err := p.transfer(ctx, op|bits, segs, func(i int) error {
				if err := ended(ctx); err != nil {
					return refusedWith(&segs[i], err)
				}
				return errors.New("the context was not looked at")
			})
			if err != nil {
				return fmt.Errorf("context that ended before the call: %w", err)
			}
		}
	}
	return nil
}

// ladder gives segments in good that need more than n chunks: of the chunk's
// size each if there is room, else as many as it takes.
func (p *probe) ladder(good remora.Range, n int) []remora.Seg {
	limit := p.chunk()
	each := int(min(good.Size, uint64(limit)))
	var segs []remora.Seg
	for total := 0; total <= n*limit && len(segs) <= n*chunkSegs; total += each {
		segs = append(segs, p.seg(good.Start, each))
	}
	return segs
}

func (p *probe) chunk() int {
	if p.want.Chunk > 0 {
		return min(p.want.Chunk, chunk)
	}
	return chunk
}

// looks ends the context at the n-th look and allows no more than n chunks.
func (p *probe) looks(op remora.Op) error {
	good, holes := p.lay.longest(op), p.lay.holes(op)
	ladders := []func() []remora.Seg{
		func() []remora.Seg { return p.ladder(good, 2) },
		func() []remora.Seg { // very many small ones
			segs := make([]remora.Seg, 3*chunkSegs)
			for i := range segs {
				segs[i] = p.inside(good, 4)
			}
			return segs
		},
		func() []remora.Seg { // good and bad by turns
			segs := make([]remora.Seg, 3*chunkSegs)
			for i := range segs {
				if segs[i] = p.inside(good, 4); i%2 == 1 && len(holes) > 0 {
					segs[i] = p.seg(holes[i%len(holes)].Start, 1)
				}
			}
			return segs
		},
	}
	if good.Size > uint64(2*p.chunk()) { // one segment
		n := int(min(good.Size, uint64(3*p.chunk()+1)))
		ladders = append(ladders, func() []remora.Seg { return []remora.Seg{p.seg(good.Start, n)} })
	}
	for i, ladder := range ladders {
		for allow := range int64(3) {
			if err := p.lookAt(newLooker(allow), op, ladder()); err != nil {
				return fmt.Errorf("vector %d, a context that ends after %d looks: %w", i, allow, err)
			}
		}
	}
	return nil
}

func (p *probe) lookAt(ctx *looker, op remora.Op, segs []remora.Seg) error {
	judge, err := p.cutAnywhere(op, segs)
	if err != nil {
		return err
	}
	if err := p.transfer(ctx, op, segs, judge); err != nil {
		return err
	}
	moved, attempted, asked := int64(0), int64(0), int64(0)
	for i := range segs {
		moved += int64(segs[i].N)
		asked += int64(len(segs[i].Buf))
		if end := ctx.state(); segs[i].N > 0 || end == nil || !errors.Is(segs[i].Err, end) {
			attempted++
		}
	}
	switch {
	case moved > ctx.allow*int64(p.chunk()):
		return fmt.Errorf("%d bytes were moved", moved)
	case attempted > ctx.allow*chunkSegs:
		return fmt.Errorf("%d segments were attempted", attempted)
	case ctx.state() == nil:
		return fmt.Errorf("it was looked at %d times in a call of %d bytes and %d segments", ctx.looks.Load(), asked, len(segs))
	}
	return nil
}

// cutAnywhere judges segments of a call that a context may cut short at any
// place. Without a cut each must be as the layout says.
func (p *probe) cutAnywhere(op remora.Op, segs []remora.Seg) (func(i int) error, error) {
	want, err := p.plan(op, segs)
	if err != nil {
		return nil, err
	}
	cut := false
	return func(i int) error {
		s, w := &segs[i], want[i]
		if errors.Is(s.Err, context.Canceled) || s.Err == remora.ErrInDoubt {
			if s.N > w.n || cut && s.N > 0 && op&remora.StopAtFault != 0 {
				return fmt.Errorf("N = %d, only %d can be moved", s.N, w.n)
			}
			cut = true
			return nil
		}
		if cut && s.Err == remora.ErrStopped && op&remora.StopAtFault != 0 && s.N == 0 {
			return nil
		}
		if s.N != w.n || len(w.causes) > 0 && !oneOf(s.Err, w.causes) {
			return fmt.Errorf("N = %d, Err = %v, want %d, %v", s.N, s.Err, w.n, w.causes)
		}
		return nil
	}, nil
}

// canceledBeside ends the context from another goroutine, at no particular time.
func (p *probe) canceledBeside(op remora.Op) error {
	good := p.lay.longest(op)
	for range p.work.times(10) {
		segs := p.ladder(good, 1)
		judge, err := p.cutAnywhere(op, segs)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithCancel(context.Background())
		gone := make(chan struct{})
		go func() {
			defer close(gone)
			cancel()
		}()
		err = p.transfer(ctx, op, segs, judge)
		<-gone
		if err != nil {
			return fmt.Errorf("context that ends beside the call: %w", err)
		}
	}
	return nil
}
