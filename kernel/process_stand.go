// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"errors"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/xfer"
)

// standIn is a Space for pages that a process has, and its page tables do not: memory at
// other addresses, or zeros. It is read alone: to write such a page the kernel would have
// to give the process one of its own, which an image cannot.
type standIn struct {
	below remora.Space // nil: zeros
	info  remora.Info
}

var (
	_ remora.Space     = (*standIn)(nil)
	_ remora.Explainer = (*standIn)(nil)
	_ xfer.Mover       = (*standIn)(nil)
)

// standInFor gives a standIn that honours what phys does.
func standInFor(phys, below remora.Space, name string) *standIn {
	s := &standIn{below: below, info: phys.Info()}
	if s.info.Name = name; below != nil {
		s.info.Name = below.Info().Name
	}
	return s
}

func (s *standIn) Info() remora.Info { return s.info }

func (s *standIn) Transfer(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
	if op&remora.Write == 0 && s.below != nil {
		return s.below.Transfer(ctx, op, segs)
	}
	if err := xfer.Refusal(op, s.info.Ops, s.info.Writable, true); err != nil {
		return xfer.Refuse(segs, err)
	}
	return xfer.Each(ctx, op, segs, s)
}

// Move gives zeros.
func (s *standIn) Move(_ context.Context, op remora.Op, _ remora.Addr, buf []byte) (int, error) {
	if op&remora.Write != 0 {
		return 0, remora.ErrNotPresent
	}
	clear(buf)
	return len(buf), nil
}

// Explain asks the memory below.
func (s *standIn) Explain(ctx context.Context, op remora.Op, a remora.Addr, c error) error {
	if op&remora.Write == 0 && s.below != nil {
		if x, ok := remora.As[remora.Explainer](s.below); ok {
			return x.Explain(ctx, op, a, c)
		}
	}
	return c
}

// isCause says whether an error is one that a transfer may end with at a byte, or a
// context's.
func isCause(err error) bool {
	return errors.Is(err, remora.ErrFault) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}
