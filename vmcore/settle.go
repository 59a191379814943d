// SPDX-License-Identifier: Apache-2.0

package vmcore

import (
	"cmp"
	"container/heap"
	"slices"

	"github.com/remora-go/remora"
)

// claim is what one segment says of a run of addresses. Claims may overlap.
type claim struct {
	piece
	size uint64 // of the segment
}

// beats says which of two claims to one address is believed: bytes before anything
// else, then what was to be saved, then the larger segment, then the earlier one.
func (c *claim) beats(o *claim) bool {
	return cmp.Or(
		cmp.Compare(weight(c.cause), weight(o.cause)),
		cmp.Compare(o.size, c.size),
		cmp.Compare(c.from, o.from)) < 0
}

func weight(c remora.Cause) int {
	switch c {
	case 0:
		return 0
	case remora.ErrTruncated:
		return 1
	}
	return 2
}

// contest is the heap of claims to an address, the best one first.
type contest []*claim

func (c contest) Len() int           { return len(c) }
func (c contest) Less(i, j int) bool { return c[i].beats(c[j]) }
func (c contest) Swap(i, j int)      { c[i], c[j] = c[j], c[i] }
func (c *contest) Push(x any)        { *c = append(*c, x.(*claim)) }
func (c *contest) Pop() any {
	last := len(*c) - 1
	x := (*c)[last]
	*c = (*c)[:last]
	return x
}

// settle gives the believed parts of claims, by address and apart: at most two for each
// claim. It sorts claims.
func settle(claims []claim) []piece {
	slices.SortFunc(claims, func(a, b claim) int { return cmp.Compare(a.first, b.first) })
	out := make([]piece, 0, len(claims))
	var open contest
	a := remora.Addr(0)
	for next := 0; ; {
		for len(open) > 0 && open[0].last < a {
			heap.Pop(&open)
		}
		if len(open) == 0 {
			if next == len(claims) {
				return out
			}
			a = max(a, claims[next].first)
		}
		for ; next < len(claims) && claims[next].first <= a; next++ {
			if claims[next].last >= a {
				heap.Push(&open, &claims[next])
			}
		}
		if len(open) == 0 {
			continue
		}
		best := open[0]
		last := best.last
		for ; next < len(claims) && claims[next].first <= last; next++ {
			if claims[next].beats(best) {
				last = claims[next].first - 1
				break
			}
			heap.Push(&open, &claims[next])
		}
		out = add(out, best, a, last)
		if last == remora.MaxAddr {
			return out
		}
		a = last + 1
	}
}

// add adds the part of c from first to last, or makes the last piece longer.
func add(out []piece, c *claim, first, last remora.Addr) []piece {
	if n := len(out); n > 0 && out[n-1].from == c.from && out[n-1].cause == c.cause && out[n-1].last+1 == first {
		out[n-1].last = last
		return out
	}
	p := c.piece
	if p.cause == 0 {
		p.off += int64(first - p.first)
	}
	p.first, p.last = first, last
	return append(out, p)
}
