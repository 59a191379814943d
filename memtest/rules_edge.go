// SPDX-License-Identifier: Apache-2.0

package memtest

import (
	"context"
	"errors"
	"fmt"

	"github.com/remora-go/remora"
)

// unknownBits are op bits that no Space can know.
var unknownBits = []remora.Op{remora.AllOps + 1, 1 << 20, 1 << 31}

// ruleEmpty: a segment of length zero never fails, and touches nothing.
func ruleEmpty(p *probe) error {
	for _, op := range p.turn(p.ops()) {
		if err := p.afresh(
			func() error { return p.empties(op) },
			func() error { return p.emptiesBetween(op) },
			p.everywhere,
		); err != nil {
			return err
		}
	}
	// Whatever the space: a write to a read-only one, an op it refuses, the end of
	// the context.
	segs := p.emptySegs()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for _, op := range []remora.Op{remora.Read, remora.Write} {
		if err := p.emptyCall(ctx, op, segs, nil); err != nil {
			return fmt.Errorf("after the end of the context: %w", err)
		}
	}
	if err := p.emptyCall(context.Background(), remora.Write, segs, nil); err != nil {
		return err
	}
	for _, bit := range unknownBits {
		for _, s := range [][]remora.Seg{segs, nil} {
			if err := p.emptyCall(context.Background(), bit, s, errors.ErrUnsupported); err != nil {
				return err
			}
		}
	}
	if p.fx.Close == nil {
		return nil
	}
	if err := p.fx.Close(); err != nil {
		return err
	}
	for i := range segs {
		segs[i].N, segs[i].Err = 1, errStale
	}
	p.fx.Space.Transfer(context.Background(), remora.Read, segs)
	return allEmpty(segs)
}

// emptySegs gives empty segments wherever something could go wrong.
func (p *probe) emptySegs() []remora.Seg {
	segs := []remora.Seg{{Addr: 0}, {Addr: remora.MaxAddr}, {Addr: 1 << 63, Buf: []byte{}}, {Addr: p.info.Last}, {Addr: p.info.Last + 1}}
	for i := range p.lay {
		segs = append(segs, remora.Seg{Addr: p.lay[i].Start}, remora.Seg{Addr: p.lay[i].Last(), Buf: make([]byte, 0, 8)})
	}
	return segs
}

// empties makes calls of empty segments alone, and of none.
func (p *probe) empties(op remora.Op) error {
	all := p.emptySegs()
	for i := range all {
		if err := p.emptyCall(context.Background(), op, all[i:i+1], nil); err != nil {
			return err
		}
	}
	for _, segs := range [][]remora.Seg{all, nil, {}} {
		if err := p.emptyCall(context.Background(), op, segs, nil); err != nil {
			return err
		}
	}
	return nil
}

// emptyCall transfers empty segments, which must come to nothing, and the call to
// want. A pair that the Space may refuse is refused for empty calls as well.
func (p *probe) emptyCall(ctx context.Context, op remora.Op, segs []remora.Seg, want error) error {
	for i := range segs {
		segs[i].N, segs[i].Err = 1, errStale
	}
	sum, err := p.fx.Space.Transfer(ctx, op, segs)
	if op&(remora.Write|remora.Resident) == remora.Write|remora.Resident && errors.Is(err, errors.ErrUnsupported) {
		want = errors.ErrUnsupported
	}
	if sum != 0 || !errors.Is(err, want) {
		return fmt.Errorf("%v of %d empty segments returned %d, %v, want 0, %v", op, len(segs), sum, err, want)
	}
	return allEmpty(segs)
}

func allEmpty(segs []remora.Seg) error {
	for i := range segs {
		if segs[i].N != 0 || segs[i].Err != nil {
			return fmt.Errorf("empty segment %d at %v: N = %d, Err = %v", i, segs[i].Addr, segs[i].N, segs[i].Err)
		}
	}
	return nil
}

// emptiesBetween puts empty segments first, last, and before and behind faults.
func (p *probe) emptiesBetween(op remora.Op) error {
	good := p.lay.longest(op)
	if good.Empty() {
		return nil
	}
	holes := p.lay.holes(op)
	for _, bits := range []remora.Op{0, remora.StopAtFault & p.info.Ops} {
		for i := range min(len(holes), 4) {
			hole := holes[i].Start
			segs := []remora.Seg{{Addr: hole}, p.inside(good, 9), {Addr: hole}, p.seg(hole, 1), {Addr: hole}, {Addr: good.Start}, p.inside(good, 9), {Addr: remora.MaxAddr}}
			if err := p.call(op|bits, segs); err != nil {
				return err
			}
		}
	}
	// The context ends in mid-call: the empty ones behind are still complete.
	for allow := range int64(3) {
		segs := p.ladder(good, 2)
		segs = append(segs, remora.Seg{Addr: good.Start}, remora.Seg{Addr: remora.MaxAddr})
		judge, err := p.cutAnywhere(op, segs)
		if err != nil {
			return err
		}
		if err := p.transfer(newLooker(allow), op, segs, judge); err != nil {
			return err
		}
	}
	return nil
}

// ruleWrap: a segment that would pass the last address stops there.
func ruleWrap(p *probe) error {
	for _, op := range p.turn(p.ops()) {
		if err := p.afresh(func() error { return p.wraps(op) }, p.everywhere); err != nil {
			return err
		}
	}
	return nil
}

func (p *probe) wraps(op remora.Op) error {
	for _, before := range []int{1, 2, 8, 100} {
		for _, after := range []int{0, 1, 7, 5000} {
			start := remora.MaxAddr - remora.Addr(before-1)
			segs := []remora.Seg{p.seg(start, before+after)}
			if _, _, known := p.lay.answer(op, start, before+after); known {
				if err := p.call(op, segs); err != nil {
					return err
				}
				continue
			}
			if err := p.transfer(context.Background(), op, segs, func(int) error { return beyond(&segs[0], before) }); err != nil {
				return err
			}
		}
	}
	if p.info.Last == remora.MaxAddr {
		return nil
	}
	// Nothing exists beyond Info.Last: here, in the middle, and at the top.
	for _, a := range []remora.Addr{p.info.Last + 1, p.info.Last + (remora.MaxAddr-p.info.Last)/2 + 1, remora.MaxAddr} {
		segs := []remora.Seg{p.seg(a, 3)}
		if err := p.transfer(context.Background(), op, segs, func(int) error { return beyond(&segs[0], 0) }); err != nil {
			return err
		}
	}
	return nil
}

// beyond checks a segment of which at most n bytes can exist.
func beyond(s *remora.Seg, n int) error {
	switch {
	case s.N > n:
		return fmt.Errorf("N = %d, but only %d bytes are left up to the end of the space", s.N, n)
	case s.N < len(s.Buf) && !errors.Is(s.Err, remora.ErrFault):
		return fmt.Errorf("Err at N = %d is %v, which is not a fault", s.N, s.Err)
	case s.N == n && n > 0 && s.N < len(s.Buf) && s.Err != remora.ErrUnmapped:
		return fmt.Errorf("Err at the end of the space is %v, want %v", s.Err, remora.ErrUnmapped)
	}
	return nil
}
