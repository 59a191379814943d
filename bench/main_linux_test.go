// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/remora-go/remora/bench/internal/measure"
	"github.com/remora-go/remora/bench/internal/report"
	"github.com/remora-go/remora/internal/specimen"
)

func TestMain(m *testing.M) {
	specimen.Main()
	if len(os.Args) > 2 && os.Args[1] == "-play" { // a player is this program, too
		if err := serve(os.Args[2], ""); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// clockwork is a side that takes the time it is said to take.
type clockwork struct {
	digest string
	each   time.Duration
}

func (c clockwork) Digest(string) (string, error) { return c.digest, nil }
func (c clockwork) Place([]int) error             { return nil }

func (c clockwork) Run(_ string, n int) (measure.Cost, error) {
	return measure.Cost{Wall: c.each * time.Duration(n), CPU: c.each * time.Duration(n), Peak: 1 << 20, Allocs: -1}, nil
}

// race gives a row of Remora, which takes so long, and somebody who takes 1 ms.
func race(name, digest string, ours time.Duration) measure.Row {
	return measure.Row{Name: name, Work: "nothing", Guard: true, Sides: []measure.Side{
		{Name: "Remora", How: "as it is", By: clockwork{"same", ours}}, {Name: "C", How: "as it is", By: clockwork{digest, time.Millisecond}},
	}}
}

// fixed gives groups of those rows, and one that cannot be laid out.
func fixed(rows ...measure.Row) []group {
	return []group{
		{name: "fine", open: func(s *site) ([]measure.Row, error) {
			s.value(measure.Value{Name: "size", Value: 7})
			return rows, nil
		}},
		{name: "lost", open: func(s *site) ([]measure.Row, error) { s.Fatal("no such laboratory"); return nil, nil }},
	}
}

// TestReportKeepsWhatThereIs wants failures listed, and all else in place.
func TestReportKeepsWhatThereIs(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "docs")
	b := &bench{Options: measure.Options{Rounds: 10, Each: time.Millisecond}}
	err := b.report(fixed(race("one", "same", 2*time.Millisecond), race("two", "other", 1), race("three", "same", 1)), dir)
	if err == nil || !strings.Contains(err.Error(), "2 rows or groups have failed") {
		t.Errorf("the error is %v", err)
	}
	f, err := report.Load(filepath.Join(dir, "benchmarks.json"))
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Rows) != 2 || f.Row("fine", "one") == nil || f.Row("fine", "three") == nil || len(f.Values) != 1 || f.Values[0].Group != "fine" {
		t.Errorf("what is kept: %+v", f)
	}
	if r := f.Row("fine", "one"); r != nil && r.Sides[1].Ratio.Median != 2 {
		t.Errorf("the ratio is %v", r.Sides[1].Ratio)
	}
	if r := f.Row("fine", "one"); r != nil && (len(r.Sides[0].Sets) > 0 || !slices.Equal(r.Sides[1].Sets, slices.Repeat([]measure.Set{{Ratio: 2, ByCPU: 2}}, moreSets))) {
		t.Errorf("more sets: %+v", r.Sides)
	}
	want := []report.Failure{
		{Group: "fine", Row: "two", Why: "two: the outputs differ: Remora has same, C has other"},
		{Group: "lost", Why: "no such laboratory"},
	}
	for i, w := range want {
		if len(f.Failed) != len(want) || f.Failed[i] != w {
			t.Fatalf("failed: %+v, not %+v", f.Failed, want)
		}
	}
	page, err := os.ReadFile(filepath.Join(dir, "benchmarks.md"))
	if err != nil || string(page) != report.Markdown(f) {
		t.Errorf("the page is not that of the results (%v)", err)
	}
}

