// SPDX-License-Identifier: Apache-2.0

package memtest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/remora-go/remora"
)

// retainMutants break rule 10.
func retainMutants() []mutant {
	const rule10 = "rule10_nothing_retained"
	return []mutant{
		{rule: rule10, wrong: "the Buf of the last read is filled again", transfer: func(s *Sparse) transfer {
			var mu sync.Mutex
			var kept remora.Seg
			return func(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
				mu.Lock()
				defer mu.Unlock()
				s.Peek(kept.Buf, kept.Addr)
				kept = remora.Seg{}
				if !writes(op) && len(segs) > 0 {
					kept = segs[0]
				}
				return s.Transfer(ctx, op, segs)
			}
		}},
		{rule: rule10, wrong: "the segments of the last call are changed", transfer: func(s *Sparse) transfer {
			var mu sync.Mutex
			var kept []remora.Seg
			return func(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
				mu.Lock()
				defer mu.Unlock()
				for i := range kept {
					kept[i].N = 0
				}
				kept = segs
				return s.Transfer(ctx, op, segs)
			}
		}},
		{rule: rule10, wrong: "a write is made again, from the same Buf, by the next call", transfer: func(s *Sparse) transfer {
			var mu sync.Mutex
			var kept remora.Seg
			return func(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
				mu.Lock()
				defer mu.Unlock()
				if kept.Buf != nil {
					s.Poke(kept.Buf, kept.Addr)
					kept = remora.Seg{}
				}
				if writes(op) && len(segs) > 0 {
					kept = segs[0]
				}
				return s.Transfer(ctx, op, segs)
			}
		}},
		{rule: rule10, wrong: "calls side by side share a buffer", transfer: func(s *Sparse) transfer {
			var mu sync.Mutex
			var shared [256]byte
			var m meeting
			return func(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
				defer m.begin()()
				sum, err := s.Transfer(ctx, op, segs)
				for i := range segs {
					if writes(op) || segs[i].N == 0 || segs[i].N > len(shared) {
						continue
					}
					mu.Lock()
					copy(shared[:], segs[i].Buf[:segs[i].N])
					mu.Unlock()
					m.wait()
					mu.Lock()
					copy(segs[i].Buf, shared[:segs[i].N])
					mu.Unlock()
				}
				return sum, err
			}
		}},
		{rule: rule10, wrong: "calls side by side share a sum", transfer: func(s *Sparse) transfer {
			var sum atomic.Int64
			var m meeting
			return func(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
				defer m.begin()()
				sum.Store(0)
				n, err := s.Transfer(ctx, op, segs)
				sum.Add(n)
				m.wait()
				return sum.Load(), err
			}
		}},
	}
}

// meeting has calls that are made side by side meet inside a mutant: on a busy machine
// they do not by chance.
type meeting struct{ inside atomic.Int64 }

func (m *meeting) begin() (end func()) {
	m.inside.Add(1)
	return func() { m.inside.Add(-1) }
}

// wait waits for another call, though not for long, and lets it get on.
func (m *meeting) wait() {
	if m.inside.Load() == 1 {
		time.Sleep(10 * time.Microsecond)
	}
	runtime.Gosched()
}

