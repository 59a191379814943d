// SPDX-License-Identifier: Apache-2.0

package memtest

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/remora-go/remora"
)

// layout is what a fixture says about its target: areas in address order, whose
// Data is kept up to date with what was written.
type layout []Area

func newLayout(areas []Area) (layout, error) {
	l := slices.Clone(areas)
	slices.SortFunc(l, func(a, b Area) int { return cmp.Compare(a.Start, b.Start) })
	for i := range l {
		a := &l[i]
		switch {
		case a.Empty():
			return nil, fmt.Errorf("area %v is empty", a.Range)
		case a.Start+remora.Addr(a.Size-1) < a.Start:
			return nil, fmt.Errorf("area %v passes the last address", a.Range)
		case i > 0 && l[i-1].Last() >= a.Start:
			return nil, fmt.Errorf("areas %v and %v overlap", l[i-1].Range, a.Range)
		case a.Data != nil && uint64(len(a.Data)) != a.Size:
			return nil, fmt.Errorf("area %v has %d bytes of Data", a.Range, len(a.Data))
		case a.Data == nil && (len(a.faults(remora.Read)) == 0 || len(a.faults(remora.Write)) == 0):
			return nil, fmt.Errorf("area %v can be accessed and has no Data", a.Range)
		}
		a.Data = bytes.Clone(a.Data)
	}
	return l, nil
}

func (a *Area) faults(op remora.Op) []error {
	if a.Fault == nil {
		return nil
	}
	return a.Fault(op &^ remora.StopAtFault)
}

// from gives the number of the first area that ends at a or behind it.
func (l layout) from(a remora.Addr) int {
	i, _ := slices.BinarySearchFunc(l, a, func(area Area, a remora.Addr) int { return cmp.Compare(area.Last(), a) })
	return i
}

// find gives the area that holds a, or nil.
func (l layout) find(a remora.Addr) *Area {
	if i := l.from(a); i < len(l) && l[i].Contains(a) {
		return &l[i]
	}
	return nil
}

// answer says how many of n bytes at a can be moved, and the right causes for
// what stops them. known is false when that depends on what no area covers.
func (l layout) answer(op remora.Op, a remora.Addr, n int) (moved int, causes []error, known bool) {
	for moved < n {
		at := a + remora.Addr(moved)
		if at < a {
			return moved, []error{remora.ErrUnmapped}, true
		}
		area := l.find(at)
		if area == nil {
			return moved, nil, false
		}
		if causes := area.faults(op); len(causes) > 0 {
			return moved, causes, true
		}
		if left := uint64(area.Last()-at) + 1; uint64(n-moved) > left {
			moved += int(left)
		} else {
			moved = n
		}
	}
	return moved, nil, true
}

// data gives the layout's Data from a on to the end of its area, or nothing.
func (l layout) data(a remora.Addr) []byte {
	area := l.find(a)
	if area == nil || area.Data == nil {
		return nil
	}
	return area.Data[a-area.Start:]
}

// store takes over what was written at a, up to a byte that has no Data.
func (l layout) store(a remora.Addr, buf []byte) {
	for len(buf) > 0 {
		n := copy(l.data(a), buf)
		if n == 0 {
			return
		}
		buf, a = buf[n:], a+remora.Addr(n)
	}
}

// differ gives the first byte of buf that is not what the layout has at a, and
// what it has; -1 for none. It looks no further than the first that has no Data.
func (l layout) differ(a remora.Addr, buf []byte) (int, byte) {
	for at := 0; at < len(buf); {
		want := l.data(a + remora.Addr(at))
		want = want[:min(len(want), len(buf)-at)]
		if in := differ(buf[at:at+len(want)], want); in >= 0 {
			return at + in, want[in]
		}
		if len(want) == 0 {
			break
		}
		at += len(want)
	}
	return -1, 0
}

// runs gives the longest runs over which op succeeds.
func (l layout) runs(op remora.Op) []remora.Range {
	var out []remora.Range
	for i := range l {
		if len(l[i].faults(op)) > 0 {
			continue
		}
		if last := len(out) - 1; last >= 0 && out[last].Start+remora.Addr(out[last].Size) == l[i].Start {
			out[last].Size += l[i].Size
			continue
		}
		out = append(out, l[i].Range)
	}
	return out
}

// longest gives the longest run over which op succeeds, or an empty one.
func (l layout) longest(op remora.Op) remora.Range {
	var best remora.Range
	for _, r := range l.runs(op) {
		if r.Size > best.Size {
			best = r
		}
	}
	return best
}

// edges gives the runs that are followed at once by a byte where op is known
// to stop. The last address is not such a byte: that is rule 9.
func (l layout) edges(op remora.Op) []remora.Range {
	return slices.DeleteFunc(l.runs(op), func(r remora.Range) bool {
		return r.Last() == remora.MaxAddr || l.find(r.Last()+1) == nil
	})
}

// holes gives the areas where op stops.
func (l layout) holes(op remora.Op) []remora.Range {
	var out []remora.Range
	for i := range l {
		if len(l[i].faults(op)) > 0 {
			out = append(out, l[i].Range)
		}
	}
	return out
}

func (l layout) reads(a remora.Addr) bool {
	area := l.find(a)
	return area != nil && len(area.faults(remora.Read)) == 0
}

// differs says whether bit changes what some area answers.
func (l layout) differs(bit remora.Op, writable bool) bool {
	for i := range l {
		if len(l[i].faults(remora.Read)) != len(l[i].faults(bit)) ||
			writable && len(l[i].faults(remora.Write)) != len(l[i].faults(remora.Write|bit)) {
			return true
		}
	}
	return false
}

// oneOf says whether err is one of the causes.
func oneOf(err error, causes []error) bool {
	return slices.ContainsFunc(causes, func(c error) bool { return errors.Is(err, c) })
}
