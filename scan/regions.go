// SPDX-License-Identifier: Apache-2.0

package scan

import (
	"errors"
	"slices"

	"github.com/remora-go/remora"
)

// regionFrom gives the region that holds a, or else the next one; one of size 0 when
// there is none. ok is false where no map can be had.
func (r *reader) regionFrom(a remora.Addr) (reg remora.Region, ok bool) {
	if r.regs == nil && !r.lookUp() {
		return remora.Region{}, false
	}
	i, _ := slices.BinarySearchFunc(r.regs, a, func(reg remora.Region, a remora.Addr) int {
		if reg.Last() < a {
			return -1
		}
		return 1
	})
	if i == len(r.regs) {
		return remora.Region{}, true
	}
	return r.regs[i], true
}

// lookUp reads the map, once for the faults of one transfer.
func (r *reader) lookUp() bool {
	m, ok := remora.As[remora.Mapper](r.mem)
	if !ok {
		return false
	}
	regs := []remora.Region{}
	for reg, err := range m.Regions(r.ctx) {
		if err != nil {
			return false
		}
		if reg.Size > 0 {
			regs = append(regs, reg)
		}
	}
	r.regs = regs
	return true
}

// give hands out the pieces of the window. It says whether to go on.
func (r *reader) give(yield func(Piece, error) bool) bool {
	for i := range r.items {
		it := &r.items[i]
		if it.past > 0 && !yield(Piece{Range: it.rng, Size: it.past, Err: remora.ErrUnmapped, Past: true}, nil) {
			return false
		}
		for j, p := range it.parts {
			piece := Piece{Range: it.rng, Addr: it.addr + remora.Addr(p.off), Size: uint64(p.n), Err: p.err}
			switch {
			case p.err == nil:
				piece.Data = it.buf[p.off : p.off+p.n]
			case !errors.Is(p.err, remora.ErrFault):
				yield(Piece{}, remora.SegFault(r.ctx, r.mem, remora.Read|r.mem.Bits(), &remora.Seg{Addr: piece.Addr, Err: p.err}))
				return false
			case i == len(r.items)-1 && j == len(it.parts)-1:
				piece.Size += r.leap(it)
			}
			if !yield(piece, nil) {
				return false
			}
		}
	}
	return true
}

// leap goes past the rest of a hole that reaches beyond the window. It gives how many
// more bytes of the range that is.
func (r *reader) leap(it *item) uint64 {
	end := it.addr + remora.Addr(len(it.buf)-1)
	if it.hole <= end || r.next != it.rng {
		return 0
	}
	more := min(uint64(it.hole-end), r.ranges[it.rng].Size-r.done)
	r.done += more
	return more
}
