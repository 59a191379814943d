// SPDX-License-Identifier: Apache-2.0

//go:build amd64

package processvm

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/remora-go/remora"
)

// diffIDs are the processes that a call may name besides the two with a layout.
type diffIDs struct {
	callerThread int
	targetThread int
	zombie       int
	kernel       int // a thread of the kernel's: 2, or 0 where that is none
}

// mostPid is the largest number that a process can have (PID_MAX_LIMIT).
const mostPid = 4194304

var diffPidRows = [...]string{"target", "thread of the target", "target + k*2^32", "the caller itself", "thread of the caller",
	"zombie", "zombie + k*2^32", "ended first thread", "kernel thread", "kernel thread + k*2^32", "0", "k*2^32", "-1 of 32 bits",
	"-1 of 64 bits", "-2^31", "-2^31 of 64 bits", "from 4194305", "that + k*2^32"}

// The rows of diffPidRows.
const (
	pidTarget = iota
	pidThread
	pidTargetHigh
	pidSelf
	pidSelfThread
	pidZombie
	pidZombieHigh
	pidEnded
	pidKernel
	pidKernelHigh
	pidZero
	pidZeroHigh
	pidMinusOne
	pidMinusOneLong
	pidLeast
	pidLeastLong
	pidNone
	pidNoneHigh
)

// choosePid chooses whom the call is about.
func (g *diffGen) choosePid() {
	c, rnd := &g.c, g.rnd
	high := uint64(1+rnd.IntN(1<<31)) << 32
	if !c.has(diffNobody) {
		c.pid = []int{pidTarget, pidThread, pidTargetHigh, pidSelf, pidSelfThread}[pick(rnd, 70, 8, 6, 12, 4)]
		if g.target.ended && c.pid == pidTarget {
			c.pid = pidThread
		}
		c.target = g.target
		switch c.pid {
		case pidSelf:
			c.target, c.Pid = g.caller, uint64(g.caller.task)
		case pidSelfThread:
			c.target, c.Pid = g.caller, uint64(g.ids.callerThread)
		case pidThread:
			c.Pid = uint64(g.ids.targetThread)
		default:
			c.Pid = uint64(g.target.task)
		}
		if c.pid == pidTargetHigh {
			c.Pid |= high
		}
		return
	}
	c.pid = pidZombie + rnd.IntN(len(diffPidRows)-pidZombie)
	switch {
	case g.target.ended && rnd.IntN(4) == 0:
		c.pid = pidEnded
	case c.pid == pidEnded && !g.target.ended, (c.pid == pidKernel || c.pid == pidKernelHigh) && g.ids.kernel == 0:
		c.pid = pidZombie
	}
	c.Pid = [...]uint64{uint64(g.ids.zombie), uint64(g.ids.zombie), uint64(g.target.child.Pid()), uint64(g.ids.kernel),
		uint64(g.ids.kernel), 0, 0, math.MaxUint32, math.MaxUint64, 1 << 31, 0xffff_ffff_8000_0000,
		uint64(mostPid + 1 + rnd.IntN(math.MaxInt32-mostPid)), uint64(mostPid + 1 + rnd.IntN(math.MaxInt32-mostPid))}[c.pid-pidZombie]
	switch c.pid {
	case pidZombieHigh, pidKernelHigh, pidZeroHigh, pidNoneHigh:
		c.Pid |= high
	}
}

// harmless asserts, apart from how the number was chosen, that no process but those of
// this test is named.
func (g *diffGen) harmless(pid uint64) error {
	switch id := int(int32(pid)); {
	case id == g.caller.task, id == g.ids.callerThread, id == g.target.task, id == g.ids.targetThread,
		id == g.target.child.Pid(), id == g.ids.zombie, id == 2 && g.ids.kernel == 2,
		id == 0, id == -1, id == math.MinInt32, id > mostPid:
		return nil
	}
	return fmt.Errorf("the generator has made a call about process %d", int32(pid))
}

