// SPDX-License-Identifier: Apache-2.0

package report

import (
	"slices"
	"strings"
	"testing"

	"github.com/remora-go/remora/bench/internal/measure"
)

// guarded gives a row of Remora and others, by which its ratios are times those here.
func guarded(time, cpu, spread float64) *measure.Result {
	wide := func(v, by float64) measure.Spread {
		return measure.Spread{Low: v * (1 - by), Median: v, High: v * (1 + by)}
	}
	sets := func(a, b float64) []measure.Set { return []measure.Set{{Ratio: a, ByCPU: a}, {Ratio: b, ByCPU: b}} }
	return &measure.Result{Group: "g", Name: "r", Rounds: 12, Sides: []measure.SideResult{
		{Name: "Remora"},
		{Name: "Remora, another way", Ratio: wide(1, 0), ByCPU: wide(1, 0), Sets: sets(1, 1)},
		{Name: "rough", Ratio: wide(5*time, 0.5), ByCPU: wide(5*cpu, 0.5), Sets: sets(5, 5)},
		{Name: "another each time", Ratio: wide(2*time, 0), ByCPU: wide(2*cpu, 0), Sets: sets(2, 2.6)},
		{Name: "fine", Ratio: wide(1.2*time, spread), ByCPU: wide(1.2*cpu, 0.01), Sets: sets(1.26, 1.2)},
		{Name: "slow", Ratio: wide(0.1, 0), ByCPU: wide(0.1, 0)},
		{Name: "limit", Other: true, Ratio: wide(3, 0), ByCPU: wide(3, 0), Sets: sets(3, 3)},
	}}
}

func TestCompare(t *testing.T) {
	for _, c := range []struct {
		name                    string
		is                      *measure.Result
		suspect, fallen, steady bool // of the time
		cpu                     bool // fallen, by CPU time
	}{
		{"the same", guarded(1, 1, 0.01), false, false, true, false},
		{"faster", guarded(0.5, 0.5, 0.01), false, false, true, false},
		{"slower by 4 % than the slowest set", guarded(1.09, 1.09, 0.01), false, false, true, false},
		{"slower by 15 % than the slowest set", guarded(1.21, 1.21, 0.01), true, true, true, true},
		{"within a wide spread", guarded(1.16, 1, 0.05), true, false, true, false},
		{"too wide to tell", guarded(1.5, 1, 0.3), false, false, false, false},
		{"disturbed, and slower", guarded(1.5, 1.21, 0.3), false, false, false, true},
		{"waits, and burns nothing", guarded(1.21, 1, 0.01), true, true, true, false},
	} {
		falls, err := Compare(guarded(1, 1, 0.01), c.is)
		if err != nil || len(falls) != 2 || falls[0].Side != "fine" || falls[1].Side != "fine" {
			t.Errorf("%s: %v, %v", c.name, falls, err)
			continue
		}
		f := falls[0]
		if f.Suspect() != c.suspect || f.Fallen() != c.fallen || f.Steady() != c.steady || falls[1].Fallen() != c.cpu {
			t.Errorf("%s: %v and %v", c.name, &f, &falls[1])
		}
	}
}

func TestSteadiest(t *testing.T) {
	if got := Steadiest(guarded(1, 1, 0.01)); !slices.Equal(got, []string{"fine", "fine"}) {
		t.Error(got)
	}
	if got := Steadiest(guarded(1, 1, 0.5)); !slices.Equal(got, []string{"another each time", "fine"}) {
		t.Error(got)
	}
}

func TestCompareWithNobody(t *testing.T) {
	fine := guarded(1, 1, 0.01)
	alone := &measure.Result{Sides: []measure.SideResult{{Name: "Remora"}, {Name: "limit", Other: true}}}
	once := &measure.Result{Sides: []measure.SideResult{{Name: "Remora"}, {Name: "fine", Ratio: fine.Sides[4].Ratio}}}
	for _, c := range []struct {
		was, is *measure.Result
		want    string
	}{
		{alone, alone, "no other side"},
		{once, fine, "in more than one set"},
		{fine, alone, "fine is in the file, and was not measured"},
	} {
		if falls, err := Compare(c.was, c.is); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v and %v, not %q", falls, err, c.want)
		}
	}
}
