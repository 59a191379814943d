// SPDX-License-Identifier: Apache-2.0

package paging

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/xfer"
)

// table is a page table as it was read.
type table struct {
	at      remora.Addr
	buf     []byte
	gaps    []gap // what could not be read, in order
	passing bool  // a gap may be none the next time
}

// gap is a run of entries that could not be read.
type gap struct {
	first, end int
	err        error // the cause, with the physical fault if it is one
	cause      remora.Cause
}

// word gives entry i.
func (t *table) word(i int) uint64 { return binary.LittleEndian.Uint64(t.buf[i*8:]) }

// gapAt gives the gap that entry i is in, or nil.
func (t *table) gapAt(i int) *gap {
	for k := range t.gaps {
		if g := &t.gaps[k]; i >= g.first && i < g.end {
			return g
		}
	}
	return nil
}

// reader is what it takes to read a table, and a table for those that are not kept.
type reader struct {
	seg   [1]remora.Seg
	parts []remora.Seg
	own   table
}

var readers = sync.Pool{New: func() any { return new(reader) }}

// read fills t with the n entries at t.at: in one transfer, and where that does
// not bring all in one more, of the parts that may be there still. An entry that can
// be read is, whatever lies around it.
func (t *table) read(ctx context.Context, phys remora.Space, n int, r *reader) {
	if cap(t.buf) < n*8 {
		t.buf = make([]byte, n*8)
	}
	t.buf, t.gaps, t.passing = t.buf[:n*8], t.gaps[:0], false
	r.seg[0] = remora.Seg{Addr: t.at, Buf: t.buf}
	phys.Transfer(ctx, remora.Read, r.seg[:])
	moved, err := r.seg[0].N, r.seg[0].Err
	r.seg[0] = remora.Seg{}
	switch {
	case err == nil:
	case !errors.Is(err, remora.ErrFault):
		t.gaps, t.passing = append(t.gaps, gap{first: moved / 8, end: n, err: err}), true
	default:
		t.rest(ctx, phys, n, moved, err, r)
	}
}

// rest reads what lies behind a fault at byte moved of a table of n entries: the
// parts whose accessibility may be another, all in one call.
func (t *table) rest(ctx context.Context, phys remora.Space, n, moved int, cause error, r *reader) {
	step := max(uint64(phys.Info().Granule), 8)
	next := func(i int) int { // the first entry of the granule behind that of entry i
		left := step - (uint64(t.at)+uint64(i)*8)%step
		return int(min(uint64(n-i), (left+7)/8)) + i
	}
	from := next(moved / 8)
	t.miss(ctx, phys, gap{first: moved / 8, end: from, err: cause}, moved)
	r.parts = r.parts[:0]
	for i := from; i < n; i = next(i) {
		r.parts = append(r.parts, remora.Seg{Addr: t.at + remora.Addr(i*8), Buf: t.buf[i*8 : next(i)*8]})
	}
	if len(r.parts) == 0 {
		return
	}
	phys.Transfer(ctx, remora.Read, r.parts)
	for k := range r.parts {
		if s := &r.parts[k]; s.Err != nil {
			first := int(s.Addr-t.at) / 8
			t.miss(ctx, phys, gap{first: first + s.N/8, end: first + len(s.Buf)/8, err: s.Err}, first*8+s.N)
		}
	}
	clear(r.parts)
}

// miss notes a gap that is there for the reason g.err at byte at of the table, or
// makes the one before it longer if the reason is the same.
func (t *table) miss(ctx context.Context, phys remora.Space, g gap, at int) {
	g.cause = causeOf(g.err)
	if k := len(t.gaps) - 1; k >= 0 && t.gaps[k].end == g.first && t.gaps[k].cause == g.cause {
		t.gaps[k].end = g.end
		return
	}
	t.passing = t.passing || !xfer.Lasting(g.err)
	if errors.Is(g.err, remora.ErrFault) {
		g.err = noTable(ctx, phys, t.at+remora.Addr(at), g.err)
	}
	t.gaps = append(t.gaps, g)
}

// noTable makes the cause of a gap of the fault at a in physical memory.
func noTable(ctx context.Context, phys remora.Space, a remora.Addr, c error) error {
	nested := error(&remora.Fault{Space: phys.Info().Name, Op: remora.Read, Addr: a, Err: c})
	if ctx.Err() == nil {
		nested = xfer.Nest(ctx, phys, remora.Read, a, c)
	}
	return fmt.Errorf("%w: %w", remora.ErrNoTable, nested)
}

// causeOf gives the Cause that err is or wraps, or 0.
func causeOf(err error) remora.Cause {
	c, ok := err.(remora.Cause)
	if !ok {
		errors.As(err, &c)
	}
	return c
}
