// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"errors"
	"fmt"
	"strings"

	"github.com/remora-go/remora"
)

// diffCover counts what a run came upon.
type diffCover struct {
	ops    [diffRowCount][len(diffOps)]int  // segments that moved bytes of a kind, or stopped there
	ways   [diffRowCount][len(diffWays)]int // the same
	causes [len(diffCauses)][len(diffOps)]int

	layouts, vectors, refused, segments   int
	moved                                 int64
	most, faults                          int // segments of the longest vector, segments that faulted
	inside, lastByte, oneByte             int // vectors with such a fault
	segsInside, segsLastByte, segsOneByte int
	whole                                 int // segments of 64 KiB and more that moved whole
}

// diffCauses are the causes that can be met with.
var diffCauses = [...]remora.Cause{remora.ErrUnmapped, remora.ErrProtected, remora.ErrBeyondEOF, remora.ErrGuard,
	remora.ErrDevice, remora.ErrNotPresent, remora.ErrFault, remora.ErrStopped}

// diffReachable says whether an operation can come to a cause at all.
func diffReachable(c remora.Cause, op remora.Op) bool {
	switch c {
	case remora.ErrProtected: // a debugger may read everything
		return op&remora.Force == 0 || op&remora.Write != 0
	case remora.ErrDevice: // which is mapped to be read only
		return op&remora.Force != 0 || op&remora.Write == 0
	case remora.ErrNotPresent:
		return op&remora.Resident != 0
	case remora.ErrStopped:
		return op&remora.StopAtFault != 0
	}
	return true
}

// count takes in a vector, by the results of the model.
func (c *diffCover) count(v *diffVector, l *diffLayout) {
	c.vectors++
	c.segments += len(v.got)
	c.most = max(c.most, len(v.got))
	if v.op < 0 {
		c.refused++
		return
	}
	var inside, lastByte, oneByte bool
	for i := range v.want {
		s := &v.want[i]
		c.moved += int64(s.N)
		if s.N > 0 {
			c.at(v, l.row(s.Addr))
		}
		if len(s.Buf) >= 1<<16 && s.Err == nil {
			c.whole++
		}
		if s.Err == nil {
			continue
		}
		for j, cause := range diffCauses {
			if s.Err == cause {
				c.causes[j][v.op]++
			}
		}
		if !errors.Is(s.Err, remora.ErrFault) {
			continue
		}
		at := s.Addr + remora.Addr(s.N)
		c.at(v, l.row(at))
		c.faults++
		if s.N > 0 {
			inside = true
			c.segsInside++
		}
		if s.N == 1 {
			oneByte = true
			c.segsOneByte++
		}
		if uint64(at)%l.page == l.page-1 {
			lastByte = true
			c.segsLastByte++
		}
	}
	c.inside += one(inside)
	c.lastByte += one(lastByte)
	c.oneByte += one(oneByte)
}

func (c *diffCover) at(v *diffVector, row int) {
	c.ops[row][v.op]++
	c.ways[row][v.way]++
}

func one(b bool) int {
	if b {
		return 1
	}
	return 0
}

// add takes in what another worker counted.
func (c *diffCover) add(o *diffCover) {
	for row := range c.ops {
		addTo(c.ops[row][:], o.ops[row][:])
		addTo(c.ways[row][:], o.ways[row][:])
	}
	for row := range c.causes {
		addTo(c.causes[row][:], o.causes[row][:])
	}
	c.most = max(c.most, o.most)
	c.moved += o.moved
	for i, p := range c.numbers() {
		*p += *o.numbers()[i]
	}
}

func addTo(to, from []int) {
	for i := range to {
		to[i] += from[i]
	}
}

func (c *diffCover) numbers() []*int {
	return []*int{&c.layouts, &c.vectors, &c.refused, &c.segments, &c.faults, &c.inside, &c.lastByte, &c.oneByte,
		&c.segsInside, &c.segsLastByte, &c.segsOneByte, &c.whole}
}

