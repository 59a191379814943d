// SPDX-License-Identifier: Apache-2.0

//go:build amd64

package processvm

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/specimen"
)

// The stages of a call, in the order in which the kernel comes to them (R19): each is
// a reason for an end of the call, which hides all later ones.
const (
	diffFlags = iota
	diffLocalCount
	diffLocalLength
	diffLocalArray
	diffLocalRange
	diffLocalZero
	diffRemoteCount
	diffRemoteLength
	diffRemoteArray
	diffRemoteZero
	diffNobody
	diffTransfer // the first remote page cannot be accessed, or the first local one
	diffStages
)

var diffStageNames = [...]string{"flags", "local count", "local length", "local array", "local range", "local total 0",
	"remote count", "remote length", "remote array", "remote total 0", "no process", "transfer"}

// diffErrnos are what a call comes to that ends at a stage.
var diffErrnos = [...]uint64{22, 22, 22, 14, 14, 0, 22, 22, 14, 0, 3, 14}

// diffCall is one call, and what it is meant to be.
type diffCall struct {
	specimen.VMCall
	stores []specimen.Store
	target *diffSide // nil: pid is nobody's
	faults uint      // stages that were made to happen, by bit
	asIs   bool      // an array is what the memory holds

	// Rows of the tables of the coverage.
	pid, flags   int
	count, place [2]int // local and remote

	vec      [2][]Iovec // as the caller's memory holds them, as far as they can be read
	long     bool       // meant to move more pages than are pinned at once
	ownArray bool       // the transfer changes the arrays that say what it is
	moved    uint64
	errno    uint64
}

// diffGen makes calls at random.
type diffGen struct {
	rnd    *rand.Rand
	caller *diffSide
	target *diffSide
	ids    diffIDs
	large  bool
	c      diffCall
	drawn  [2][]Iovec
	budget uint64 // bytes that this call may still move
}

const (
	diffLocal = iota
	diffRemote
)

// side gives the process on one side of the call, and how it is looked at.
func (g *diffGen) side(which int) (*diffSide, diffView) {
	switch {
	case which == diffLocal:
		return g.caller, diffOwn
	case g.c.target != nil:
		return g.c.target, diffSeen
	}
	return g.target, diffSeen
}

// storesTo says whether a side is stored to.
func (g *diffGen) storesTo(which int) bool { return g.c.Write == (which == diffRemote) }

// next makes a call.
func (g *diffGen) next() *diffCall {
	c := &g.c
	*c = diffCall{stores: c.stores[:0], vec: [2][]Iovec{c.vec[0][:0], c.vec[1][:0]}}
	c.Write = g.rnd.IntN(2) == 0
	c.faults = g.chooseFaults()
	g.budget = 192 << 10
	if c.long = g.large && c.faults == 0 && g.rnd.IntN(4) == 0; c.long {
		g.budget = 8 << 20
	}
	g.choosePid()
	if c.faults&(1<<diffFlags) != 0 {
		c.flags = 1 + g.rnd.IntN(len(diffFlagRows)-1)
	}
	c.Flags = g.flagBits(c.flags)
	for which := range 2 {
		g.vector(which)
	}
	return c
}

// chooseFaults chooses the stages at which something is wrong.
func (g *diffGen) chooseFaults() uint {
	n := 0
	switch k := g.rnd.IntN(100); {
	case k < 44:
		return 0
	case k < 50:
		return 1 << diffNobody
	case k < 53:
		return 1 << diffLocalArray
	case k < 56:
		return 1 << diffRemoteArray
	case k < 66:
		n = 1
	case k < 91:
		n = 2
	default:
		n = 3
	}
	var all uint
	for range n {
		all |= 1 << g.rnd.IntN(diffStages)
	}
	return all
}

// has says whether something is to be wrong at a stage.
func (c *diffCall) has(stage int) bool { return c.faults&(1<<stage) != 0 }

// hasFor is has for a stage that both sides have, named by that of the local side.
func (c *diffCall) hasFor(stage, which int) bool {
	if which == diffLocal {
		return c.has(stage)
	}
	switch stage {
	case diffLocalCount:
		return c.has(diffRemoteCount)
	case diffLocalLength:
		return c.has(diffRemoteLength)
	case diffLocalArray:
		return c.has(diffRemoteArray)
	case diffLocalZero:
		return c.has(diffRemoteZero)
	}
	return false
}

