// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/bench/internal/measure"
	"github.com/remora-go/remora/bench/internal/play"
	"github.com/remora-go/remora/internal/specimen"
)

// whole lays out what a process of some size has: private memory and shared, what is read
// only and what is no memory at all, in mappings of 16 MiB.
func (l *live) whole(size int) (remora.Range, error) {
	const one = 16 * mib
	kinds := []specimen.Kind{specimen.Touched, specimen.ReadOnly, specimen.Touched, specimen.SharedMemory}
	var pieces []specimen.Piece
	for i := range size / one {
		pieces = append(pieces, specimen.Piece{Kind: kinds[i%len(kinds)], Pages: int(one / int64(l.page))}, specimen.Piece{Kind: specimen.Hole, Pages: 4})
	}
	parts, err := l.process.Layout(pieces...)
	if err != nil {
		return remora.Range{}, err
	}
	first, last := parts[0], parts[len(parts)-1]
	return remora.Range{Start: first.Start, Size: uint64(last.Last()-first.Start) + 1}, nil
}

// spaceRows read a whole address space.
func (l *live) spaceRows() ([]measure.Row, error) {
	area, err := l.whole(gib)
	if err != nil {
		return nil, err
	}
	args := at(area, int64(area.Size))
	return []measure.Row{{
		Name: "all of a process of 1 GiB", Work: "all that is mapped is read, in address order", Bytes: gib, Why: whyBulk,
		Sides: append(l.sides("space", args, byRemora, byVM, byMem, byPages, byXSys, byDelve, byGDB), l.limit(256*mib)),
		Goals: []measure.Goal{rawGoal(gib, byVM, byMem, byPages)},
	}, {
		Name: "all of a process of 1 GiB, two threads", Work: "all that is mapped is read, in address order", Bytes: gib, Why: whyBulk,
		Sides: l.sides("space", args, byTwo, byVM), Wide: true,
		Goals: []measure.Goal{{By: []string{byVM}, Ratio: 1 / 1.35}},
	}}, nil
}

// commandRows are whole commands, from their start to their end: they write memory to a file.
func (l *live) commandRows() ([]measure.Row, error) {
	remora, err := l.command()
	if err != nil {
		return nil, err
	}
	dir := l.TempDir()
	var rows []measure.Row
	for _, size := range []int{8, 256 * mib} {
		start, file := uint64(l.private.Start), filepath.Join(dir, fmt.Sprint("out-", size))
		what := func([]byte) (string, error) {
			data, err := os.ReadFile(file)
			return play.Sum(data), err
		}
		side := func(name, in string, args ...string) measure.Side {
			c := &measure.Command{Args: args, In: in, What: what}
			how := c.How()
			if in != "" {
				how += ", told: " + in
			}
			return measure.Side{Name: name, How: how, By: c}
		}
		rows = append(rows, measure.Row{
			Name: inWords(int64(size)) + " into a file, by commands", Work: "a command attaches, writes a range to a file, and ends", Bytes: int64(size), Wide: true,
			Sides: []measure.Side{
				side(byRemora, "", remora, "read", fmt.Sprint(l.process.Pid()), fmt.Sprintf("%#x+%d", start, size), "--raw", "-o", file),
				side("dd", "", "dd", fmt.Sprintf("if=/proc/%d/mem", l.process.Pid()), "of="+file, "bs=1M", "iflag=skip_bytes,count_bytes", fmt.Sprint("skip=", start), fmt.Sprint("count=", size)),
				side(byGDB, "", "gdb", "-nx", "-batch", "-p", fmt.Sprint(l.process.Pid()), "-ex", fmt.Sprintf("dump binary memory %s %#x %#x", file, start, start+uint64(size))),
				side("scanmem", fmt.Sprintf("dump %x %d %s\nexit\n", start, size, file), "scanmem", "-p", fmt.Sprint(l.process.Pid())),
				{Name: "/bin/true", How: "/bin/true", By: &measure.Command{Args: []string{"/bin/true"}}, Other: true},
			},
			Why: "Writing the file takes the larger part.",
		})
	}
	return rows, nil
}

