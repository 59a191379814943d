// SPDX-License-Identifier: Apache-2.0

package memtest

import (
	"context"
	"fmt"

	"github.com/remora-go/remora"
)

// ruleStop: without StopAtFault every segment is attempted, with it none after
// the first incomplete one.
func ruleStop(p *probe) error {
	for _, op := range p.dirs() {
		if err := p.afresh(
			func() error { return p.stops(op) },
			func() error { return p.vectors(op, 40, 10) },
		); err != nil {
			return err
		}
		if p.info.Ops&remora.StopAtFault == 0 {
			p.logf("StopAtFault is not among Info.Ops: see rule 13")
			continue
		}
		if err := p.afresh(
			func() error { return p.stops(op | remora.StopAtFault) },
			func() error { return p.vectors(op|remora.StopAtFault, 40, 10) },
		); err != nil {
			return err
		}
	}
	return nil
}

// stops puts a segment that faults at each place of a vector of good ones, and
// a second one behind it.
func (p *probe) stops(op remora.Op) error {
	edges := p.lay.edges(op)
	if len(edges) == 0 {
		return nil
	}
	good := p.lay.longest(op)
	end := edges[0].Last() + 1
	for _, size := range []int{2, 5, 70} {
		for at := 0; at < size; at += 1 + size/7 {
			segs := make([]remora.Seg, size)
			for i := range segs {
				segs[i] = p.seg(good.Start+remora.Addr(i%64*2), 2)
			}
			segs[at] = p.seg(end-1, 2)
			if at+2 < size {
				segs[at+2] = p.seg(end, 2)
			}
			if err := p.call(op, segs); err != nil {
				return err
			}
		}
	}
	return nil
}

// ruleOrder: writes happen in segment order, and the later one wins; reads may
// be in any order of addresses.
func ruleOrder(p *probe) error {
	good := p.lay.longest(remora.Read)
	for _, n := range []int{2, 9, 200, 2500} {
		segs := make([]remora.Seg, n)
		for i := range segs {
			segs[i] = p.inside(good, 48)
		}
		if err := p.call(remora.Read, segs); err != nil {
			return err
		}
	}
	if err := p.overlappingBufs(good); err != nil || !p.info.Writable {
		return err
	}
	return p.afresh(p.overwrites, p.everywhere)
}

// overwrites makes writes that overlap, within a few words, over a whole run and
// across the batches of 1,024 segments.
func (p *probe) overwrites() error {
	good := p.lay.longest(remora.Write)
	word := remora.Range{Start: good.Start + remora.Addr(good.Size/2), Size: 24}
	for _, n := range []int{2, 3, 9, 200, 2500} {
		for _, r := range []remora.Range{word, good} {
			segs := make([]remora.Seg, n)
			for i := range segs {
				segs[i] = p.inside(r, 48)
			}
			if err := p.call(remora.Write, segs); err != nil {
				return err
			}
		}
		same := make([]remora.Seg, n)
		for i := range same {
			same[i] = p.seg(word.Start, int(word.Size))
		}
		if err := p.call(remora.Write, same); err != nil {
			return err
		}
	}
	return nil
}

// inside makes a segment of up to limit bytes somewhere in r.
func (p *probe) inside(r remora.Range, limit uint64) remora.Seg {
	n := 1 + p.rnd.Uint64N(min(limit, r.Size))
	return p.seg(r.Start+remora.Addr(p.rnd.Uint64N(r.Size-n+1)), int(n))
}

// overlappingBufs reads two segments into Bufs that share their middle: what
// only one of them holds must be right.
func (p *probe) overlappingBufs(good remora.Range) error {
	buf := make([]byte, 96)
	segs := []remora.Seg{{Addr: good.Start, Buf: buf[:64]}, {Addr: good.Start + 128, Buf: buf[32:]}}
	if sum, err := p.fx.Space.Transfer(context.Background(), remora.Read, segs); err != nil || sum != 128 {
		return fmt.Errorf("read into overlapping Bufs: %d, %v", sum, err)
	}
	for _, only := range []struct{ first, end, from int }{{0, 32, 0}, {64, 96, 128 + 32}} {
		if at, want := p.lay.differ(good.Start+remora.Addr(only.from), buf[only.first:only.end]); at >= 0 {
			return fmt.Errorf("read into overlapping Bufs: byte %d, which only one holds, is 0x%02x, want 0x%02x", only.first+at, buf[only.first+at], want)
		}
	}
	return nil
}

// ruleSum: the int64 is the sum of N, the error the context's if the call was
// cut short by it, else the first Err.
func ruleSum(p *probe) error {
	for _, op := range p.dirs() {
		if err := p.afresh(func() error { return p.sums(op) }); err != nil {
			return err
		}
		if p.info.Ops&remora.StopAtFault != 0 {
			if err := p.afresh(func() error { return p.sums(op | remora.StopAtFault) }); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *probe) sums(op remora.Op) error {
	good := p.lay.longest(op)
	holes := p.lay.holes(op)
	whole := []remora.Seg{p.inside(good, 99), p.inside(good, 99), p.inside(good, 99)}
	if err := p.call(op, whole); err != nil {
		return err
	}
	// Every pair of causes, first and second: it is the first that counts.
	for i := range min(len(holes), 8) {
		for j := range min(len(holes), 8) {
			a, b := p.seg(holes[i].Start, 1), p.seg(holes[j].Last(), 1)
			if err := p.call(op, []remora.Seg{p.inside(good, 9), a, p.inside(good, 9), b, p.inside(good, 9)}); err != nil {
				return err
			}
		}
	}
	if err := p.vectors(op, 50, 10); err != nil {
		return err
	}
	return p.lateContext(op, good)
}

// lateContext ends the context at chosen looks, up to one more than there are:
// then the call must not fail. In half the calls a fault comes first, which must
// not hide that the call was cut short.
func (p *probe) lateContext(op remora.Op, good remora.Range) error {
	holes := p.lay.holes(op)
	for _, faulty := range []bool{false, len(holes) > 0} {
		calls := func(ctx *looker) error {
			segs := p.ladder(good, 2)
			if faulty {
				segs[0] = p.seg(holes[0].Start, 1)
			}
			judge, err := p.cutAnywhere(op, segs)
			if err != nil {
				return err
			}
			if err := p.transfer(ctx, op, segs, judge); err != nil {
				return fmt.Errorf("a context that ends after look %d: %w", ctx.allow, err)
			}
			return nil
		}
		ctx := newLooker(forever)
		if err := calls(ctx); err != nil {
			return err
		}
		last := ctx.looks.Load()
		for _, allow := range []int64{0, 1, last / 2, last - 1, last, last + 1} {
			if err := calls(newLooker(allow)); err != nil {
				return err
			}
		}
	}
	return nil
}
