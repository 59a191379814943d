// SPDX-License-Identifier: Apache-2.0

package memtest

import (
	"cmp"
	"context"
	"errors"
	"io"
	"slices"

	"github.com/remora-go/remora"
)

// emptyMutants break rule 8.
func emptyMutants() []mutant {
	const rule8 = "rule08_zero_length"
	empty := func(op remora.Op, s *remora.Seg) bool { return len(s.Buf) == 0 }
	return []mutant{
		{rule: rule8, wrong: "an empty segment in a hole is a fault", transfer: func(s *Sparse) transfer {
			return func(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
				sum, err := s.Transfer(ctx, op, segs)
				for i := range segs {
					if empty(op, &segs[i]) && s.Peek(make([]byte, 1), segs[i].Addr) != nil {
						segs[i].Err = remora.ErrUnmapped
						err = cmp.Or(err, error(remora.ErrUnmapped))
					}
				}
				return sum, err
			}
		}},
		{rule: rule8, wrong: "an empty write stores a byte", transfer: func(s *Sparse) transfer {
			return func(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
				for i := range segs {
					if writes(op) && empty(op, &segs[i]) {
						s.Poke([]byte{0}, segs[i].Addr)
					}
				}
				return s.Transfer(ctx, op, segs)
			}
		}},
		{rule: rule8, wrong: "an empty segment is touched", transfer: func(s *Sparse) transfer {
			return func(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
				for i := range segs {
					if empty(op, &segs[i]) {
						s.Touch(remora.Range{Start: segs[i].Addr, Size: 1})
					}
				}
				return s.Transfer(ctx, op, segs)
			}
		}},
		{rule: rule8, wrong: "an empty segment behind the stop is stopped", transfer: func(s *Sparse) transfer {
			return func(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
				sum, err := s.Transfer(ctx, op, segs)
				bad := slices.IndexFunc(segs, func(s remora.Seg) bool { return s.Err != nil })
				for i := range segs {
					if op&remora.StopAtFault != 0 && bad >= 0 && i > bad {
						segs[i].Err = cmp.Or(segs[i].Err, error(remora.ErrStopped))
					}
				}
				return sum, err
			}
		}},
		{rule: rule8, wrong: "an empty segment gets the error of the context", transfer: func(s *Sparse) transfer {
			return func(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
				sum, err := s.Transfer(ctx, op, segs)
				for i := range segs {
					if isEnd(err) && empty(op, &segs[i]) {
						segs[i].Err = err
					}
				}
				return sum, err
			}
		}},
		{rule: rule8, wrong: "an empty segment is passed over, its Err left as it was", transfer: func(s *Sparse) transfer {
			return func(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
				full := slices.DeleteFunc(slices.Clone(segs), func(s remora.Seg) bool { return len(s.Buf) == 0 })
				sum, err := s.Transfer(ctx, op, full)
				for i := range segs {
					if len(segs[i].Buf) > 0 {
						segs[i], full = full[0], full[1:]
					}
				}
				return sum, err
			}
		}},
		{rule: rule8, wrong: "an empty call is fine with unknown bits", transfer: func(s *Sparse) transfer {
			return func(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
				if len(segs) == 0 {
					return 0, nil
				}
				return s.Transfer(ctx, op, segs)
			}
		}},
	}
}

// wrapMutants break rule 9.
func wrapMutants() []mutant {
	const rule9 = "rule09_no_wrap"
	return []mutant{
		{rule: rule9, wrong: "what passes 2^64 goes on at 0", transfer: func(s *Sparse) transfer {
			return func(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
				sum, err := s.Transfer(ctx, op, segs)
				for i := range segs {
					seg := &segs[i]
					if end := seg.Addr + remora.Addr(seg.N); seg.N > 0 && end == 0 && seg.Err == remora.ErrUnmapped {
						rest := []remora.Seg{{Buf: seg.Buf[seg.N:]}}
						n, _ := s.Transfer(ctx, op, rest)
						sum, seg.N, seg.Err = sum+n, seg.N+int(n), rest[0].Err
					}
				}
				if errors.Is(err, remora.ErrFault) {
					return tally(ctx, segs)
				}
				return sum, err
			}
		}},
		{rule: rule9, wrong: "a segment that passes 2^64 is refused", transfer: after(func(_ remora.Op, s *remora.Seg) {
			if end := s.Addr + remora.Addr(len(s.Buf)); end < s.Addr && end != 0 {
				s.N, s.Err = 0, remora.ErrUnmapped
			}
		})},
		{rule: rule9, wrong: "the last byte does not exist", transfer: after(func(_ remora.Op, s *remora.Seg) {
			if s.N > 0 && s.Addr+remora.Addr(s.N-1) == remora.MaxAddr {
				s.N, s.Err = s.N-1, remora.ErrUnmapped
			}
		})},
		{rule: rule9, wrong: "the end of the space is io.EOF", transfer: after(func(_ remora.Op, s *remora.Seg) {
			if s.N > 0 && s.N < len(s.Buf) && s.Addr+remora.Addr(s.N) == 0 {
				s.Err = io.EOF
			}
		})},
		{rule: rule9, wrong: "the end of the space is the end of a file", transfer: after(func(_ remora.Op, s *remora.Seg) {
			if s.N > 0 && s.N < len(s.Buf) && s.Addr+remora.Addr(s.N) == 0 {
				s.Err = remora.ErrBeyondEOF
			}
		})},
		{rule: rule9, wrong: "a segment that ends at 2^64 exactly is empty", transfer: after(func(_ remora.Op, s *remora.Seg) {
			if len(s.Buf) > 0 && s.Addr+remora.Addr(len(s.Buf)) == 0 {
				s.N, s.Err = 0, remora.ErrUnmapped
			}
		})},
		{rule: rule9, wrong: "addresses beyond the last are cut to the width of the space", seed: 3, transfer: func(s *Sparse) transfer {
			return func(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
				cut := slices.Clone(segs)
				for i := range cut {
					cut[i].Addr &= 1<<47 - 1
				}
				sum, err := s.Transfer(ctx, op, cut)
				for i := range cut {
					segs[i].N, segs[i].Err = cut[i].N, cut[i].Err
				}
				return sum, err
			}
		}},
	}
}
