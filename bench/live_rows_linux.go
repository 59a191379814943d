// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/bench/internal/measure"
	"github.com/remora-go/remora/internal/specimen"
)

const (
	kib = 1 << 10
	mib = 1 << 20
	gib = 1 << 30
)

// inWords gives a number of bytes in words.
func inWords(n int64) string {
	for _, u := range []struct {
		size int64
		name string
	}{{gib, "GiB"}, {mib, "MiB"}, {kib, "KiB"}} {
		if n >= u.size && n%u.size == 0 {
			return fmt.Sprint(n/u.size, " ", u.name)
		}
	}
	return fmt.Sprint(n, " B")
}

// at is what a verb is told of a range.
func at(r remora.Range, size int64) string { return fmt.Sprintf("%#x %d", uint64(r.Start), size) }

const (
	whySmall = "Beside the call itself Remora asks whether the bytes came from the process that was opened, which is one more call; " +
		"/proc/PID/mem is quicker for a few bytes, but passes over protections and makes a stack grow."
	whyBulk = "The kernel looks up, pins and lets go of each page of 4 KiB: some 0.3 us a page more than a copy takes. " +
		"Beside the raw call Remora asks once more, 0.3 us, whether the bytes came from the process that was opened, and Go's runtime wakes a thread now and then."
)

// readRows read one range into memory that was used before.
func (l *live) readRows() ([]measure.Row, error) {
	var rows []measure.Row
	for _, size := range []int{8, 64, 4 * kib, 64 * kib, mib, 16 * mib, 256 * mib} {
		names := []string{byRemora, byVM, byMem, byPages, byXSys}
		why := whyBulk
		if size < 64*kib {
			why = whySmall
			names = []string{byRemora, byUnchecked, byVM, byMem, byXSys}
		}
		if size != 64 && size != 16*mib { // they attach anew each time, which is slow
			names = append(names, byDelve, byGDB)
		}
		rows = append(rows, measure.Row{
			Name: "read " + inWords(int64(size)), Work: "one range is read into memory that was used before", Bytes: int64(size),
			Sides: append(l.sides("read", at(l.private, int64(size)), names...), l.limit(size)),
			Goals: []measure.Goal{rawGoal(size, byVM, byMem, byPages)},
			Guard: size <= mib && size != 64, Why: why, // more comes near to what the caches hold
		})
	}
	return rows, nil
}

// bulkRows read one large range with two threads.
func (l *live) bulkRows() ([]measure.Row, error) {
	var rows []measure.Row
	for _, size := range []int{16 * mib, 256 * mib} {
		two := l.sides("read", at(l.private, int64(size))+" 2", byVM)
		two[0].Name, two[0].How = byVMTwo, "process_vm_readv(2) of one half in each thread"
		sides := append(l.sides("read", at(l.private, int64(size)), byTwo, byVM), two[0], l.limit(size))
		rows = append(rows, measure.Row{
			Name: "read " + inWords(int64(size)) + ", two threads", Work: "one range is read by two threads into memory that was used before", Bytes: int64(size),
			Sides: sides, Wide: true, Why: whyBulk,
			Goals: []measure.Goal{{By: []string{byVM}, Ratio: 1 / 1.35}},
		})
	}
	return rows, nil
}

func (l *live) writeRows() ([]measure.Row, error) {
	area, err := l.mapped(specimen.Touched, 16*mib)
	if err != nil {
		return nil, err
	}
	var rows []measure.Row
	for _, size := range []int{4 * kib, 16 * mib} {
		why := whyBulk
		if size < 64*kib {
			why = "Before a write Remora asks whether the process is the one that was opened, and after it again: two more calls."
		}
		rows = append(rows, measure.Row{
			Name: "write " + inWords(int64(size)), Work: "one range is written; what is there is read back by another way", Bytes: int64(size),
			Sides: append(l.sides("write", at(area, int64(size)), byRemora, byVMWrite, byMem, byXSys, byDelve, byGDB), l.limit(size)),
			Goals: []measure.Goal{rawGoal(size, byVMWrite, byMem)},
			Why:   why,
		})
	}
	return rows, nil
}

