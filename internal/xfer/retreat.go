// SPDX-License-Identifier: Apache-2.0

package xfer

import (
	"context"
	"errors"

	"github.com/remora-go/remora"
)

// Whole is a primitive that moves all of a run or fails.
type Whole interface {
	// Whole moves all of buf. When it fails, what it did to buf or, within one
	// granule of the target, to the target is lost. An error that is not an ErrFault
	// says nothing of the bytes, and ends the segment.
	Whole(ctx context.Context, op remora.Op, a remora.Addr, buf []byte) error
}

// Retreat makes a Mover of a primitive that moves all or nothing. A read tries the
// whole run; when that fails it halves the run, down to one granule, until the
// exact prefix is known: the logarithm of the number of granules in calls. A write
// goes granule by granule, since one that fails may have changed some of them.
type Retreat struct {
	Whole   Whole
	Granule uint32 // bytes; as in Info.Granule. 0 means 1.
}

var _ Mover = (*Retreat)(nil)

// Move moves a prefix of buf.
func (r *Retreat) Move(ctx context.Context, op remora.Op, a remora.Addr, buf []byte) (int, error) {
	if op&remora.Write != 0 {
		n := r.first(a, len(buf))
		if err := r.Whole.Whole(ctx, op, a, buf[:n]); err != nil {
			return 0, err
		}
		return n, nil
	}
	err := r.Whole.Whole(ctx, op, a, buf)
	if err == nil {
		return len(buf), nil
	}
	// All before n has been read; what lies from n to end holds the fault. known
	// says that it failed as one run, with err.
	for n, end, known := 0, len(buf), true; ; {
		at := a + remora.Addr(n)
		if !errors.Is(err, remora.ErrFault) || known && end-n <= r.first(at, end-n) {
			return n, err
		}
		half := r.half(at, end-n)
		next := r.Whole.Whole(ctx, op, at, buf[n:n+half])
		switch {
		case next != nil:
			end, known, err = n+half, true, next
		case n+half == end: // it changed under us: the caller asks for the rest
			return end, nil
		default:
			n, known = n+half, false
		}
	}
}

// first is how many of the size bytes at a lie in the first granule.
func (r *Retreat) first(a remora.Addr, size int) int {
	g := uint64(max(r.Granule, 1))
	return int(min(uint64(size), g-uint64(a)%g))
}

// half is about half of the size bytes at a, up to the border of a granule; size
// reaches beyond the first granule.
func (r *Retreat) half(a remora.Addr, size int) int {
	g := uint64(max(r.Granule, 1))
	n := uint64(size) / 2
	n -= min(n, (uint64(a)+n)%g)
	return max(int(n), r.first(a, size))
}