// sparse maps so many bytes that are never touched but for 64 MiB, in 1,024 runs all over
// them, and gives the area.
func (l *live) sparse(size int64) (remora.Range, error) {
	const one, runs = int64(2 * gib), 1024 // the most that one mapping may be where memory is not promised twice
	var pieces []specimen.Piece
	for range size / one {
		pieces = append(pieces, specimen.Piece{Kind: specimen.Untouched, Pages: int(one / int64(l.page))})
	}
	parts, err := l.process.Layout(pieces...)
	if err != nil {
		return remora.Range{}, err
	}
	area := remora.Range{Start: parts[0].Start, Size: uint64(size)}
	random := rand.New(rand.NewPCG(2, 0))
	data := make([]byte, 64*mib/runs)
	for i := range runs {
		within := uint64(size) / runs
		a := area.Start + remora.Addr(uint64(i)*within+random.Uint64N((within-uint64(len(data)))/l.page)*l.page)
		specimen.Pattern(data, a, 1)
		if err := l.process.Poke(data, a); err != nil {
			return remora.Range{}, err
		}
	}
	return area, nil
}

// sparseRows read what is resident of a process that has reserved far more.
func (l *live) sparseRows() ([]measure.Row, error) {
	var rows []measure.Row
	for _, size := range []int64{4 * gib, 16 * gib, 64 * gib} {
		area, err := l.sparse(size)
		if err != nil {
			return nil, err
		}
		for threads := 1; threads <= 2; threads++ {
			r := measure.Row{
				Name: "64 MiB resident of " + inWords(size), Work: "all that is resident is read: 1,024 runs of 16 pages", Bytes: 64 * mib,
				Sides:  l.sides("sparse", at(area, size), byRemora, byVM, byMem),
				Goals:  []measure.Goal{rawGoal(64*mib, byVM, byMem)},
				Series: "bytes reserved, never touched", X: float64(size), Flat: true,
				Why: "What lies above the raw call is the question after each MiB whether the process is the one that was opened, and Go's runtime. " +
					"gdb, Delve and dd cannot tell what is resident; they would read, and so bring into the process, zeros of all that is reserved.",
			}
			if threads == 2 {
				r.Name, r.Series, r.Wide = r.Name+", two threads", r.Series+", two threads", true
				r.Sides = append(l.sides("sparse", at(area, size)+" 2", byRemora), l.sides("sparse", at(area, size), byVM)...)
				r.Goals = []measure.Goal{{By: []string{byVM}, Ratio: 1 / 1.35}}
			}
			rows = append(rows, r)
		}
	}
	return rows, nil
}

// growthRows are once, four times and sixteen times the work.
func (l *live) growthRows() ([]measure.Row, error) {
	var rows []measure.Row
	for _, n := range []int{1, 4, 16} {
		size := n * 16 * mib
		args := at(l.private, int64(size))
		rows = append(rows,
			measure.Row{
				Name: "growth: " + inWords(int64(size)), Work: "one range is read into memory that was used before", Bytes: int64(size),
				Sides: l.sides("read", args, byRemora, byVM), Series: "bytes", X: float64(size), Goals: []measure.Goal{rawGoal(size, byVM)}, Why: whyBulk,
			},
			measure.Row{
				Name: "growth: " + inWords(int64(size)) + ", two threads", Work: "one range is read by two threads", Bytes: int64(size), Wide: true,
				Sides: l.sides("read", args, byTwo, byVM), Series: "bytes, two threads", X: float64(size), Why: whyBulk,
				Goals: []measure.Goal{{By: []string{byVM}, Ratio: 1 / 1.35}},
			})
		count := n * rangesMany
		file, err := l.listed(onPages(l.private, l.page, count, 1))
		if err != nil {
			return nil, err
		}
		args = file
		two := append(l.sides("ranges", args+" 2", byRemora), l.sides("ranges", args+" 2", byVM)...)
		rows = append(rows,
			measure.Row{
				Name: fmt.Sprintf("growth: %d ranges", count), Work: "ranges of 8 bytes on pages of their own are read", Bytes: int64(word * count),
				Sides: l.sides("ranges", args, byRemora, byVM, byEach), Series: "ranges", X: float64(count), Why: whyRanges,
				Goals: []measure.Goal{{By: []string{byEach}, Ratio: 0.5}},
			},
			measure.Row{
				Name: fmt.Sprintf("growth: %d ranges, two threads", count), Work: "ranges of 8 bytes on pages of their own are read, one half by each thread", Bytes: int64(word * count),
				Sides: two, Wide: true, Series: "ranges, two threads", X: float64(count), Why: whyRanges,
			})
	}
	return rows, nil
}