var diffFlagRows = [...]string{"0", "1", "2^31", "2^32", "2^63", "all", "any"}

func (g *diffGen) flagBits(row int) uint64 {
	if row == len(diffFlagRows)-1 {
		return g.rnd.Uint64() | 1<<g.rnd.IntN(64)
	}
	return [...]uint64{0, 1, 1 << 31, 1 << 32, 1 << 63, ^uint64(0)}[row]
}

// vector makes one side's vector, and puts it where the call takes it from.
func (g *diffGen) vector(which int) {
	c := &g.c
	if g.rnd.IntN(40) == 0 && c.faults&^(1<<diffFlags|1<<diffNobody) == 0 && !c.long {
		g.asItIs(which)
		return
	}
	n, count := g.elements(which)
	vec := g.drawn[which][:0]
	at := g.faultAt(which, n)
	for i := range n {
		vec = append(vec, g.element(which, i == at, n))
	}
	if c.long && n > 0 {
		vec[g.rnd.IntN(min(n, 3))] = g.longElement(which)
	}
	g.drawn[which] = vec
	readable := n
	if c.hasFor(diffLocalArray, which) {
		readable = g.rnd.IntN(n) * g.rnd.IntN(2)
	}
	g.spoil(which, vec, readable)
	g.put(which, vec, count, readable)
}

// countHigh is the row of counts whose lower 32 bits are a count that is possible.
const countHigh = 8

var diffCountRows = [...]string{"0", "1", "2 to 8", "9 to 64", "65 to 1023", "1024", "1025 to 1100", "k*2^32",
	"k*2^32+n", "k*2^32+n, n > 1024", "from 2^63"}

// elements chooses how many elements a vector has, and what the register says.
func (g *diffGen) elements(which int) (n int, count uint64) {
	c, rnd := &g.c, g.rnd
	row := 0
	bad := c.hasFor(diffLocalCount, which)
	none := c.hasFor(diffLocalZero, which) && !bad && !c.hasFor(diffLocalLength, which) && !c.hasFor(diffLocalArray, which) &&
		!(which == diffLocal && c.has(diffLocalRange)) && rnd.IntN(3) == 0
	k := uint64(1+rnd.IntN(1<<20)) << 32
	n = []int{1, 2 + rnd.IntN(7), 9 + rnd.IntN(56), 65 + rnd.IntN(959), 1024}[pick(rnd, 30, 45, 18, 6, 1)]
	switch {
	case none:
		n, count, row = 0, 0, 0
		if which == diffLocal && rnd.IntN(2) == 0 {
			count, row = k, 7
		}
	case bad && which == diffLocal:
		row = []int{6, 9, 10}[rnd.IntN(3)]
		n = g.tooMany(row, n)
		count = map[int]uint64{6: uint64(max(n, 1025+rnd.IntN(76))), 9: k + 1025 + uint64(rnd.IntN(1<<31)), 10: ^uint64(rnd.IntN(100))}[row]
	case bad:
		row = []int{6, 7, 8, 9, 10}[rnd.IntN(5)]
		n = g.tooMany(row, n)
		count = map[int]uint64{6: uint64(max(n, 1025+rnd.IntN(76))), 7: k, 8: k + uint64(n), 9: k + 1025, 10: 1<<63 + uint64(rnd.IntN(2)*n)}[row]
	default:
		count = uint64(n)
		switch {
		case n == 1024:
			row = 5
		case n > 64:
			row = 4
		case n > 8:
			row = 3
		case n > 1:
			row = 2
		default:
			row = 1
		}
		if which == diffLocal && rnd.IntN(16) == 0 { // R3
			count, row = count+k, countHigh
			if rnd.IntN(4) == 0 {
				count, row = count|1<<63, 10
			}
		}
	}
	c.count[which] = row
	return n, count
}

// tooMany says how many elements are really there if there are too many: all, so that
// nothing but their number is wrong, or a few.
func (g *diffGen) tooMany(row, n int) int {
	if row == 6 && g.rnd.IntN(2) == 0 {
		return 1025 + g.rnd.IntN(76)*g.rnd.IntN(2)
	}
	return min(n, 8)
}

