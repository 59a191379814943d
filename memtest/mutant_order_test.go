// SPDX-License-Identifier: Apache-2.0

package memtest

import (
	"cmp"
	"context"
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