// cancelMutants break rule 11.
func cancelMutants() []mutant {
	const rule11 = "rule11_cancellation"
	return []mutant{
		{rule: rule11, wrong: "the context is ignored", transfer: func(s *Sparse) transfer {
			return func(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
				return s.Transfer(context.WithoutCancel(ctx), op, segs)
			}
		}},
		{rule: rule11, wrong: "the context is looked at once", transfer: looking(func(ctx context.Context, i int, _ *remora.Seg) bool { return i == 0 })},
		{rule: rule11, wrong: "the context is looked at after 2,048 segments", transfer: func(s *Sparse) transfer {
			few := looking(func(_ context.Context, i int, _ *remora.Seg) bool { return i%2048 == 0 })(s)
			return func(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
				if len(segs) < 3*chunkSegs {
					return s.Transfer(ctx, op, segs)
				}
				return few(ctx, op, segs)
			}
		}},
		{rule: rule11, wrong: "the context is not looked at inside a segment", transfer: looking(func(context.Context, int, *remora.Seg) bool { return true })},
		{rule: rule11, wrong: "what was moved before the end is not counted", transfer: returning(func(_ remora.Op, segs []remora.Seg, sum int64, err error) (int64, error) {
			if !isEnd(err) {
				return sum, err
			}
			for i := range segs {
				if len(segs[i].Buf) > 0 {
					segs[i].N, segs[i].Err = 0, err
				}
			}
			return 0, err
		})},
		{rule: rule11, wrong: "what was not attempted is called stopped", transfer: returning(func(_ remora.Op, segs []remora.Seg, sum int64, err error) (int64, error) {
			for i := range segs {
				if isEnd(segs[i].Err) {
					segs[i].Err = remora.ErrStopped
				}
			}
			return sum, err
		})},
		{rule: rule11, wrong: "segments that fault are not counted for a look", transfer: func(s *Sparse) transfer {
			return func(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
				moved := 0
				if len(segs) < 3*chunkSegs {
					return s.Transfer(ctx, op, segs)
				}
				return looking(func(_ context.Context, i int, _ *remora.Seg) bool {
					if i > 0 && segs[i-1].N > 0 {
						moved++
					}
					return moved%chunkSegs == 0
				})(s)(ctx, op, segs)
			}
		}},
	}
}

// looking makes a call for each segment, and looks at the context only before
// those that look says.
func looking(look func(ctx context.Context, i int, s *remora.Seg) bool) func(*Sparse) transfer {
	return func(s *Sparse) transfer {
		return func(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
			if refused(s, op) != nil {
				return s.Transfer(ctx, op, segs)
			}
			var ended error
			for i := range segs {
				if ended == nil && len(segs[i].Buf) > 0 && look(ctx, i, &segs[i]) {
					ended = ctx.Err()
				}
				switch {
				case ended == nil || len(segs[i].Buf) == 0:
					s.Transfer(context.Background(), op, segs[i:i+1])
				default:
					segs[i].N, segs[i].Err = 0, ended
				}
			}
			return tally(ctx, segs)
		}
	}
}

// allocMutants break rule 12.
func allocMutants() []mutant {
	const rule12 = "rule12_no_allocation"
	return []mutant{
		{rule: rule12, wrong: "every fault is a new error", transfer: after(func(op remora.Op, s *remora.Seg) {
			if isFault(s.Err) {
				s.Err = &remora.Fault{Op: op, Addr: s.Addr + remora.Addr(s.N), Err: s.Err}
			}
		})},
		{rule: rule12, wrong: "the segments are copied", transfer: func(s *Sparse) transfer {
			return func(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
				own := slices.Clone(segs)
				sum, err := s.Transfer(ctx, op, own)
				copy(segs, own)
				return sum, err
			}
		}},
		{rule: rule12, wrong: "one call in a thousand makes a new buffer", transfer: func(s *Sparse) transfer {
			var calls int
			var scratch []byte
			return func(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
				if calls++; calls%1000 == 0 {
					scratch = make([]byte, 64)
				}
				sum, err := s.Transfer(ctx, op, segs)
				runtime.KeepAlive(scratch)
				return sum, err
			}
		}},
		{rule: rule12, wrong: "a refusal is a new error", transfer: func(s *Sparse) transfer {
			return func(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
				sum, err := s.Transfer(ctx, op, segs)
				if errors.Is(err, errors.ErrUnsupported) {
					err = fmt.Errorf("%v: %w", op, err)
				}
				return sum, err
			}
		}},
		{rule: rule12, wrong: "a context that can end is watched", transfer: func(s *Sparse) transfer {
			return func(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
				if ctx.Done() != nil {
					defer context.AfterFunc(ctx, func() {})()
				}
				return s.Transfer(ctx, op, segs)
			}
		}},
	}
}
