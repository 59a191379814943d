// SPDX-License-Identifier: Apache-2.0

package report

import (
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/remora-go/remora/bench/internal/measure"
)

// around gives a spread of 1 % around a middle.
func around(v float64) measure.Spread {
	return measure.Spread{Low: 0.99 * v, Median: v, High: 1.01 * v}
}

// side gives a side beside which Remora takes 1000 ns.
func side(name string, wall float64) measure.SideResult {
	return measure.SideResult{Name: name, How: "by " + name, Times: 3, Wall: around(wall), Ratio: around(1000 / wall), ByCPU: around(1000 / wall), CPU: wall, Peak: 5 << 20, Allocs: -1}
}

// sample is a file with something of everything.
func sample() *File {
	limit := 0.0
	us := side("Remora", 1000)
	us.Allocs = 2
	other := side("memory", 400)
	other.Other = true
	f := &File{
		Date: "2001-02-03", Took: "1m0s", Command: "make peers", Rounds: 11, Each: 50 * time.Millisecond,
		Machine:  []Fact{{"processor", "an abacus"}},
		Versions: []Fact{{"go", "go9"}},
		Rows: []*measure.Result{{
			Group: livePart, Name: "read 8 B", Work: "a word is read", Bytes: 8, Rounds: 11, Guard: true, Why: "A reason.",
			Sides: []measure.SideResult{us, side("C|c", 800), other},
			Goals: []measure.Verdict{{Goal: "at most 1 of C|c", Value: 1.25, Limit: 1}, {Goal: "at most 2 of C|c", Value: 1.25, Limit: 2}},
		}},
		Values: []measure.Value{{Group: "own", Name: "allocations", How: "counted", Value: 3, Limit: &limit}, {Group: "own", Name: "size", How: "weighed", Value: 3 << 20, Unit: "B"}},
		Failed: []Failure{{Group: "broken", Row: "row", Why: "no <reason>"}},
	}
	for _, x := range []float64{1, 4, 16} {
		s := side("Remora", 1000*x*x)
		f.Rows = append(f.Rows, &measure.Result{Group: livePart, Name: fmt.Sprintf("read more, %g", x), Bytes: int64(16 * x), Series: "ranges", X: x, Sides: []measure.SideResult{s, side("C|c", 500*x)}})
	}
	return f
}

func TestFileComesBack(t *testing.T) {
	data, err := sample().JSON()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "new", "results.json")
	if err := Save(path, data); err != nil {
		t.Fatal(err)
	}
	got, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	again, err := got.JSON()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(data), string(again)); diff != "" {
		t.Errorf("what came back differs (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(sample().Rows[0].Goals, got.Rows[0].Goals); diff != "" || len(got.Values) != 2 || got.Each != 50*time.Millisecond {
		t.Errorf("what came back differs: %+v\n%s", got, diff)
	}
	if n := strings.Count(string(data), "\n"); n < 15 {
		t.Errorf("%d lines: not one for each row", n)
	}
	empty := &File{}
	if data, err = empty.JSON(); err != nil {
		t.Fatal(err)
	}
	if err := Save(path, data); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path); err != nil {
		t.Errorf("a file with nothing in it: %v\n%s", err, data)
	}
}

func TestRound(t *testing.T) {
	for _, c := range [][2]float64{{0, 0}, {1234567, 1234600}, {0.1234567, 0.12346}, {-0.00123456, -0.0012346}, {1, 1}, {99999.6, 100000}} {
		if got := round(c[0]); got != c[1] {
			t.Errorf("round(%v) = %v, not %v", c[0], got, c[1])
		}
	}
}

func TestNumbersForPeople(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{duration(812.4), "812 ns"}, {duration(1234), "1.23 µs"}, {duration(45.6e6), "45.6 ms"}, {duration(2.349e9), "2.35 s"}, {duration(999.7), "1.00 µs"}, {duration(0.5), "0.500 ns"}, {duration(65e9), "65.0 s"}, {duration(4321e9), "4,321 s"},
		{size(12.34 * (1 << 20)), "12.3 MiB"}, {size(100), "100 B"},
		{bandwidth(9630, 1000), "9.63 GB/s"}, {bandwidth(0, 1000), ""}, {bandwidth(8, 1600), "5.00 MB/s"},
		{ratio(measure.Spread{Low: 0.99, Median: 1.012, High: 1.1}), "1.01× [0.990 – 1.10]"}, {ratio(around(0.002)), "0.00200× [0.00198 – 0.00202]"},
		{quartiles(measure.Spread{Low: 990, Median: 1000, High: 1100}), "0.990 – 1.10"},
		{value(66, ""), "66"}, {value(0, ""), "0"}, {value(10, "calls"), "10 calls"}, {value(1<<20, "B"), "1.00 MiB"},
		{memory(-1 << 20), "under 1.00 MiB"}, {memory(0), ""},
		{number(12345), "12,345"}, {number(-1234567), "-1,234,567"},
		{distance(1.01, 1.03), "met, 2 % to spare"}, {distance(0.1, 1), "met, 10 times over"}, {distance(1, 1), "met"}, {distance(0, 0), "met"}, {distance(0, 1), "met"},
		{distance(1.12, 1), "**missed by 12 %**"}, {distance(3, 1), "**missed by a factor of 3**"}, {distance(1, 0), "**missed**"}, {distance(1.001, 1), "**missed by less than 1 %**"},
	} {
		if c.got != c.want {
			t.Errorf("%q, not %q", c.got, c.want)
		}
	}
}

