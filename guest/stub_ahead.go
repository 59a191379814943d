// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"context"
	"slices"
	"sync/atomic"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/rsp"
	"github.com/remora-go/remora/internal/xfer"
)

// stubSmall is the size in bytes of what is read by itself at first, and not with the page
// around it.
const stubSmall = 512

// stubAhead reads the small ranges of a call many at once: by themselves each would wait
// for its answer before the next is asked for.
type stubAhead struct {
	ctx   context.Context
	move  *stubMover
	below xfer.Mover                      // of all else
	may   func(a remora.Addr, n int) bool // says whether a range is to be read so
	parts []rsp.Part                      // in the order of their segments
	data  []byte
}

var (
	_ xfer.Mover      = (*stubAhead)(nil)
	_ xfer.Prefetcher = (*stubAhead)(nil)
)

// ahead gives what moves segs as below does, and reads ahead where that is of use. Who
// asks to stop at a fault has nothing read behind it.
func (m *stubMover) ahead(ctx context.Context, op remora.Op, segs []remora.Seg, below xfer.Mover, may func(remora.Addr, int) bool) xfer.Mover {
	if len(segs) < 2 || op&(remora.Write|remora.StopAtFault) != 0 {
		return below
	}
	return &stubAhead{ctx: ctx, move: m, below: below, may: may}
}

// Prefetch reads the small ranges among segs.
func (m *stubAhead) Prefetch(segs []remora.Seg) {
	if m.data == nil {
		m.data = make([]byte, xfer.PrefetchSegs*stubSmall)
		m.parts = make([]rsp.Part, 0, xfer.PrefetchSegs)
	}
	m.parts = m.parts[:0]
	most := min(stubSmall, m.move.s.c.Chunk())
	data := m.data
	for i := range segs {
		a, n := segs[i].Addr, len(segs[i].Buf)
		if n == 0 || n > most || a/xfer.ChunkBytes != (a+remora.Addr(n-1))/xfer.ChunkBytes || !m.may(a, n) {
			continue
		}
		m.parts = append(m.parts, rsp.Part{Addr: uint64(a), Buf: data[:n:n]})
		data = data[n:]
	}
	if len(m.parts) > 0 && m.move.readEach(m.ctx, m.parts) != nil { // Move tells why
		m.parts = m.parts[:0]
	}
}

// Move gives what was read ahead, and moves all else.
func (m *stubAhead) Move(ctx context.Context, op remora.Op, a remora.Addr, buf []byte) (int, error) {
	if len(m.parts) > 0 && m.parts[0].Addr == uint64(a) && len(m.parts[0].Buf) == len(buf) {
		p := m.parts[0]
		m.parts = m.parts[1:]
		if p.OK {
			return copy(buf, p.Buf), nil
		}
	}
	return m.below.Move(ctx, op, a, buf)
}

// readEach reads parts, as far as they can be read.
func (m *stubMover) readEach(ctx context.Context, parts []rsp.Part) error {
	if err := m.s.enter(ctx); err != nil {
		return err
	}
	defer m.s.leave()
	if err := m.s.setMode(ctx, m.physical); err != nil {
		return err
	}
	return m.s.c.ReadEach(ctx, parts)
}

// seen knows of which pages something was read, as far as it remembers. A page of which
// more is read is then worth to be read as a whole.
type seen [1 << 12]atomic.Uint64

// first says whether the page that holds a was not seen, and remembers it.
func (s *seen) first(a remora.Addr) bool {
	page := uint64(a)/stubGranule + 1
	return s[page%uint64(len(s))].Swap(page) != page
}

// within says whether [a, a+n) lies in one of ranges, which are in order.
func within(ranges []remora.Range, a remora.Addr, n int) bool {
	i, ok := rangeAt(ranges, a)
	return ok && uint64(n-1) <= uint64(ranges[i].Last()-a)
}

// rangeAt gives which of ranges, which are in order, holds a.
func rangeAt(ranges []remora.Range, a remora.Addr) (int, bool) {
	return slices.BinarySearchFunc(ranges, a, func(r remora.Range, a remora.Addr) int {
		switch {
		case r.Contains(a):
			return 0
		case r.Start > a:
			return 1
		}
		return -1
	})
}
