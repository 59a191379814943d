// SPDX-License-Identifier: Apache-2.0

package memtest

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/remora-go/remora"
)

// margin is how far around a write the target is looked at after it.
const margin = 2 * 4096

// around compares the target with the layout near segs: where no wrap is
// possible, and at both ends of the space otherwise.
func (p *probe) around(segs []remora.Seg) error {
	near := make([]remora.Range, 0, len(segs)+1)
	for i := range segs {
		a := segs[i].Addr
		first, last := a-margin, a+remora.Addr(len(segs[i].Buf))+margin
		if first > a {
			first = 0
		}
		if last < a {
			last = remora.MaxAddr
			near = append(near, remora.Range{Size: margin})
		}
		near = append(near, remora.Range{Start: first, Size: uint64(last - first)})
	}
	slices.SortFunc(near, func(a, b remora.Range) int { return cmp.Compare(a.Start, b.Start) })
	for len(near) > 0 {
		all, n := near[0], 1 // and those that begin in it
		for ; n < len(near) && all.Contains(near[n].Start); n++ {
			all.Size = max(all.Size, uint64(near[n].Start-all.Start)+near[n].Size)
		}
		if err := p.compare(all); err != nil {
			return err
		}
		near = near[n:]
	}
	return nil
}

// everywhere compares all of the target with the layout.
func (p *probe) everywhere() error {
	for i := range p.lay {
		if err := p.compare(p.lay[i].Range); err != nil {
			return err
		}
	}
	return nil
}

// compare compares what r holds of the areas that have Data with the target.
func (p *probe) compare(r remora.Range) error {
	for i := p.lay.from(r.Start); i < len(p.lay) && p.lay[i].Start <= r.Last(); i++ {
		area := &p.lay[i]
		in := area.Range.Intersect(r)
		if area.Data == nil || in.Empty() {
			continue
		}
		want := area.Data[in.Start-area.Start:][:in.Size]
		p.got = slices.Grow(p.got[:0], len(want))
		got := p.got[:len(want)]
		if ok, err := p.peek(got, in.Start); err != nil {
			return err
		} else if !ok {
			continue
		}
		if at := differ(got, want); at >= 0 {
			return fmt.Errorf("the target holds 0x%02x at %v, want 0x%02x", got[at], in.Start+remora.Addr(at), want[at])
		}
	}
	return nil
}

// peek looks at the target: behind the Space's back if that is possible, else
// by reading, which says false for what cannot be read.
func (p *probe) peek(buf []byte, a remora.Addr) (bool, error) {
	if p.fx.Peek != nil {
		if err := p.fx.Peek(buf, a); err != nil {
			return false, fmt.Errorf("fixture: peek at %v: %w", a, err)
		}
		return true, nil
	}
	if n, _, _ := p.lay.answer(remora.Read, a, len(buf)); n < len(buf) {
		return false, nil
	}
	seg := []remora.Seg{{Addr: a, Buf: buf}}
	if _, err := p.fx.Space.Transfer(context.Background(), remora.Read, seg); err != nil {
		return false, fmt.Errorf("reading back at %v: %w", a, err)
	}
	return true, nil
}
