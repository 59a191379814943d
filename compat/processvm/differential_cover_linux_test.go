// SPDX-License-Identifier: Apache-2.0

//go:build amd64

package processvm

import (
	"fmt"
	"strings"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/difftest"
	"github.com/remora-go/remora/internal/specimen"
	"github.com/remora-go/remora/internal/sys/linux"
)

// diffTable counts cells.
type diffTable struct {
	title      string
	rows, cols []string
	n          []int
	can        func(row, col int) bool // nil: every cell can be
}

func newTable(title string, rows, cols []string, can func(row, col int) bool) *diffTable {
	return &diffTable{title, rows, cols, make([]int, len(rows)*len(cols)), can}
}

func (t *diffTable) add(row, col int) { t.n[row*len(t.cols)+col]++ }

// print prints the table. A cell that cannot be is a dash; an empty one is missing.
func (t *diffTable) print(b *strings.Builder, missing *[]string) {
	fmt.Fprintf(b, "%-24s", t.title)
	for _, c := range t.cols {
		fmt.Fprintf(b, " %9s", c)
	}
	for row, name := range t.rows {
		fmt.Fprintf(b, "\n%-24s", name)
		for col := range t.cols {
			switch n := t.n[row*len(t.cols)+col]; {
			case n > 0:
				fmt.Fprintf(b, " %9d", n)
			case t.can != nil && !t.can(row, col):
				fmt.Fprintf(b, " %9s", "-")
			default:
				fmt.Fprintf(b, " %9d", 0)
				*missing = append(*missing, fmt.Sprintf("%s: no %s, %s", t.title, name, t.cols[col]))
			}
		}
	}
	b.WriteString("\n\n")
}

// diffCover counts what a run came upon.
type diffCover struct {
	memory, stages, counts, lengths, places, pids, flags, ends *diffTable

	calls, layouts, overlaps, astray int
	refused                          int // EPERM
	moved                            uint64
}

// The rows of the table of memory that are no rows of addresses.
const (
	diffNewZeros = diffRows + iota // anonymous memory that was never touched
	diffNewFile                    // a page of a file that is not in the page table
	diffSwapped                    // in swap space
	diffMemoryRows
)

var (
	diffSides  = []string{"r local", "r remote", "w local", "w remote"}
	diffVerbs  = []string{"readv", "writev"}
	diffMemory = []string{"rl moves", "rl stops", "rr moves", "rr stops", "wl moves", "wl stops", "wr moves", "wr stops"}
)

var diffLengthRows = [...]string{"0", "1 to 15", "16 to 255", "256 to 4095", "4096 to 64Ki-1", "to 4Mi", "to 2Gi", "to 4Gi",
	"to 2^47", "to 2^63-2", "2^63-1", "from 2^63"}

func diffLengthRow(n uint64) int {
	for row, most := range [...]uint64{0, 15, 255, 4095, 1<<16 - 1, 1 << 22, MaxRW, 1 << 32, 1 << 47, 1<<63 - 2, 1<<63 - 1} {
		if n <= most {
			return row
		}
	}
	return len(diffLengthRows) - 1
}

var diffEndRows = [...]string{"all that both have", "short: remote", "short: local", "EFAULT: remote", "EFAULT: local",
	"EFAULT: both", "more than 1024 pages", "short after 1024 pages", "its own array", "k*2^32+n moves", "within itself"}

// The rows of diffEndRows.
const (
	endAll = iota
	endShortRemote
	endShortLocal
	endFaultRemote
	endFaultLocal
	endFaultBoth
	endLong
	endLongShort
	endOwnArray
	endHighCount
	endSelf
)

// newDiffCover gives empty tables. Rows of memory that are lacking need not be covered.
func newDiffCover(lacking map[int]bool, kernel bool, o *Options) *diffCover {
	c := &diffCover{}
	var rows []string
	for row := range diffRows {
		rows = append(rows, diffRowName(row))
	}
	rows = append(rows, "never touched, zeros", "never touched, file", "in swap space")
	c.memory = newTable("memory", rows, diffMemory, func(row, col int) bool {
		return !lacking[row] && diffMemoryCan(row, col, o.ExecuteOnly)
	})
	c.stages = newTable("decides, and hides", diffStageNames[:], append([]string{"alone"}, diffStageNames[:]...), func(row, col int) bool {
		return col == 0 || col-1 > row && diffHides(row, col-1, o.ArrayFirst)
	})
	c.counts = newTable("counts", diffCountRows[:], diffSides, nil)
	c.lengths = newTable("lengths", diffLengthRows[:], diffSides, nil)
	c.places = newTable("arrays", diffPlaceRows[:], diffSides, func(row, _ int) bool {
		switch row {
		case placeGuard:
			return !lacking[difftest.Number(specimen.Guard)]
		case placeSecret:
			return !lacking[difftest.Number(specimen.Secret)]
		}
		return true
	})
	c.pids = newTable("processes", diffPidRows[:], diffVerbs, func(row, _ int) bool {
		return kernel || row != pidKernel && row != pidKernelHigh
	})
	c.flags = newTable("flags", diffFlagRows[:], diffVerbs, nil)
	c.ends = newTable("transfers", diffEndRows[:], diffVerbs, func(row, col int) bool { return row != endOwnArray || col == 0 })
	return c
}

