// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/bench/internal/measure"
	"github.com/remora-go/remora/internal/testneed"
)

// TestLiveSides has the sides in C and in Go do some of the work, and tell the same of it.
func TestLiveSides(t *testing.T) {
	if _, err := exec.LookPath("cc"); err != nil {
		testneed.Lacks(t, "needs the program cc")
	}
	s := &site{}
	defer func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	}()
	l := &live{site: s, page: 4096, programs: map[string]*measure.Program{}}
	err := l.layOut(mib)
	if err != nil {
		t.Fatal(err)
	}
	if l.programs["C"], err = l.compiled("live.c", "-pthread"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"remora", "remora-unchecked", "x/sys"} {
		if l.programs[name], err = l.player(name); err != nil {
			t.Fatal(err)
		}
	}
	area, err := l.whole(32 * mib)
	if err != nil {
		t.Fatal(err)
	}
	holes, err := l.holed()
	if err != nil {
		t.Fatal(err)
	}
	file, err := l.listed(holes)
	if err != nil {
		t.Fatal(err)
	}
	all := []string{byRemora, byUnchecked, byVM, byVMWrite, byEach, byMem, byMemEach, byPages, byXSys}
	for kind, args := range map[string]string{
		"read": at(l.private, 70000), "write": at(l.private, 5000), "ranges": file,
		"space": at(area, int64(area.Size)), "sparse": at(area, int64(area.Size)), "start": at(l.private, 8),
	} {
		r := measure.Row{Name: kind, Sides: l.sides(kind, args, all...)}
		res, err := measure.Measure(&r, measure.Options{Rounds: 10, Each: time.Microsecond})
		if err != nil {
			t.Error(err)
			continue
		}
		if len(res.Sides) < 2 {
			t.Errorf("%s: %d sides", kind, len(res.Sides))
		}
	}
	two := measure.Row{Name: "two", Sides: append(l.sides("ranges", file, byRemora), append(l.sides("ranges", file+" 2", byRemora, byVM), l.sides("ranges", file, byVM)...)...)}
	if _, err := measure.Measure(&two, measure.Options{Rounds: 10, Each: time.Microsecond}); err != nil {
		t.Error(err)
	}
}

func TestRawGoal(t *testing.T) {
	if g := rawGoal(4*kib, "C"); g.Ratio != 1 || g.Plus != 250*time.Nanosecond {
		t.Errorf("of 4 KiB: %v", g)
	}
	if g := rawGoal(64*kib, "C"); g.Ratio != 1.03 || g.Plus != 0 {
		t.Errorf("of 64 KiB: %v", g)
	}
}

func TestOnPages(t *testing.T) {
	area := remora.Range{Start: 1 << 20, Size: 64 << 12}
	for _, perPage := range []int{1, 4, 64} {
		got := onPages(area, 4096, 64, perPage)
		pages := map[remora.Addr]int{}
		for _, a := range got {
			if a < area.Start || a+word-1 > area.Last() || a%word != 0 {
				t.Fatalf("%v is not a word of %v", a, area)
			}
			pages[a&^0xfff]++
		}
		slices.Sort(got)
		if len(slices.Compact(got)) != 64 || len(pages) != 64/perPage {
			t.Errorf("%d a page: %d words on %d pages", perPage, len(got), len(pages))
		}
	}
}

func TestInWords(t *testing.T) {
	for n, want := range map[int64]string{8: "8 B", 4 * kib: "4 KiB", 1500: "1500 B", 256 * mib: "256 MiB", 64 * gib: "64 GiB"} {
		if got := inWords(n); got != want {
			t.Errorf("%d is %q, not %q", n, got, want)
		}
	}
}
