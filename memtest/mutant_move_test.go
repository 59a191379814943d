// SPDX-License-Identifier: Apache-2.0

package memtest

import (
	"context"
	"io"

	"github.com/remora-go/remora"
)

// moveMutants break rules 1 and 2.
func moveMutants() []mutant {
	const rule1, rule2 = "rule01_prefix", "rule02_error_iff_short"
	return []mutant{
		{rule: rule1, wrong: "N is one too small at a fault", transfer: after(func(_ remora.Op, s *remora.Seg) {
			if isFault(s.Err) && s.N > 0 {
				s.N--
			}
		})},
		{rule: rule1, wrong: "N is one too large at a fault", transfer: after(func(_ remora.Op, s *remora.Seg) {
			if isFault(s.Err) && s.N < len(s.Buf)-1 {
				s.N++
			}
		})},
		{rule: rule1, wrong: "N is rounded down to a page at a fault", transfer: after(func(_ remora.Op, s *remora.Seg) {
			if isFault(s.Err) {
				s.N -= s.N % 4096
			}
		})},
		{rule: rule1, wrong: "N is rounded up to a page at a fault", transfer: after(func(_ remora.Op, s *remora.Seg) {
			if isFault(s.Err) {
				s.N = min(len(s.Buf)-1, (s.N+4095)&^4095)
			}
		})},
		{rule: rule1, wrong: "a hole reads as zeros, without an error", transfer: after(func(op remora.Op, s *remora.Seg) {
			if isFault(s.Err) && !writes(op) {
				clear(s.Buf[s.N:])
				s.N, s.Err = len(s.Buf), nil
			}
		})},
		{rule: rule1, wrong: "all or nothing", transfer: after(func(_ remora.Op, s *remora.Seg) {
			if isFault(s.Err) {
				s.N = 0
			}
		})},
		{rule: rule1, wrong: "every fault is called unmapped", transfer: after(func(_ remora.Op, s *remora.Seg) {
			if isFault(s.Err) {
				s.Err = remora.ErrUnmapped
			}
		})},
		{rule: rule1, wrong: "a segment stops at the first page border", transfer: after(func(_ remora.Op, s *remora.Seg) {
			if left := 4096 - int(s.Addr%4096); s.N > left {
				s.N, s.Err = left, remora.ErrUnmapped
			}
		})},

		{rule: rule2, wrong: "the error of a short segment is lost", transfer: after(func(_ remora.Op, s *remora.Seg) {
			if s.N > 0 && isFault(s.Err) {
				s.Err = nil
			}
		})},
		{rule: rule2, wrong: "a complete read ends with io.EOF", transfer: after(func(op remora.Op, s *remora.Seg) {
			if s.Err == nil && s.N > 8 && !writes(op) {
				s.Err = io.EOF
			}
		})},
		{rule: rule2, wrong: "the Err of a complete segment is not set", transfer: func(s *Sparse) transfer {
			return func(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
				stale := make([]error, len(segs))
				for i := range segs {
					stale[i] = segs[i].Err
				}
				sum, err := s.Transfer(ctx, op, segs)
				for i := range segs {
					if segs[i].Err == nil {
						segs[i].Err = stale[i]
					}
				}
				return sum, err
			}
		}},
		{rule: rule2, wrong: "a fault at the last byte is forgiven", transfer: after(func(_ remora.Op, s *remora.Seg) {
			if s.N == len(s.Buf)-1 && isFault(s.Err) {
				s.Err = nil
			}
		})},
	}
}