// diffMemoryCan says whether memory can be moved, or stop a transfer.
func diffMemoryCan(row, col int, executeOnly bool) bool {
	local, write, stops := col/2%2 == 0, col >= 4, col%2 == 1
	view, store := diffSeen, write != local
	if local {
		view = diffOwn
	}
	switch row {
	case diffNewZeros, diffNewFile, diffSwapped:
		return !stops
	case diffVdso:
		return stops == store
	case diffVvar:
		return stops && (store || !local) // what it holds changes by itself
	case diffOdd, diffKernel, diffEnd:
		return stops && !local // R8
	case diffNull, diffGap, diffTop:
		return stops
	}
	k := &diffKinds[row]
	switch {
	case local && diffTargets(k):
		return false
	case k.Kind == specimen.FileEnd || k.Alias: // with pages beyond the end of the file
		return true
	}
	return stops != diffAllows(k, view, store, executeOnly)
}

// diffHides says whether two stages can both be wrong, and the first decide.
func diffHides(stage, hidden int, arrayFirst bool) bool {
	switch [2]int{stage, hidden} {
	case [2]int{diffLocalLength, diffLocalArray}, [2]int{diffRemoteLength, diffRemoteArray}:
		return !arrayFirst
	case [2]int{diffLocalLength, diffLocalZero}, [2]int{diffRemoteLength, diffRemoteZero}, // a length is no 0
		[2]int{diffLocalZero, diffTransfer}, [2]int{diffRemoteZero, diffTransfer}: // nothing to transfer
		return false
	}
	return true
}

// count takes in a call.
func (c *diffCover) count(g *diffGen) {
	v := &g.c
	c.calls++
	c.moved += v.moved
	c.refused += diffBit(linux.Errno(v.errno) == linux.EPERM)
	w := diffBit(v.Write)
	for which := range 2 {
		for _, e := range v.vec[which] {
			c.lengths.add(diffLengthRow(e.Len), 2*w+which)
		}
		if v.place[which] == placeAsIs {
			c.places.add(placeAsIs, 2*w+which)
		}
	}
	if last := v.last(); !v.asIs && last >= 0 {
		c.countArguments(v, last)
		c.countStages(v, last)
	}
	if v.faults&^(1<<diffTransfer) == 0 && (v.moved > 0 || v.errno == diffErrnos[diffTransfer]) && g.inRange() {
		c.countTransfer(g, w)
	}
}

// last gives the stage that the call has come to: the first that was to be its end, if
// what came of the call agrees, else -1; or diffStages.
func (c *diffCall) last() int {
	for stage := range diffStages {
		switch {
		case !c.has(stage):
		case c.moved > 0 || c.errno != diffErrnos[stage]:
			return -1
		default:
			return stage
		}
	}
	return diffStages
}

// countArguments counts the arguments that have mattered to a call which ended at a
// stage.
func (c *diffCover) countArguments(v *diffCall, last int) {
	w := diffBit(v.Write)
	add := func(t *diffTable, row, col, stage int, ends bool) {
		if ends && last == stage || !ends && last > stage {
			t.add(row, col)
		}
	}
	add(c.flags, v.flags, w, diffFlags, v.flags != 0)
	add(c.pids, v.pid, w, diffNobody, v.pid >= pidZombie)
	for which, stages := range [2][3]int{{diffLocalCount, diffLocalArray, diffLocalZero}, {diffRemoteCount, diffRemoteArray, diffRemoteZero}} {
		col, row := 2*w+which, v.count[which]
		switch {
		case row == 0 || row == 7 && which == diffLocal:
			add(c.counts, row, col, stages[2], true)
		default:
			add(c.counts, row, col, stages[0], v.hasFor(diffLocalCount, which))
		}
		add(c.places, v.place[which], col, stages[1], v.place[which] >= placeNull)
	}
}