func TestGrowth(t *testing.T) {
	var rows []*measure.Result
	for _, x := range []float64{16, 1, 4} {
		rows = append(rows,
			&measure.Result{Series: "square", X: x, Sides: []measure.SideResult{side("Remora", x*x), side("C", x), side("cube", x*x*x)}},
			&measure.Result{Series: "flat", X: x, Flat: true, Sides: []measure.SideResult{side("Remora", 7)}},
			&measure.Result{Series: "machine", X: x, Sides: []measure.SideResult{side("Remora", math.Pow(x, 1.1)), side("C", math.Pow(x, 1.2)), side("Remora, another way", math.Pow(x, 1.5)/100)}})
	}
	rows = append(rows, &measure.Result{Series: "one point", X: 1, Sides: []measure.SideResult{side("Remora", 1)}}, &measure.Result{})
	want := map[string][2]float64{ // exponent and limit
		"square": {2, 1.05}, "flat": {0, 0.05}, "machine": {1.1, 1.25},
	}
	found := 0
	for _, g := range Growths(rows) {
		if !g.Remora {
			continue
		}
		w := want[g.Series]
		found++
		if math.Abs(g.Exponent-w[0]) > 1e-9 || math.Abs(g.Limit-w[1]) > 1e-9 {
			t.Errorf("%s: exponent %v, at most %v; not %v", g.Series, g.Exponent, g.Limit, w)
		}
		if g.Points[0].X != 1 || g.Points[2].X != 16 {
			t.Errorf("%s: not in order: %v", g.Series, g.Points)
		}
	}
	if found != len(want) {
		t.Errorf("%d series, not %d", found, len(want))
	}
}

// TestPageHidesNothing looks for each row with each side, each value and each failure.
func TestPageHidesNothing(t *testing.T) {
	f := sample()
	page := Markdown(f)
	want := []string{
		"Of 4 goals 1 are met", "- *read 8 B*: a word is read.", "an abacus", "go9", "2001-02-03", "A reason.", "memory | 2.50× [2.48 – 2.52] | A reason.",
		"| broken | row | no &lt;reason> |", "**missed by 25 %**", "met, 38 % to spare",
		"| **allocations** | 3 | counted |", "| **size** | 3.00 MiB | weighed |", "| allocations | at most 0 | 3 | **missed** |",
		"| ranges | **Remora** | 1.00 µs | 16.0 µs | 256 µs | 2.00 | linear or better (exponent at most 1.05): **missed by 90 %** |",
		"benchmarks/live-process-ranges.svg", "benchmarks/bandwidth.svg", "benchmarks/lead-live-process.svg",
	}
	for _, r := range f.Rows {
		want = append(want, "| **"+r.Name+"** | **Remora** |")
		for _, s := range r.Sides {
			want = append(want, cell(s.How), duration(s.Wall.Median))
		}
	}
	for _, w := range want {
		if !strings.Contains(page, w) {
			t.Errorf("the page does not hold %q", w)
		}
	}
	if t.Failed() {
		t.Log(page)
	}
	rows := 0
	for line := range strings.Lines(page) {
		if strings.HasPrefix(line, "| ") && strings.Count(strings.ReplaceAll(line, `\|`, ""), " | ") < 1 {
			t.Errorf("a row of one cell: %s", line)
		}
		if strings.HasPrefix(line, "| **read") {
			rows++
		}
	}
	if rows != len(f.Rows) {
		t.Errorf("%d rows, not %d", rows, len(f.Rows))
	}
}

func TestPageOfNothing(t *testing.T) {
	if page := Markdown(&File{}); !strings.HasPrefix(page, "<!--") || strings.Contains(page, "## Missed") || strings.Contains(page, "## Pictures") {
		t.Error(page)
	}
}

func TestFigureCarriesItsData(t *testing.T) {
	sums := map[string]bool{}
	f := sample()
	for range 2 {
		for _, fig := range Figures(f) {
			sums[Note(&fig)] = true
		}
	}
	if n := len(Figures(f)); n != 3 || len(sums) != n {
		t.Errorf("%d figures, %d digests", n, len(sums))
	}
	f.Rows[1].Sides[1].Wall.Median *= 2
	changed := 0
	for _, fig := range Figures(f) {
		if !sums[Note(&fig)] {
			changed++
		}
	}
	if changed == 0 {
		t.Error("another time gives the same digests")
	}
}