// sharedRows read a shared mapping, which Remora can map itself.
func (l *live) sharedRows() ([]measure.Row, error) {
	area, err := l.mapped(specimen.SharedMemory, 16*mib)
	if err != nil {
		return nil, err
	}
	by := func(size int, player, how string) measure.Side {
		return measure.Side{Name: byRemora, How: how, By: l.programs[player], Work: fmt.Sprintf("read %d %s", l.process.Pid(), at(area, int64(size)))}
	}
	row := func(name string, size int, ratio float64, first measure.Side, why string) measure.Row {
		r := measure.Row{
			Name: name, Work: "one range of a memfd is read into memory that was used before", Bytes: int64(size), Why: why,
			Sides: append([]measure.Side{first}, append(l.sides("read", at(area, int64(size)), byVM, byMem), l.limit(size))...),
		}
		if ratio > 0 {
			r.Goals = []measure.Goal{{By: []string{byVM}, Ratio: ratio}}
			r.Guard = size <= mib // a copy of 8 bytes alone is held against no call
		}
		return r
	}
	const mapped = "Memory.ReadV, opened with MapShared"
	return []measure.Row{
		row("read 1 MiB of shared memory", mib, 0.5, by(mib, "remora-shared", mapped), "The copy itself, out of a mapping of Remora's own."),
		row("read 16 MiB of shared memory", 16*mib, 0.5, by(16*mib, "remora-shared", mapped), "The copy itself, out of a mapping of Remora's own."),
		row("read 8 B of shared memory", 8, 0.6, by(8, "remora-shared", mapped), "The mapping in the target is looked up after the copy, which is one call."),
		row("read 8 B of shared memory, unchecked", 8, 0, by(8, "remora-mapped", "Memory.ReadV, opened with MapUnchecked and Unchecked"), "It is a copy in one process."),
	}, nil
}

// interfaceRows read by the other ways that Remora has.
func (l *live) interfaceRows() ([]measure.Row, error) {
	side := func(verb, how string, size int) measure.Side {
		return measure.Side{Name: byRemora, How: how, By: l.programs["remora"], Work: fmt.Sprintf("%s %d %s", verb, l.process.Pid(), at(l.private, int64(size)))}
	}
	row := func(name, verb, how string, size int, goals []measure.Goal, why string) measure.Row {
		return measure.Row{
			Name: name, Work: "one range is read into memory that was used before", Bytes: int64(size), Goals: goals, Why: why,
			Sides: append([]measure.Side{side(verb, how, size)}, l.sides("read", at(l.private, int64(size)), byVM, byMem)...),
		}
	}
	ends := row("read 8 B, a context that can end", "ends", "Memory.ReadV, with a context that can be cancelled", 8, nil,
		"The call is made by a thread of its own, so that it can be left behind: two switches of threads.")
	ends.Wide = true
	const call = "processvm.Readv"
	return []measure.Row{
		row("read 8 B, Force", "force", "Memory.Transfer with Force", 8, nil, "The map is looked up first, which is one more call: a forced read below a stack would make it grow."),
		ends,
		row("read 4 KiB by compat/processvm", "readv", call, 4*kib, []measure.Goal{rawGoal(4*kib, byVM)}, "It is the same call, made from Go."),
		row("read 16 MiB by compat/processvm", "readv", call, 16*mib, []measure.Goal{rawGoal(16*mib, byVM)}, "It is the same call, made from Go."),
		{
			Name: "the engine of compat/processvm, 16 MiB", Work: "bytes move between two address spaces that are kept in one program", Bytes: 16 * mib,
			Sides: []measure.Side{
				{Name: byRemora, How: "System.Readv", By: l.programs["remora"], Work: fmt.Sprint("engine ", 16*mib)},
				l.limit(16 * mib),
			},
			Goals: []measure.Goal{{By: []string{byCopy}, Ratio: 2}},
			Why:   "Each page is found in a table, and copied by itself.",
		},
	}, nil
}

// startRows are what it takes until the first bytes are there.
func (l *live) startRows() ([]measure.Row, error) {
	return []measure.Row{{
		Name: "open, read 8 B, close", Work: "a program that runs begins to read a process, reads one word, and lets go of it",
		Sides: l.sides("start", at(l.private, 8), byRemora, byMem, byDelve, byGDB),
		Why:   "Remora opens a pidfd and three files of /proc, and finds out how the process may be read.",
	}}, nil
}
