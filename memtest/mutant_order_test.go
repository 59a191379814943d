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

// inOrder makes a good call of each part of segs, in the order that arrange
// gives them: numbers of the first segment and of the one behind the last.
func inOrder(arrange func(op remora.Op, segs []remora.Seg) [][2]int) func(*Sparse) transfer {
	return func(s *Sparse) transfer {
		return func(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
			if refused(s, op) != nil {
				return s.Transfer(ctx, op, segs)
			}
			for _, part := range arrange(op, segs) {
				s.Transfer(ctx, op, segs[part[0]:part[1]])
			}
			return tally(ctx, segs)
		}
	}
}

// batches gives the borders of parts of n segments.
func batches(count, n int) [][2]int {
	var parts [][2]int
	for at := 0; at < count; at += n {
		parts = append(parts, [2]int{at, min(at+n, count)})
	}
	return parts
}

// orderMutants break rules 5 and 6.
func orderMutants() []mutant {
	const rule5, rule6 = "rule05_every_segment_or_stop", "rule06_write_order"
	return []mutant{
		{rule: rule5, wrong: "StopAtFault is ignored", transfer: before(func(op remora.Op, segs []remora.Seg) (remora.Op, []remora.Seg) {
			return op &^ remora.StopAtFault, segs
		})},
		{rule: rule5, wrong: "every call stops at a fault", transfer: before(func(op remora.Op, segs []remora.Seg) (remora.Op, []remora.Seg) {
			return op | remora.StopAtFault, segs
		})},
		{rule: rule5, wrong: "the stop holds for a batch of 64", transfer: inOrder(func(_ remora.Op, segs []remora.Seg) [][2]int {
			return batches(len(segs), 64)
		})},
		{rule: rule5, wrong: "the stop comes one segment late", transfer: func(s *Sparse) transfer {
			return func(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
				sum, err := s.Transfer(ctx, op, segs)
				if i := slices.IndexFunc(segs, func(s remora.Seg) bool { return s.Err == remora.ErrStopped }); i >= 0 {
					n, _ := s.Transfer(ctx, op, segs[i:i+1])
					sum += n
				}
				return sum, err
			}
		}},
		{rule: rule5, wrong: "what was not attempted gives the error that stopped", transfer: func(s *Sparse) transfer {
			return func(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
				sum, err := s.Transfer(ctx, op, segs)
				for i := range segs {
					if segs[i].Err == remora.ErrStopped {
						segs[i].Err = err
					}
				}
				return sum, err
			}
		}},
		{rule: rule5, wrong: "the segment behind a fault is passed over", transfer: after(func() func(remora.Op, *remora.Seg) {
			faulted := false
			return func(op remora.Op, s *remora.Seg) {
				if faulted && s.N > 0 && !writes(op) {
					s.N, s.Err = 0, remora.ErrUnmapped
				}
				faulted = isFault(s.Err)
			}
		}())},

		{rule: rule6, wrong: "writes happen in reverse", transfer: inOrder(func(op remora.Op, segs []remora.Seg) [][2]int {
			parts := batches(len(segs), 1)
			if writes(op) {
				slices.Reverse(parts)
			}
			return parts
		})},
		{rule: rule6, wrong: "writes happen in the order of their addresses", transfer: inOrder(func(op remora.Op, segs []remora.Seg) [][2]int {
			parts := batches(len(segs), 1)
			if writes(op) {
				slices.SortStableFunc(parts, func(a, b [2]int) int { return cmp.Compare(segs[a[0]].Addr, segs[b[0]].Addr) })
			}
			return parts
		})},
		{rule: rule6, wrong: "the last batch of 1,024 is written first", transfer: inOrder(func(op remora.Op, segs []remora.Seg) [][2]int {
			parts := batches(len(segs), 1024)
			if writes(op) {
				slices.Reverse(parts)
			}
			return parts
		})},
		{rule: rule6, wrong: "of writes to the same address the first wins", transfer: inOrder(func(op remora.Op, segs []remora.Seg) [][2]int {
			parts := batches(len(segs), 1)
			if writes(op) {
				slices.SortStableFunc(parts, func(a, b [2]int) int {
					if segs[a[0]].Addr == segs[b[0]].Addr {
						return cmp.Compare(b[0], a[0])
					}
					return 0
				})
			}
			return parts
		})},
		{rule: rule6, wrong: "a read by addresses gives each Buf to the next", transfer: func(s *Sparse) transfer {
			return func(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
				sum, err := s.Transfer(ctx, op, segs)
				for i := 1; i < len(segs) && !writes(op); i++ {
					if n := min(segs[i].N, segs[i-1].N); segs[i].Addr < segs[i-1].Addr {
						copy(segs[i].Buf[:n], segs[i-1].Buf[:n])
					}
				}
				return sum, err
			}
		}},
	}
}

// sumMutants break rule 7.
func sumMutants() []mutant {
	const rule7 = "rule07_sum_and_first_error"
	return []mutant{
		{rule: rule7, wrong: "the sum is of what was asked for", transfer: returning(func(_ remora.Op, segs []remora.Seg, _ int64, err error) (int64, error) {
			sum := int64(0)
			for i := range segs {
				sum += int64(len(segs[i].Buf))
			}
			return sum, err
		})},
		{rule: rule7, wrong: "the sum leaves out segments that stopped", transfer: returning(func(_ remora.Op, segs []remora.Seg, sum int64, err error) (int64, error) {
			for i := range segs {
				if segs[i].Err != nil {
					sum -= int64(segs[i].N)
				}
			}
			return sum, err
		})},
		{rule: rule7, wrong: "the sum is cut to 16 bits", transfer: returning(func(_ remora.Op, _ []remora.Seg, sum int64, err error) (int64, error) {
			return int64(uint16(sum)), err
		})},
		{rule: rule7, wrong: "the error is the last", transfer: returning(func(_ remora.Op, segs []remora.Seg, sum int64, err error) (int64, error) {
			for i := range segs {
				if segs[i].Err != nil && !isEnd(err) {
					err = segs[i].Err
				}
			}
			return sum, err
		})},
		{rule: rule7, wrong: "no error when anything was moved", transfer: returning(func(_ remora.Op, _ []remora.Seg, sum int64, err error) (int64, error) {
			if sum > 0 {
				err = nil
			}
			return sum, err
		})},
		{rule: rule7, wrong: "a fault hides that the context has ended", transfer: returning(func(_ remora.Op, segs []remora.Seg, sum int64, err error) (int64, error) {
			for i := range segs {
				if segs[i].Err != nil {
					return sum, segs[i].Err
				}
			}
			return sum, err
		})},
	}
}

// edgeMutants break rules 8 and 9.
func edgeMutants() []mutant {
	const rule8, rule9 = "rule08_zero_length", "rule09_no_wrap"
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