// countStages counts which stage has decided, and what it has hidden.
func (c *diffCover) countStages(v *diffCall, last int) {
	if last == diffStages {
		return
	}
	if v.faults == 1<<last {
		c.stages.add(last, 0)
	}
	for stage := last + 1; stage < diffStages; stage++ {
		if v.has(stage) {
			c.stages.add(last, stage+1)
		}
	}
}

// inRange says whether no local element is refused for its address alone.
func (g *diffGen) inRange() bool {
	limit := uint64(g.caller.limit)
	for _, v := range g.c.vec[diffLocal] {
		n := v.Len
		if len(g.c.vec[diffLocal]) == 1 {
			n = min(n, MaxRW)
		}
		if v.Base > limit || n > limit-v.Base {
			return false
		}
	}
	return true
}

// countTransfer counts what was moved, and where the transfer stopped.
func (c *diffCover) countTransfer(g *diffGen, w int) {
	v := &g.c
	var stops [2]bool
	var left [2]bool // whether there was more to move
	for which := range 2 {
		side, view := g.side(which)
		done := v.moved
		for _, e := range v.vec[which] {
			if e.Len == 0 {
				continue
			}
			a := remora.Addr(e.Base)
			col := 4*w + 2*which
			n := min(done, e.Len)
			if n > 0 {
				c.memory.add(side.row(a), col)
				if row := side.fresh(a); row >= 0 {
					c.memory.add(row, col)
				}
			}
			if done -= n; n == e.Len {
				continue
			}
			left[which] = true
			at := a + remora.Addr(n)
			if stops[which] = side.end(view, g.storesTo(which), at) == 0; stops[which] {
				c.memory.add(side.row(at), col+1)
			}
			break
		}
	}
	if v.target == g.caller && v.moved > 0 {
		c.ends.add(endSelf, w)
	}
	if v.ownArray {
		c.ends.add(endOwnArray, w)
	}
	if v.count[diffLocal] == countHigh && v.moved > 0 {
		c.ends.add(endHighCount, w)
	}
	c.countEnd(v, w, stops, left)
}

func (c *diffCover) countEnd(v *diffCall, w int, stops, left [2]bool) {
	short := left[diffLocal] && left[diffRemote]
	switch {
	case v.moved > 0 && !short:
		c.ends.add(endAll, w)
	case v.moved > 0 && stops[diffRemote]:
		c.ends.add(endShortRemote, w)
	case v.moved > 0 && stops[diffLocal]:
		c.ends.add(endShortLocal, w)
	case v.moved > 0:
	case stops[diffRemote] && stops[diffLocal]:
		c.ends.add(endFaultBoth, w)
	case stops[diffRemote]:
		c.ends.add(endFaultRemote, w)
	case stops[diffLocal]:
		c.ends.add(endFaultLocal, w)
	}
	if v.long && v.moved > 1024*diffPage {
		c.ends.add(endLong, w)
		if short {
			c.ends.add(endLongShort, w)
		}
	}
}

// fresh gives the row of memory that was not in the page table before the call, or -1.
func (s *diffSide) fresh(a remora.Addr) int {
	if !s.Contains(a) || s.present(s.page(a)) {
		return -1
	}
	switch k := &diffKinds[s.row(a)]; {
	case k.Kind == specimen.Untouched:
		return diffNewZeros
	case k.File && k.Drop:
		return diffNewFile
	case k.Kind == specimen.PagedOut:
		return diffSwapped
	}
	return -1
}

func (c *diffCover) tables() []*diffTable {
	return []*diffTable{c.memory, c.stages, c.counts, c.lengths, c.places, c.pids, c.flags, c.ends}
}

// merge takes in what another worker counted.
func (c *diffCover) merge(o *diffCover) {
	for i, t := range c.tables() {
		for j, n := range o.tables()[i].n {
			t.n[j] += n
		}
	}
	c.calls += o.calls
	c.refused += o.refused
	c.layouts += o.layouts
	c.overlaps += o.overlaps
	c.astray += o.astray
	c.moved += o.moved
}

// print gives the tables, and what is missing from them.
func (c *diffCover) print() (text string, missing []string) {
	var b strings.Builder
	for _, t := range c.tables() {
		t.print(&b, &missing)
	}
	fmt.Fprintf(&b, "%d calls over %d layouts on each side, %d bytes moved, %d calls not permitted\n", c.calls, c.layouts, c.moved, c.refused)
	fmt.Fprintf(&b, "not made: %d whose source and destination overlap, %d that might reach the programs themselves\n", c.overlaps, c.astray)
	return b.String(), missing
}