// TestCheck wants a row that has fallen told, and no other.
func TestCheck(t *testing.T) {
	f := &report.File{}
	for _, name := range []string{"one", "two"} {
		r := race(name, "same", 2*time.Millisecond)
		r.Group = "fine"
		res, err := measure.Measure(&r, measure.Options{Rounds: 10, Each: time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		res.AddSet(res)
		f.Rows = append(f.Rows, res)
	}
	for _, c := range []struct {
		one, two time.Duration
		want     string
	}{
		{2 * time.Millisecond, 2 * time.Millisecond, ""},
		{time.Millisecond, 2050 * time.Microsecond, ""},
		{2 * time.Millisecond, 2300 * time.Microsecond, "two"},
		{3 * time.Millisecond, 4 * time.Millisecond, "one two"},
	} {
		b := &bench{quiet: true}
		rows := func() []group { return fixed(race("one", "same", c.one), race("two", "same", c.two)) }
		fallen, err := b.fallen(rows(), f, false)
		if err != nil {
			t.Fatal(err)
		}
		if some, err := b.fallen(rows(), f, true); err != nil || (len(some) > 0) != (c.want != "") {
			t.Errorf("with %v and %v, if one is enough: %v (%v)", c.one, c.two, some, err)
		}
		var got []string
		for _, r := range fallen {
			got = append(got, r.Name)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("with %v and %v: %q, not %q", c.one, c.two, got, c.want)
		}
	}
	b := &bench{quiet: true}
	if _, err := b.fallen(fixed(race("one", "same", 1)), f, false); err == nil {
		t.Error("a row is gone, and that is no error")
	}
	if _, err := b.fallen(fixed()[1:], f, false); err == nil {
		t.Error("a group is gone, and that is no error")
	}
	if _, err := b.fallen(fixed(), &report.File{}, false); err == nil {
		t.Error("there is nothing to hold against, and that is no error")
	}
}

func TestUnlike(t *testing.T) {
	facts := func(cpu, memory string) []report.Fact {
		return []report.Fact{{Name: "processor", Is: cpu}, {Name: "memory", Is: memory}}
	}
	if got := unlike(facts("a", "1"), facts("a", "2")); len(got) > 0 {
		t.Error(got)
	}
	if got := unlike(facts("a", "1"), facts("b", "2")); !slices.Equal(got, []string{"processor was a, and is b"}) {
		t.Error(got)
	}
}

// TestQuick wants those sides that a row could be held against and that do not take long where
// another does not.
func TestQuick(t *testing.T) {
	side := func(name string, wall time.Duration) measure.SideResult {
		return measure.SideResult{Name: name, Wall: measure.Spread{Median: float64(wall)}}
	}
	limit, busy := side("limit", 1), side("busy", 2)
	limit.Other, busy.CPU = true, 5
	for want, others := range map[string][]measure.SideResult{
		"a b":  {side("a", 1), busy, side("b", 10*time.Millisecond), side("c", 11*time.Millisecond), limit},
		"b":    {side("a", 3*time.Second), side("b", 2*time.Second), side("Remora", 1)},
		"busy": {busy, side("c", time.Second)},
		"":     {limit},
	} {
		r := &measure.Result{Sides: append([]measure.SideResult{side("Remora", 1)}, others...)}
		if got := strings.Join(quick(r), " "); got != want {
			t.Errorf("%q, not %q", got, want)
		}
	}
}

func TestOpenGroups(t *testing.T) {
	for _, c := range []struct {
		only, group string
		want        bool
	}{{"", "own cost", true}, {"own cost: start", "own cost", true}, {"own cost", "live process", false}, {"growth: 1", "own cost", true}} {
		if got := (&bench{only: c.only}).open(c.group); got != c.want {
			t.Errorf("%q opens %q: %v", c.only, c.group, got)
		}
	}
}

func TestPlainHow(t *testing.T) {
	s := &site{dir: "/tmp/bench-1"}
	for in, want := range map[string]string{
		"/tmp/bench-1/22/remora ps IMAGE": "remora ps IMAGE", "gdb -x /tmp/bench-1/3/peers/a.py": "gdb -x a.py", "/bin/true": "/bin/true",
		"cc: /tmp/bench-1/2/a.c:1: no\n/tmp/bench-1/2/a.c:2: no/yes": "cc: a.c:1: no\na.c:2: no/yes",
	} {
		if got := s.plain(in); got != want {
			t.Errorf("%q is %q, not %q", in, got, want)
		}
	}
	if err := s.scrub(errors.New("open /tmp/bench-1/22/image: no")); err.Error() != "open image: no" {
		t.Error(err)
	}
}

// TestOwnCost counts allocations and imports, as the group does.
func TestOwnCost(t *testing.T) {
	s := &site{}
	defer func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	}()
	if err := errors.Join(s.allocations(), s.imports()); err != nil {
		t.Fatal(err)
	}
	limited := 0
	for _, v := range s.values {
		if v.Limit == nil {
			continue
		}
		limited++
		if !v.Met() {
			t.Errorf("%s: %v, at most %v", v.Name, v.Value, *v.Limit)
		}
	}
	if limited != 9 {
		t.Errorf("%d values with a limit, not 9: %+v", limited, s.values)
	}
	kept := [][]byte{}
	if n, err := mallocs(func() error { kept = append(kept[:0], make([]byte, 100)); return nil }); err != nil || n < 1 {
		t.Errorf("%v allocations, %v", n, err)
	}
}

func TestMachine(t *testing.T) {
	for _, f := range append(machine(), versions()...) {
		if f.Name == "" || f.Is == "" || strings.Contains(f.Is, "\n") {
			t.Errorf("%+v", f)
		}
	}
	if got := opening("\n  \n one \n two"); got != "one" {
		t.Errorf("%q", got)
	}
}

// TestKeep wants a directory filled once, and not taken for full when that has failed.
func TestKeep(t *testing.T) {
	k := &kept{}
	times := 0
	fill := func(err error) func(string) error {
		return func(dir string) error {
			times++
			return errors.Join(err, os.WriteFile(filepath.Join(dir, "file"), nil, 0o600))
		}
	}
	if _, err := (&site{kept: k}).keep("name", fill(errors.ErrUnsupported)); err == nil {
		t.Error("no error")
	}
	for range 2 { // of two sites
		s := &site{kept: k}
		dir, err := s.keep("name", fill(nil))
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, "file")
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
		if got := s.plain("cat " + path); got != "cat file" {
			t.Errorf("%q", got)
		}
	}
	if times != 2 {
		t.Errorf("filled %d times, once in vain", times)
	}
	if err := k.close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(k.dir); err == nil {
		t.Error("it is still there")
	}
}

func TestWants(t *testing.T) {
	if s := (&site{}); !s.wants("ps") {
		t.Error("any row is wanted")
	}
	if s := (&site{rows: []string{"read", "ps of a guest"}}); !s.wants("ps") || s.wants("a guest") {
		t.Error("what begins so is wanted")
	}
}
