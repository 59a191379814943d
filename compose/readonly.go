// SPDX-License-Identifier: Apache-2.0

package compose

import (
	"context"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/xfer"
)

// ReadOnly gives s as a Space that cannot be written: writes are refused with
// remora.ErrReadOnly. It is opaque, so remora.As does not reach s.
func ReadOnly(s remora.Space) remora.Space { return &readOnly{s} }

type readOnly struct{ below remora.Space }

var (
	_ remora.Space     = (*readOnly)(nil)
	_ remora.Explainer = (*readOnly)(nil)
)

func (r *readOnly) Info() remora.Info {
	info := r.below.Info()
	info.Writable = false
	return info
}

// Transfer asks s, with an empty read, whether it would refuse the op or is
// closed: those go before ErrReadOnly.
func (r *readOnly) Transfer(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
	if op&remora.Write == 0 {
		return r.below.Transfer(ctx, op, segs)
	}
	if _, err := r.below.Transfer(ctx, op&^remora.Write, nil); err != nil {
		return xfer.Refuse(segs, err)
	}
	return xfer.Refuse(segs, remora.ErrReadOnly)
}

func (r *readOnly) Explain(ctx context.Context, op remora.Op, a remora.Addr, c error) error {
	if op&remora.Write != 0 {
		return c
	}
	return explain(ctx, r.below, op, a, c)
}

// explain asks s, which has the same addresses.
func explain(ctx context.Context, s remora.Space, op remora.Op, a remora.Addr, c error) error {
	if x, ok := remora.As[remora.Explainer](s); ok {
		return x.Explain(ctx, op, a, c)
	}
	return c
}
