// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"context"
	"errors"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/xfer"
)

// Transfer moves segs; see remora.Space for the contract.
func (q *QEMU) Transfer(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
	if op == remora.Read && len(segs) == 1 && q.short(ctx, &segs[0]) {
		return int64(segs[0].N), nil
	}
	if err := q.gate.Admit(op, q.info.Ops, q.info.Writable); err != nil {
		return xfer.Refuse(segs, err)
	}
	defer q.gate.Leave()
	if op&(remora.Write|remora.Resident) == remora.Write|remora.Resident {
		return xfer.Refuse(segs, errors.ErrUnsupported) // as the process refuses it
	}
	if q.state.Load()&stale != 0 {
		q.reread(ctx)
	}
	if q.isGone() {
		return xfer.Refuse(segs, remora.ErrGone)
	}
	n, err := q.move(ctx, op, segs)
	if err != nil && q.missed(segs) && q.reread(ctx) {
		n, err = q.move(ctx, op, segs)
	}
	if op&remora.Write == 0 && q.isGone() {
		return xfer.Refuse(segs, remora.ErrGone)
	}
	return n, err
}

// move moves segs by the layout as it is.
func (q *QEMU) move(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
	l := q.layout.Load()
	if op&(remora.Write|remora.Resident) == 0 {
		return l.quick.Transfer(ctx, op&^remora.Force, segs)
	}
	// Only the guest's own view of its memory has protections, and Force is no way past a ROM.
	return l.direct.Transfer(ctx, op&^remora.Force, segs)
}

// missed says whether a segment stopped where there was no memory: the list of it may be
// old. What QEMU's process lacks of the memory that it said it has is a sign that the
// list is, or that the process is about to exit.
func (q *QEMU) missed(segs []remora.Seg) bool {
	missed := false
	for i := range segs {
		switch segs[i].Err {
		case remora.ErrUnmapped, remora.ErrFault, remora.ErrBeyondEOF, remora.ErrGone:
			if q.layout.Load().find(uint64(segs[i].Addr)+uint64(segs[i].N)) != nil {
				q.state.Or(stale)
			}
			missed = true
		case remora.ErrHole:
			missed = true
		}
	}
	return missed
}

// small is the largest single read for which the short way is taken.
const small = 16 << 10

// short is the short way for one small read of memory that is mapped here. It gives
// false, with nothing that matters changed, where the long way must be taken.
func (q *QEMU) short(ctx context.Context, seg *remora.Seg) bool {
	n := len(seg.Buf)
	if n == 0 || n > small || !q.gate.Enter() {
		return false
	}
	ok := false
	if q.state.Load() == 0 && ctx.Err() == nil {
		a := uint64(seg.Addr)
		p := q.layout.Load().find(a)
		ok = p != nil && p.mapped != nil && uint64(n) <= p.last-a+1 &&
			p.mapped.copy(seg.Buf, p.below+(a-p.first), n) && q.state.Load() == 0
	}
	q.gate.Leave()
	if ok {
		seg.N, seg.Err = n, nil
	}
	return ok
}
