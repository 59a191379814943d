// SPDX-License-Identifier: Apache-2.0

package vmcore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/remora-go/remora"
)

// rawImage is memory without a header, at addresses that the options give.
type rawImage struct {
	linear
	size  int64          // bytes of the file that have an address
	runs  []remora.Range // in the order of the file
	start []uint64       // of each run in the file
}

// openRaw opens raw memory. Mistakes in the options are errors that are no
// *remora.FormatError: nothing of the file is wrong.
func openRaw(s *source, o *Options) (format, error) {
	if s.size == 0 {
		return nil, s.bad(0, remora.ErrUnrecognized, anImage, "an empty file")
	}
	runs, err := rawRuns(uint64(s.size), o)
	if err != nil {
		return nil, fmt.Errorf("vmcore: %s: %w", s.name, err)
	}
	m := &rawImage{linear: linear{src: s}, runs: runs}
	at := uint64(0)
	for i, r := range runs {
		m.start = append(m.start, at)
		m.add(int32(i), r, at)
		at += min(r.Size, math.MaxUint64-at)
	}
	m.size = int64(min(at, uint64(s.size)))
	slices.SortFunc(m.table, func(a, b piece) int { return cmp.Compare(a.first, b.first) })
	for i := 1; i < len(m.table); i++ {
		if a := m.table[i].first; a <= m.table[i-1].last {
			return nil, fmt.Errorf("vmcore: %s: the segments overlap at %v", s.name, a)
		}
	}
	return m, nil
}

// rawRuns gives the runs of addresses in the order of the file, which has size bytes.
func rawRuns(size uint64, o *Options) ([]remora.Range, error) {
	for _, r := range append([]remora.Range{o.Hole}, o.Segments...) {
		if !r.Empty() && r.Size-1 > uint64(remora.MaxAddr-r.Start) {
			return nil, fmt.Errorf("%v goes past the last address", r)
		}
	}
	if len(o.Segments) > 0 {
		if o.Base != 0 || !o.Hole.Empty() {
			return nil, errors.New("segments, and a base or a hole besides")
		}
		runs := slices.DeleteFunc(slices.Clone(o.Segments), remora.Range.Empty)
		if len(runs) == 0 {
			return nil, errors.New("no segment has a byte")
		}
		return runs, nil
	}
	whole := remora.Range{Start: o.Base, Size: size}
	if o.Hole.Empty() || o.Hole.Start > o.Base && uint64(o.Hole.Start-o.Base) >= size {
		if size-1 > uint64(remora.MaxAddr-o.Base) {
			return nil, fmt.Errorf("0x%x bytes from %v on go past the last address", size, o.Base)
		}
		return []remora.Range{whole}, nil
	}
	if o.Hole.Start < o.Base {
		return nil, fmt.Errorf("the hole %v begins below the base %v", o.Hole, o.Base)
	}
	low := uint64(o.Hole.Start - o.Base)
	if o.Hole.Last() == remora.MaxAddr || size-low-1 > uint64(remora.MaxAddr-o.Hole.Last()-1) {
		return nil, fmt.Errorf("0x%x bytes behind the hole %v go past the last address", size-low, o.Hole)
	}
	runs := []remora.Range{{Start: o.Base, Size: low}, {Start: o.Hole.Last() + 1, Size: size - low}}
	return slices.DeleteFunc(runs, remora.Range.Empty), nil
}

// add adds the run that begins at at of the file, of which the end may be cut off.
func (m *rawImage) add(i int32, r remora.Range, at uint64) {
	saved := min(r.Size, uint64(m.src.size)-min(at, uint64(m.src.size)))
	if saved > 0 {
		m.table = append(m.table, piece{first: r.Start, last: r.Start + remora.Addr(saved-1), off: int64(at), from: i})
	}
	if saved < r.Size {
		m.table = append(m.table, piece{first: r.Start + remora.Addr(saved), last: r.Last(), cause: remora.ErrTruncated, from: i})
	}
}

// judge reports where the file and the segments do not agree.
func (m *rawImage) judge(found func(*remora.FormatError)) {
	last := len(m.runs) - 1
	switch want := m.start[last] + min(m.runs[last].Size, math.MaxUint64-m.start[last]); {
	case want > uint64(m.src.size):
		found(m.src.bad(m.src.size, remora.ErrTruncated, fmt.Sprintf("0x%x bytes, as many as the segments", want), m.src.end()))
	case want < uint64(m.src.size):
		found(m.src.bad(m.size, remora.ErrCorrupt, m.src.end()+", with the last segment", fmt.Sprintf("0x%x bytes more", uint64(m.src.size)-want)))
	}
}

func (m *rawImage) describe(t *Meta) {
	m.judge(func(bad *remora.FormatError) { t.Problems = append(t.Problems, bad) })
	t.Parts = []Part{{File: m.src.name, Size: m.src.size, Pages: m.bounds()}}
}

func (m *rawImage) explain(a remora.Addr, cause error) error {
	i, ok := m.find(a)
	if !ok {
		return cause
	}
	p := &m.table[i]
	if errors.Is(cause, remora.ErrTruncated) {
		at := m.start[p.from] + uint64(a-m.runs[p.from].Start)
		return fmt.Errorf("%w: would be at 0x%x of %s, beyond %s", cause, at, m.src.name, m.src.end())
	}
	return fmt.Errorf("%w%s", cause, m.again(p.off+int64(a-p.first)))
}

func (m *rawImage) check(ctx context.Context, report func(*remora.FormatError)) error {
	c := checker{reporter: reporter{report: report}, ctx: ctx, src: m.src}
	m.judge(c.found)
	return c.readAll(m.table)
}
