// SPDX-License-Identifier: Apache-2.0

package memtest

import (
	"fmt"

	"github.com/remora-go/remora"
)

// edgeLimit and caseLimit bound the work on a fixture with very many areas.
const (
	edgeLimit = 32
	caseLimit = 4096
)

// span is where a segment shall lie.
type span struct {
	addr remora.Addr
	n    int
}

// spans gives places around every edge for op: before it, up to it, across it,
// behind it, at distances around 0, a word and a granule.
func (p *probe) spans(op remora.Op) []span {
	var out []span
	add := func(a remora.Addr, n uint64) {
		if p.work.share > 1 && p.rnd.IntN(p.work.share) > 0 {
			return
		}
		if n > 0 && len(out) < caseLimit {
			out = append(out, span{a, int(n)})
		}
	}
	g := min(uint64(p.info.Granule), 1<<16)
	edges := p.lay.edges(op)
	for _, r := range edges[:min(len(edges), edgeLimit)] {
		end := r.Last() + 1
		for _, before := range []uint64{0, 1, 3, 8, g - 1, g, g + 1, 2 * g, 3*g - 5} {
			if before > r.Size {
				continue
			}
			for _, after := range []uint64{0, 1, 9, g, 2*g + 1} {
				add(end-remora.Addr(before), before+after)
			}
		}
		if r.Size > 16 {
			add(end-16, 15)
			add(r.Start, min(r.Size, 1<<16)-1)
		}
	}
	holes := p.lay.holes(op)
	for _, r := range holes[:min(len(holes), edgeLimit)] {
		add(r.Start, 1)
		add(r.Start+remora.Addr(r.Size/2), r.Size/2)
		add(r.Last(), 1)
	}
	// The mean of a fixture is not an edge: a run read whole, and from its middle.
	if r := p.lay.longest(op); !r.Empty() {
		add(r.Start, min(r.Size, 1<<22))
		add(r.Start+remora.Addr(r.Size/2), min(r.Size/2, 1<<16))
		out = append(out, span{r.Start + 1, 1})
	}
	return p.known(op, out)
}

// known leaves out what would ask about a byte that no area covers.
func (p *probe) known(op remora.Op, spans []span) []span {
	out := spans[:0]
	for _, s := range spans {
		if _, _, known := p.lay.answer(op, s.addr, s.n); known {
			out = append(out, s)
		}
	}
	return out
}

// singles makes one call for each span.
func (p *probe) singles(op remora.Op) error {
	for _, s := range p.spans(op) {
		if err := p.call(op, []remora.Seg{p.seg(s.addr, s.n)}); err != nil {
			return err
		}
	}
	return nil
}

// vectors makes calls of up to size segments, the spans in random order with
// empty segments among them.
func (p *probe) vectors(op remora.Op, size, times int) error {
	spans := p.spans(op &^ remora.StopAtFault)
	for range p.work.times(times) {
		if err := p.call(op, p.vector(spans, size)); err != nil {
			return err
		}
	}
	return nil
}

func (p *probe) vector(spans []span, size int) []remora.Seg {
	var segs []remora.Seg
	total := 0
	for len(segs) < size {
		s := spans[p.rnd.IntN(len(spans))]
		if s.n > 1<<16 && total > 1<<22 {
			continue
		}
		if p.rnd.IntN(16) == 0 {
			s.n = 0
		}
		total += s.n
		segs = append(segs, p.seg(s.addr, s.n))
	}
	return segs
}

// rulePrefix: N is the exact prefix, Err the cause at Addr+N.
func rulePrefix(p *probe) error {
	for _, op := range p.turn(p.ops()) {
		if err := p.afresh(
			func() error { return p.singles(op) },
			func() error { return p.vectors(op, 100, 20) },
			p.everywhere,
		); err != nil {
			return err
		}
	}
	return nil
}

// ruleShort: N == len(Buf) if and only if Err == nil.
func ruleShort(p *probe) error {
	for _, op := range p.turn(p.ops()) {
		if err := p.afresh(
			func() error { return p.vectors(op, 30, 20) },
			func() error { return p.vectors(op|remora.StopAtFault&p.info.Ops, 30, 20) },
		); err != nil {
			return err
		}
	}
	return nil
}

// pad is what lies around the Bufs of ruleInside, and must stay.
const pad = 0xa7

// ruleInside: a read moves into Buf and nowhere else: not into its capacity, not
// into its neighbours, not into the target.
func ruleInside(p *probe) error {
	for _, op := range p.turn(p.reads()) {
		if err := p.fresh(); err != nil {
			return err
		}
		spans := p.spans(op)
		for range p.work.times(40) {
			if err := p.padded(op, p.vector(spans, 20)); err != nil {
				return err
			}
		}
		if err := p.everywhere(); err != nil {
			return fmt.Errorf("after %v: %w", op, err)
		}
	}
	return nil
}

// padded moves the Bufs of segs into one array with gaps between, whose
// capacities all reach its end, and makes the call.
func (p *probe) padded(op remora.Op, segs []remora.Seg) error {
	const gap = 40
	size := gap
	for i := range segs {
		size += len(segs[i].Buf) + gap
	}
	all := make([]byte, size)
	gaps := make([]bool, size) // what is not in a Buf
	for i := range all {
		all[i], gaps[i] = pad, true
	}
	at := gap
	for i := range segs {
		n := len(segs[i].Buf)
		segs[i].Buf = all[at : at+n]
		clear(gaps[at : at+n])
		at += n + gap
	}
	if err := p.call(op, segs); err != nil {
		return err
	}
	for i, b := range all {
		if gaps[i] && b != pad {
			return fmt.Errorf("%v wrote 0x%02x outside every Buf", op, b)
		}
	}
	return nil
}

// ruleCounted: a write changes nothing but the counted prefixes.
func ruleCounted(p *probe) error {
	for _, op := range p.turn(p.writes()) {
		for _, bits := range []remora.Op{0, remora.StopAtFault & p.info.Ops} {
			if err := p.afresh(
				func() error { return p.singles(op | bits) },
				p.everywhere,
				func() error { return p.vectors(op|bits, 60, 20) },
				p.everywhere,
			); err != nil {
				return err
			}
		}
	}
	if !p.info.Writable {
		p.logf("the space is not writable: see rule 13")
	}
	return nil
}
