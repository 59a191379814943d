// SPDX-License-Identifier: Apache-2.0

package memtest

import (
	"context"
	"errors"
	"io/fs"
	"runtime"
	"sync/atomic"

	"github.com/remora-go/remora"
)

// readOnlySeed is that of a sample that cannot be written.
const readOnlySeed = 5

// refuseMutants break rule 13.
func refuseMutants() []mutant {
	const rule13 = "rule13_refusals"
	dropping := func(bits remora.Op) func(*Sparse) transfer {
		return before(func(op remora.Op, segs []remora.Seg) (remora.Op, []remora.Seg) { return op &^ bits, segs })
	}
	refusing := func(fail func(s *Sparse, op remora.Op) error) func(*Sparse) transfer {
		return func(s *Sparse) transfer {
			return func(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
				if err := fail(s, op); err != nil && refused(s, op) != nil {
					return refuse(segs, err)
				}
				return s.Transfer(ctx, op, segs)
			}
		}
	}
	return []mutant{
		{rule: rule13, wrong: "unknown bits are ignored", transfer: dropping(^remora.AllOps)},
		{rule: rule13, wrong: "Force is claimed and ignored", transfer: dropping(remora.Force)},
		{rule: rule13, wrong: "Resident is claimed and ignored", transfer: dropping(remora.Resident)},
		{rule: rule13, wrong: "a refused call moves its first segment", transfer: func(s *Sparse) transfer {
			return func(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
				if refused(s, op) != nil && len(segs) > 0 {
					n, _ := s.Transfer(ctx, op&remora.AllOps, segs[:1])
					_, err := s.Transfer(ctx, op, segs[1:])
					return n, err
				}
				return s.Transfer(ctx, op, segs)
			}
		}},
		{rule: rule13, wrong: "a refused call is made, and not counted", transfer: func(s *Sparse) transfer {
			return func(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
				if refused(s, op) != nil {
					s.Transfer(ctx, op&remora.AllOps, segs)
				}
				return s.Transfer(ctx, op, segs)
			}
		}},
		{rule: rule13, wrong: "unknown bits are fs.ErrInvalid", transfer: refusing(func(_ *Sparse, op remora.Op) error {
			if op&^remora.AllOps == 0 {
				return nil
			}
			return fs.ErrInvalid
		})},
		{rule: rule13, wrong: "a write to a read-only space is unsupported", seed: readOnlySeed, transfer: refusing(func(s *Sparse, op remora.Op) error {
			if op&^(s.ops()|remora.Write) != 0 {
				return nil
			}
			return errors.ErrUnsupported
		})},
		{rule: rule13, wrong: "a write to a read-only space is a page protection", seed: readOnlySeed, transfer: refusing(func(s *Sparse, op remora.Op) error {
			if op&^(s.ops()|remora.Write) != 0 {
				return nil
			}
			return remora.ErrProtected
		})},
		{rule: rule13, wrong: "a write to a read-only space is made with Force", seed: readOnlySeed, transfer: func(s *Sparse) transfer {
			return func(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
				if op&(remora.Write|remora.Force) == remora.Write|remora.Force {
					for i := range segs {
						s.Poke(segs[i].Buf, segs[i].Addr)
					}
				}
				return s.Transfer(ctx, op, segs)
			}
		}},
	}
}

// closeMutants break rule 14.
func closeMutants() []mutant {
	const rule14 = "rule14_close"
	closing := func(gone error) func(*Sparse) (transfer, func() error) {
		return func(s *Sparse) (transfer, func() error) {
			var closed atomic.Bool
			return func(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
				if closed.Load() && gone != nil {
					return refuse(segs, gone)
				}
				return s.Transfer(ctx, op, segs)
			}, func() error { closed.Store(true); return nil }
		}
	}
	return []mutant{
		{rule: rule14, wrong: "Close does not wait for calls that run", both: closing(fs.ErrClosed)},
		{rule: rule14, wrong: "Close ends nothing", both: closing(nil)},
		{rule: rule14, wrong: "after Close the target is gone", both: closing(remora.ErrGone)},
		{rule: rule14, wrong: "closing twice fails", both: func(s *Sparse) (transfer, func() error) {
			var closed atomic.Bool
			return s.Transfer, func() error {
				if closed.Swap(true) {
					return fs.ErrClosed
				}
				return s.Close()
			}
		}},
		{rule: rule14, wrong: "the second of two Closes does not wait", both: func(s *Sparse) (transfer, func() error) {
			var closed atomic.Bool
			return s.Transfer, func() error {
				if closed.Swap(true) {
					return nil
				}
				return s.Close()
			}
		}},
		{rule: rule14, wrong: "Close comes into force later", both: func(s *Sparse) (transfer, func() error) {
			return s.Transfer, func() error {
				go func() {
					runtime.Gosched()
					s.Close()
				}()
				return nil
			}
		}},
		{rule: rule14, wrong: "an empty call is fine after Close", transfer: func(s *Sparse) transfer {
			return func(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
				if len(segs) == 0 {
					return 0, nil
				}
				return s.Transfer(ctx, op, segs)
			}
		}},
		{rule: rule14, wrong: "after Close writes are still made", both: func(s *Sparse) (transfer, func() error) {
			return func(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
				sum, err := s.Transfer(ctx, op, segs)
				if errors.Is(err, fs.ErrClosed) && writes(op) {
					for i := range segs {
						segs[i].N, segs[i].Err = len(segs[i].Buf), nil
						sum += int64(segs[i].N)
					}
					return sum, nil
				}
				return sum, err
			}, s.Close
		}},
	}
}