// insideMutants break rule 3.
func insideMutants() []mutant {
	const rule3 = "rule03_read_stays_inside"
	return []mutant{
		{rule: rule3, wrong: "a read ends with a NUL behind the Buf", transfer: after(func(op remora.Op, s *remora.Seg) {
			if !writes(op) && s.N == len(s.Buf) && s.N < cap(s.Buf) {
				s.Buf[:s.N+1][s.N] = 0
			}
		})},
		{rule: rule3, wrong: "a read moves whole words", transfer: func(s *Sparse) transfer {
			return func(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
				if !writes(op) {
					for i := range segs {
						up := min((len(segs[i].Buf)+7)&^7, cap(segs[i].Buf))
						s.Peek(segs[i].Buf[:up], segs[i].Addr)
					}
				}
				return s.Transfer(ctx, op, segs)
			}
		}},
		{rule: rule3, wrong: "a read moves into a Buf of its own", transfer: after(func(op remora.Op, s *remora.Seg) {
			if !writes(op) && len(s.Buf) > 0 {
				own := append(make([]byte, 0, cap(s.Buf)), s.Buf...)
				clear(s.Buf)
				s.Buf = own
			}
		})},
		{rule: rule3, wrong: "a read takes the bytes away", transfer: func(s *Sparse) transfer {
			return func(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
				sum, err := s.Transfer(ctx, op, segs)
				if last := len(segs) - 1; last >= 0 && !writes(op) && segs[last].N > 0 {
					s.Poke(make([]byte, 1), segs[last].Addr)
				}
				return sum, err
			}
		}},
		{rule: rule3, wrong: "the bytes of a read are those of the address below", transfer: func(s *Sparse) transfer {
			return func(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
				sum, err := s.Transfer(ctx, op, segs)
				for i := range segs {
					if n := segs[i].N; !writes(op) && n > 1 {
						copy(segs[i].Buf[1:n], segs[i].Buf[:n-1])
					}
				}
				return sum, err
			}
		}},
	}
}

// countedMutants break rule 4.
func countedMutants() []mutant {
	const rule4 = "rule04_write_only_counted"
	return []mutant{
		{rule: rule4, wrong: "a write goes on behind the hole", transfer: func(s *Sparse) transfer {
			return func(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
				sum, err := s.Transfer(ctx, op, segs)
				for i := range segs {
					if writes(op) && isFault(segs[i].Err) {
						for at := segs[i].N; at < len(segs[i].Buf); at++ {
							s.Transfer(ctx, op, []remora.Seg{{Addr: segs[i].Addr + remora.Addr(at), Buf: segs[i].Buf[at : at+1]}})
						}
					}
				}
				return sum, err
			}
		}},
		{rule: rule4, wrong: "a write stores whole words", transfer: func(s *Sparse) transfer {
			return func(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
				sum, err := s.Transfer(ctx, op, segs)
				for i := range segs {
					if end := segs[i].Addr + remora.Addr(segs[i].N); writes(op) && segs[i].N > 0 && end%8 != 0 {
						s.Poke(make([]byte, 8-end%8), end)
					}
				}
				return sum, err
			}
		}},
		{rule: rule4, wrong: "a write changes the byte before it", transfer: func(s *Sparse) transfer {
			return func(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
				sum, err := s.Transfer(ctx, op, segs)
				if writes(op) && len(segs) > 0 && segs[0].N > 0 {
					s.Poke([]byte{0}, segs[0].Addr-1)
				}
				return sum, err
			}
		}},
		{rule: rule4, wrong: "what was written before a fault is not counted", transfer: after(func(op remora.Op, s *remora.Seg) {
			if writes(op) && isFault(s.Err) {
				s.N = 0
			}
		})},
		{rule: rule4, wrong: "segments behind the stop are written and not counted", transfer: func(s *Sparse) transfer {
			return func(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
				sum, err := s.Transfer(ctx, op, segs)
				for i := range segs {
					if segs[i].Err == remora.ErrStopped && writes(op) {
						s.Transfer(ctx, op, []remora.Seg{{Addr: segs[i].Addr, Buf: segs[i].Buf}})
					}
				}
				return sum, err
			}
		}},
		{rule: rule4, wrong: "a counted byte is not written", transfer: func(s *Sparse) transfer {
			return func(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
				var old [1]byte
				last := len(segs) - 1
				var at remora.Addr
				if writes(op) && last >= 0 && len(segs[last].Buf) > 0 {
					at = segs[last].Addr
					s.Peek(old[:], at)
				}
				sum, err := s.Transfer(ctx, op, segs)
				if writes(op) && last >= 0 && segs[last].N > 0 {
					s.Poke(old[:], at)
				}
				return sum, err
			}
		}},
	}
}
