// SPDX-License-Identifier: Apache-2.0

package compose

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/xfer"
)

// Part is a run of addresses of a splice and where its bytes are.
type Part struct {
	remora.Range              // in the splice
	Space        remora.Space // must be comparable, as pointers are
	At           remora.Addr  // of Range.Start in Space
}

// SpliceOptions say what the parts do not.
type SpliceOptions struct {
	Name string // Info.Name; empty: that of the first part
	Gap  error  // why there is nothing between the parts; nil: remora.ErrUnmapped

	// PtrSize is Info.PtrSize, and BigEndian goes with it. 0: both are those of
	// the first part, and PtrSize is 0 when the parts do not agree on the two.
	PtrSize   uint8
	BigEndian bool
}

// Splice gives the Space that parts make side by side; nil options are the zero
// options. The parts may come in any order, and empty ones are left out. It is an
// error when two overlap, or when one passes the last address here or in its Space.
//
// Info is worked out once: Ops is what all parts honour, Writable whether all are,
// Live whether any is. Granule is the largest power of two that divides every
// Granule and border of the parts, Atomic the smallest, and not more than Granule.
// Last is the end of the last part. Write with Resident is refused when one part
// refuses it.
//
// Each run of segments that lie in the same Space goes to it in one call.
func Splice(o *SpliceOptions, parts ...Part) (remora.Space, error) {
	if o == nil {
		o = &SpliceOptions{}
	}
	t := &table{gap: o.Gap}
	if t.gap == nil {
		t.gap = remora.ErrUnmapped
	}
	for _, p := range parts {
		if !p.Empty() {
			t.parts = append(t.parts, p)
		}
	}
	slices.SortFunc(t.parts, func(a, b Part) int { return cmp.Compare(a.Start, b.Start) })
	if err := t.check(); err != nil {
		return nil, err
	}
	s := &splice{plan: xfer.Plan{Table: t}}
	seen := map[remora.Space]bool{}
	for _, p := range t.parts {
		if !seen[p.Space] {
			seen[p.Space] = true
			s.spaces = append(s.spaces, p.Space)
		}
	}
	s.info = s.facts(t.parts, o)
	return s, nil
}

// splice is what Splice and Window make.
type splice struct {
	plan   xfer.Plan
	spaces []remora.Space // those of the parts, each once
	info   remora.Info
}

var (
	_ remora.Space     = (*splice)(nil)
	_ remora.Explainer = (*splice)(nil)
)

func (s *splice) Info() remora.Info { return s.info }

func (s *splice) Transfer(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
	if err := s.refusal(ctx, op); err != nil {
		return xfer.Refuse(segs, err)
	}
	return s.plan.Transfer(ctx, op, segs)
}

// refusal asks the parts about the pair of Write and Resident, which Info.Ops
// cannot tell: a Space that cannot do it refuses an empty call, too.
func (s *splice) refusal(ctx context.Context, op remora.Op) error {
	err := xfer.Refusal(op, s.info.Ops, s.info.Writable, true)
	const pair = remora.Write | remora.Resident
	if err != nil || op&pair != pair {
		return err
	}
	for _, below := range s.spaces {
		if _, err := below.Transfer(ctx, op, nil); errors.Is(err, errors.ErrUnsupported) {
			return errors.ErrUnsupported
		}
	}
	return nil
}

// Explain gives the fault as it happened in the part.
func (s *splice) Explain(ctx context.Context, op remora.Op, a remora.Addr, c error) error {
	return s.plan.Explain(ctx, op, a, c)
}

// facts makes Info of those of the spaces and of the borders of the parts.
func (s *splice) facts(parts []Part, o *SpliceOptions) remora.Info {
	out := remora.Info{Ops: remora.AllOps, Granule: 1, Writable: len(parts) > 0}
	borders := uint64(0)
	for i, below := range s.spaces {
		in := below.Info()
		if i == 0 {
			out = in
		}
		out.Ops &= in.Ops
		out.Writable = out.Writable && in.Writable
		out.Live = out.Live || in.Live
		out.Atomic = min(out.Atomic, in.Atomic)
		if in.PtrSize != out.PtrSize || in.BigEndian != out.BigEndian {
			out.PtrSize = 0
		}
		borders |= uint64(max(in.Granule, 1))
	}
	out.Last = 0
	for _, p := range parts {
		borders |= uint64(p.Start) | p.Size | uint64(p.At)
		if end := p.Space.Info().Last; end >= p.At {
			out.Last = p.Start + min(remora.Addr(p.Size-1), end-p.At)
		}
	}
	if borders != 0 {
		out.Granule = uint32(min(borders&-borders, 1<<31))
	}
	out.Atomic = uint8(min(uint32(out.Atomic), out.Granule))
	out.Name = cmp.Or(o.Name, out.Name, "empty")
	if o.PtrSize != 0 {
		out.PtrSize, out.BigEndian = o.PtrSize, o.BigEndian
	}
	return out
}

// table is the Translator of a splice.
type table struct {
	parts []Part // in address order, none empty
	gap   error
}

var _ remora.Translator = (*table)(nil)

func (t *table) check() error {
	for i := range t.parts {
		p := &t.parts[i]
		last := remora.Addr(p.Size - 1)
		switch {
		case p.Space == nil:
			return fmt.Errorf("splice: part %v has no space", p.Range)
		case p.Start+last < p.Start:
			return fmt.Errorf("splice: part %v passes the last address", p.Range)
		case p.At+last < p.At:
			return fmt.Errorf("splice: part %v passes the last address of %s, where it is at %v", p.Range, p.Space.Info().Name, p.At)
		case i > 0 && t.parts[i-1].Last() >= p.Start:
			return fmt.Errorf("splice: parts %v and %v overlap", t.parts[i-1].Range, p.Range)
		}
	}
	return nil
}

// middle is the address that no Extent spans.
const middle = 1 << 63

// Translate finds the part that holds va, or the gap around it.
func (t *table) Translate(_ context.Context, va remora.Addr) remora.Extent {
	next := sort.Search(len(t.parts), func(i int) bool { return t.parts[i].Start > va })
	first, last := remora.Addr(0), remora.MaxAddr
	if next < len(t.parts) {
		last = t.parts[next].Start - 1
	}
	var in *Part
	if next > 0 {
		p := &t.parts[next-1]
		if end := p.Last(); va <= end {
			in, first, last = p, p.Start, end
		} else {
			first = end + 1
		}
	}
	if va < middle {
		last = min(last, middle-1)
	} else {
		first = max(first, middle)
	}
	e := remora.Extent{Virt: first, Size: uint64(last-first) + 1, Err: t.gap}
	if in != nil {
		e.Phys, e.In, e.Err = in.At+(first-in.Start), in.Space, nil
		e.Perm = remora.PermRead | remora.PermWrite | remora.PermExec
	}
	return e
}
