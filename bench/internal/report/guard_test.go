// SPDX-License-Identifier: Apache-2.0

package report

import (
	"testing"

	"github.com/remora-go/remora/bench/internal/measure"
)

// guarded gives a row of Remora and two others, by which its ratios are times those here.
func guarded(time, cpu, spread float64) *measure.Result {
	wide := func(v, by float64) measure.Spread {
		return measure.Spread{Low: v * (1 - by), Median: v, High: v * (1 + by)}
	}
	return &measure.Result{Group: "g", Name: "r", Rounds: 12, Sides: []measure.SideResult{
		{Name: "Remora"},
		{Name: "Remora, another way", Ratio: wide(1, 0), ByCPU: wide(1, 0)},
		{Name: "rough", Ratio: wide(5*time, 0.5), ByCPU: wide(5*cpu, 0.5)},
		{Name: "fine", Ratio: wide(1.2*time, spread), ByCPU: wide(1.2*cpu, 0.01)},
		{Name: "limit", Other: true, Ratio: wide(3, 0), ByCPU: wide(3, 0)},
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
		{"slower by 4 %", guarded(1.04, 1.04, 0.01), false, false, true, false},
		{"slower by 15 %", guarded(1.15, 1.15, 0.01), true, true, true, true},
		{"within a wide spread", guarded(1.11, 1, 0.05), true, false, true, false},
		{"too wide to tell", guarded(1.5, 1, 0.3), false, false, false, false},
		{"disturbed, and slower", guarded(1.5, 1.15, 0.3), false, false, false, true},
		{"waits, and burns nothing", guarded(1.15, 1, 0.01), true, true, true, false},
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

func TestCompareWithNobody(t *testing.T) {
	alone := &measure.Result{Sides: []measure.SideResult{{Name: "Remora"}, {Name: "limit", Other: true}}}
	if f, err := Compare(alone, alone); err == nil {
		t.Errorf("%v, and no error", f)
	}
}