// diffKernelThread gives 2 if that is a thread of the kernel's, which has no memory,
// else 0: in a pid namespace it may be anything.
func diffKernelThread() int {
	const flags, kernelThread = 6, 0x00200000 // fields from the state on (proc_pid_stat(5)); PF_KTHREAD
	text, err := os.ReadFile("/proc/2/stat")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	bits, err := strconv.ParseUint(fields[flags], 10, 64)
	if err != nil || bits&kernelThread == 0 {
		return 0
	}
	return 2
}

// read reads both arrays from the model, as far as they can be, for the test to know
// what the call is about: what was meant may have been stored over.
func (g *diffGen) read() error {
	c := &g.c
	for which, a := range [2]uint64{c.Local, c.Remote} {
		n := c.RemoteCount
		if which == diffLocal {
			n = uint64(uint32(c.LocalCount))
		}
		end := g.caller.end(diffOwn, false, remora.Addr(a))
		if n > 1024 || end == 0 {
			continue
		}
		data := make([]byte, min(16*n, uint64(end)-a)&^15)
		if err := g.caller.models[diffOwn].Peek(data, remora.Addr(a)); err != nil {
			return err
		}
		for ; len(data) > 0; data = data[16:] {
			c.vec[which] = append(c.vec[which], Iovec{binary.LittleEndian.Uint64(data), binary.LittleEndian.Uint64(data[8:])})
		}
	}
	return nil
}

// astray says whether the call could get to memory that belongs to no layout: that of
// the programs themselves, or what changes by itself.
func (g *diffGen) astray() bool {
	for which := range 2 {
		side, _ := g.side(which)
		for _, v := range g.c.vec[which] {
			if v.Len == 0 {
				continue
			}
			switch row := side.row(remora.Addr(v.Base)); {
			case row == diffElsewhere:
				return true
			case row == diffVvar && which == diffLocal && !g.storesTo(which):
				return true
			case row == diffVdso && v.Base+v.Len > uint64(side.vdso[0].Last())+1:
				return true
			}
		}
	}
	return false
}

// arrayChanged says whether the call has stored to an array that says what it is.
func (g *diffGen) arrayChanged() bool {
	c := &g.c
	left := c.moved
	for _, v := range c.vec[diffLocal] {
		done := remora.Range{Start: remora.Addr(v.Base), Size: min(v.Len, left)}
		left -= done.Size
		for which, a := range [2]uint64{c.Local, c.Remote} {
			array := remora.Range{Start: remora.Addr(a), Size: uint64(16 * len(c.vec[which]))}
			if !done.Intersect(array).Empty() {
				return true
			}
		}
	}
	return false
}

// span is a run of bytes of an object.
type span struct {
	object     int
	start, end uint64
}

// overlaps says whether, in a transfer within one process, a byte may be both read and
// stored: what comes of that depends on how the processor copies (R33).
func (g *diffGen) overlaps() bool {
	if g.c.target != g.caller {
		return false
	}
	var spans [2][]span
	for which := range 2 {
		for _, v := range g.c.vec[which] {
			spans[which] = g.caller.spans(spans[which], v)
		}
		slices.SortFunc(spans[which], func(a, b span) int {
			return cmp.Or(cmp.Compare(a.object, b.object), cmp.Compare(a.start, b.start))
		})
	}
	ends := map[int]uint64{} // of the remote spans so far
	j := 0
	remote := spans[diffRemote]
	for _, l := range spans[diffLocal] {
		for ; j < len(remote) && (remote[j].object < l.object || remote[j].object == l.object && remote[j].start < l.end); j++ {
			ends[remote[j].object] = max(ends[remote[j].object], remote[j].end)
		}
		if ends[l.object] > l.start {
			return true
		}
	}
	return false
}

// spans adds what an element covers of a layout.
func (s *diffSide) spans(to []span, v Iovec) []span {
	a, n := remora.Addr(v.Base), min(v.Len, 1<<62)
	for n > 0 && s.Contains(a) {
		p := &s.pieces[s.owner[s.page(a)]]
		in := uint64(a - p.Start)
		m := min(n, p.Size-in)
		to = append(to, span{p.object, in, in + m})
		a, n = a+remora.Addr(m), n-m
	}
	return to
}