// pick chooses a number with the weights given.
func pick(rnd *rand.Rand, weights ...int) int {
	sum := 0
	for _, w := range weights {
		sum += w
	}
	n := rnd.IntN(sum)
	for i, w := range weights {
		if n -= w; n < 0 {
			return i
		}
	}
	panic("unreachable")
}

// faultAt chooses the element at which the transfer stops, if at any.
func (g *diffGen) faultAt(which, n int) int {
	c := &g.c
	switch {
	case n == 0:
		return -1
	case c.has(diffTransfer):
		return 0
	case c.long:
		return -1 + g.rnd.IntN(2)*n // none, or the one behind the last
	}
	return []int{-1, 0, g.rnd.IntN(n), g.rnd.IntN(min(n, 4))}[pick(g.rnd, 60, 8, 20, 12)]
}

// spoil makes wrong in a vector what is to be wrong. Only the first readable elements
// will be read.
func (g *diffGen) spoil(which int, vec []Iovec, readable int) {
	c, rnd := &g.c, g.rnd
	if c.hasFor(diffLocalZero, which) {
		for i := range vec {
			vec[i].Len = 0
		}
	}
	if which == diffLocal && c.has(diffLocalRange) && len(vec) > 0 {
		i := rnd.IntN(len(vec))
		vec[i] = g.outOfRange(vec[i], len(vec) == 1)
	}
	if c.hasFor(diffLocalLength, which) && len(vec) > 0 {
		i := rnd.IntN(max(readable, 1))
		vec[i].Len = []uint64{1 << 63, 1<<63 + uint64(rnd.IntN(9000)), ^uint64(0), ^uint64(rnd.IntN(5000))}[rnd.IntN(4)]
	}
}

// outOfRange makes an element that no caller may name.
func (g *diffGen) outOfRange(v Iovec, alone bool) Iovec {
	limit := uint64(g.caller.limit)
	switch k := g.rnd.IntN(6); {
	case k == 0 && !alone: // it begins where it may
		return Iovec{v.Base, 1<<63 - 1 - uint64(g.rnd.IntN(5000)*g.rnd.IntN(2))}
	case k == 1:
		return Iovec{limit - 1 - uint64(g.rnd.IntN(diffPage)), diffPage + uint64(g.rnd.IntN(100)) + 1}
	case k == 2:
		return Iovec{limit - uint64(g.rnd.IntN(100)), 101}
	}
	if g.rnd.IntN(4) == 0 {
		v.Len = 0 // R9
	}
	return Iovec{uint64(g.wild(g.caller, []int{diffTop, diffOdd, diffKernel, diffEnd}[g.rnd.IntN(4)], true)), v.Len}
}

// encode gives a vector as it is in memory.
func encode(vec []Iovec) []byte {
	out := make([]byte, 0, 16*len(vec))
	for _, v := range vec {
		out = binary.LittleEndian.AppendUint64(out, v.Base)
		out = binary.LittleEndian.AppendUint64(out, v.Len)
	}
	return out
}

// describe tells the call.
func (c *diffCall) describe(g *diffGen) string {
	verb := "readv"
	if c.Write {
		verb = "writev"
	}
	text := fmt.Sprintf("%s(%#x, %#x, %#x, %#x, %#x, %#x), pid: %s, meant: %v", verb, c.Pid, c.Local, c.LocalCount, c.Remote, c.RemoteCount, c.Flags,
		diffPidRows[c.pid], c.meant())
	for which, name := range []string{"local", "remote"} {
		side, _ := g.side(which)
		for i, v := range c.vec[which] {
			if i == 8 {
				text += "\n  ..."
				break
			}
			text += fmt.Sprintf("\n  %s %d: %#x+%#x (%s)", name, i, v.Base, v.Len, diffRowName(side.row(remora.Addr(v.Base))))
		}
	}
	return text
}

func (c *diffCall) meant() (names []string) {
	for stage, name := range diffStageNames {
		if c.has(stage) {
			names = append(names, name)
		}
	}
	return names
}
