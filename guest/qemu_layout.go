// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/qmp"
	"github.com/remora-go/remora/internal/xfer"
)

// maxSections is the largest number of sections of memory of a guest. Each is asked for
// by itself.
const maxSections = 4096

// refreshEvery is the least time between two readings of the layout that a miss causes.
const refreshEvery = 100 * time.Millisecond

// layout is where guest memory lies. It does not change.
type layout struct {
	sections []qmp.Section
	hosts    []uint64 // of the first byte of each, in QEMU's process; nil where that is not used
	pieces   []piece  // by address, none overlapping

	quick  xfer.Plan // reads what is mapped from there
	direct xfer.Plan // does everything where QEMU does
}

// piece is a run of guest memory that lies in one place.
type piece struct {
	first, last uint64 // physical
	below       uint64 // the address of first in the Space that it is read and written in
	perm        remora.Perm
	block       string
	mapped      *mapping // nil: not mapped here
}

// view is a layout as a Plan sees it.
type view struct {
	l     *layout
	quick bool
}

// sections asks QEMU for the memory of the guest.
func (q *QEMU) sections(ctx context.Context) ([]qmp.Section, error) {
	text, err := q.hmp(ctx, "info mtree -f")
	if err != nil {
		return nil, err
	}
	all, err := qmp.ParseMemory(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", q.name(), err)
	}
	if len(all) > maxSections {
		return nil, fmt.Errorf("%s: its memory is in %d sections, more than %d", q.name(), len(all), maxSections)
	}
	return all, nil
}

// survey asks for the memory of the guest and where it is in QEMU's process, until both
// answers are of one moment.
func (q *QEMU) survey(ctx context.Context) (*layout, error) {
	sections, err := q.sections(ctx)
	if err != nil {
		return nil, err
	}
	for range 5 {
		l := &layout{sections: sections}
		l.hosts, err = q.hosts(ctx, sections)
		if err != nil && !refuses(err) && (q.isGone() || ctx.Err() != nil) {
			return nil, err
		}
		again, changed := q.sections(ctx)
		switch {
		case changed != nil:
			return nil, changed
		case slices.Equal(sections, again) && err != nil:
			return nil, err
		case slices.Equal(sections, again):
			return l, nil
		}
		sections = again
	}
	return nil, fmt.Errorf("%s: its memory moves about all the time", q.name())
}

// hosts asks where sections lie in QEMU's process.
func (q *QEMU) hosts(ctx context.Context, sections []qmp.Section) ([]uint64, error) {
	all := make([]uint64, len(sections))
	for i, s := range sections {
		text, err := q.hmp(ctx, fmt.Sprintf("gpa2hva 0x%x", s.First))
		if err != nil {
			return nil, err
		}
		if all[i], err = qmp.ParseHostAddress(text); err != nil {
			return nil, fmt.Errorf("%s: %w", q.name(), err)
		}
		if all[i]+(s.Last-s.First) < all[i] {
			return nil, fmt.Errorf("%s: gpa2hva: the memory at 0x%x would pass the last address of the process", q.name(), s.First)
		}
	}
	return all, nil
}

// settle makes the pieces of a layout. below is where all that is not mapped is read and
// written; pieces of what is mapped come from q.mapped.
func (l *layout) settle(below remora.Space, pieces []piece) {
	l.pieces = pieces
	l.quick = xfer.Plan{Table: &view{l, true}, Below: below}
	l.direct = xfer.Plan{Table: &view{l, false}, Below: below}
}

// piecesOf gives a piece for each section. Without hosts they lie at their own addresses.
func (l *layout) piecesOf() []piece {
	all := make([]piece, len(l.sections))
	for i, s := range l.sections {
		all[i] = piece{first: s.First, last: s.Last, below: s.First, perm: remora.PermRead | remora.PermWrite, block: s.Block}
		if s.ReadOnly() {
			all[i].perm = remora.PermRead
		}
		if l.hosts != nil {
			all[i].below = l.hosts[i]
		}
	}
	return all
}

// granule gives the largest power of two that all borders are multiples of, at most a
// page.
func (l *layout) granule() uint32 {
	borders := uint64(os.Getpagesize())
	for _, s := range l.sections {
		borders |= s.First | (s.Last + 1)
	}
	return uint32(borders & -borders)
}

// at gives which piece is the first that ends at an address or behind it.
func (l *layout) at(a uint64) int {
	lo, hi := 0, len(l.pieces)
	for lo < hi {
		mid := int(uint(lo+hi) / 2)
		if l.pieces[mid].last < a {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}

// find gives the piece that holds an address, nil if none does.
func (l *layout) find(a uint64) *piece {
	if i := l.at(a); i < len(l.pieces) && l.pieces[i].first <= a {
		return &l.pieces[i]
	}
	return nil
}

// Translate finds the piece that holds an address, or the hole around it.
func (v *view) Translate(_ context.Context, va remora.Addr) remora.Extent {
	pieces := v.l.pieces
	a := uint64(va)
	first, last := uint64(0), ^uint64(0)
	var in *piece
	i := v.l.at(a)
	if i < len(pieces) {
		last = pieces[i].first - 1
	}
	switch {
	case i < len(pieces) && pieces[i].first <= a:
		in = &pieces[i]
		first, last = in.first, in.last
	case i > 0:
		first = pieces[i-1].last + 1
	}
	const middle = 1 << 63 // no Extent spans it
	if a < middle {
		last = min(last, middle-1)
	} else {
		first = max(first, middle)
	}
	e := remora.Extent{Virt: remora.Addr(first), Size: last - first + 1}
	if in == nil {
		e.Err = remora.ErrHole
		return e
	}
	e.Phys, e.Perm = remora.Addr(in.below+(first-in.first)), in.perm
	if v.quick && in.mapped != nil {
		e.In = in.mapped
	}
	return e
}

// reread reads the layout anew, if that was not done just now, and says whether it has
// changed. It costs a few conversations with QEMU.
func (q *QEMU) reread(ctx context.Context) (changed bool) {
	r := &q.refresh
	r.mu.Lock()
	defer r.mu.Unlock()
	wait := max(r.rest, 10*r.took)
	stale := q.state.And(^uint32(stale))&stale != 0
	if !stale && time.Since(r.last) < wait || q.isGone() {
		return false
	}
	began := time.Now()
	defer func() {
		r.last = time.Now()
		r.took = r.last.Sub(began)
	}()
	old := q.layout.Load()
	sections, err := q.sections(ctx)
	if err != nil || !stale && slices.Equal(sections, old.sections) {
		return false
	}
	l, err := q.survey(ctx)
	if err == nil {
		err = q.place(ctx, l)
	}
	if err != nil {
		return false
	}
	q.layout.Store(l)
	return true
}