// table prints the coverage, and tells what is missing from it.
func (c *diffCover) table(lacking map[int]bool, devices bool) (text string, missing []string) {
	var b strings.Builder
	var ops, ways []string
	for _, op := range diffOps {
		ops = append(ops, diffOpName(op))
	}
	for _, w := range diffWays {
		ways = append(ways, w.name)
	}
	there := func(row int) bool { return !lacking[row] && (row != diffDevice || devices) }
	grid(&b, &missing, "kind", ops, diffRowCount, diffRowName, func(row, col int) (int, bool) { return c.ops[row][col], there(row) })
	grid(&b, &missing, "kind", ways, diffRowCount, diffRowName, func(row, col int) (int, bool) { return c.ways[row][col], there(row) })
	guard, device := diffRowOf("guard"), diffDevice
	grid(&b, &missing, "cause", ops, len(diffCauses), func(row int) string { return diffCauses[row].Error() }, func(row, col int) (int, bool) {
		cause := diffCauses[row]
		possible := diffReachable(cause, diffOps[col]) && (cause != remora.ErrDevice || there(device)) && (cause != remora.ErrGuard || there(guard))
		return c.causes[row][col], possible
	})
	share := func(what string, n, of int, least float64) {
		percent := 100 * float64(n) / float64(max(of, 1))
		fmt.Fprintf(&b, "%-46s %9d  %5.1f %%\n", what, n, percent)
		if percent < least {
			missing = append(missing, fmt.Sprintf("%s: %.1f %%, at least %g %%", what, percent, least))
		}
	}
	mean := float64(c.segments) / float64(max(c.vectors, 1))
	fmt.Fprintf(&b, "%d vectors (%d of them refused whole) over %d layouts; %d segments: mean %.1f, at most %d; %d bytes\n",
		c.vectors, c.refused, c.layouts, c.segments, mean, c.most, c.moved)
	if mean < 32 {
		missing = append(missing, fmt.Sprintf("a mean of %.1f segments, at least 32", mean))
	}
	share("vectors with a fault inside a segment", c.inside, c.vectors, 30)
	share("vectors with a fault at a page's last byte", c.lastByte, c.vectors, 5)
	share("vectors with a fault behind a page's last byte", c.oneByte, c.vectors, 5)
	share("segments that fault", c.faults, c.segments, 0)
	share("segments that fault inside", c.segsInside, c.segments, 0)
	share("segments that fault at a page's last byte", c.segsLastByte, c.segments, 0)
	share("segments that fault behind a page's last byte", c.segsOneByte, c.segments, 0)
	share("segments of 64 KiB and more, moved whole", c.whole, c.segments, 0)
	return b.String(), missing
}

// grid prints one table. A cell that cannot be is a dash; an empty one is missing.
func grid(b *strings.Builder, missing *[]string, corner string, columns []string, rows int, name func(int) string, cell func(row, col int) (int, bool)) {
	fmt.Fprintf(b, "%-34s", corner)
	for _, c := range columns {
		fmt.Fprintf(b, " %13s", c)
	}
	b.WriteByte('\n')
	for row := range rows {
		fmt.Fprintf(b, "%-34s", name(row))
		for col := range columns {
			n, possible := cell(row, col)
			if !possible && n == 0 {
				fmt.Fprintf(b, " %13s", "-")
				continue
			}
			fmt.Fprintf(b, " %13d", n)
			if n == 0 {
				*missing = append(*missing, "no "+name(row)+" by "+columns[col])
			}
		}
		b.WriteByte('\n')
	}
	b.WriteByte('\n')
}

// diffOpName is short enough for the head of a column: "write+f+s".
func diffOpName(op remora.Op) string {
	text := "read"
	if op&remora.Write != 0 {
		text = "write"
	}
	for _, bit := range []struct {
		op   remora.Op
		name string
	}{{remora.Resident, "res"}, {remora.Force, "force"}, {remora.StopAtFault, "st"}} {
		if op&bit.op != 0 {
			text += "+" + bit.name
		}
	}
	return text
}

func diffRowOf(name string) int {
	for row := range diffRowCount {
		if diffRowName(row) == name {
			return row
		}
	}
	return -1
}
