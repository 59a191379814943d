// SPDX-License-Identifier: Apache-2.0

package measure

import (
	"testing"
	"time"
)

// result is a row of Remora and two others, the second of which is the faster one.
func result() *Result {
	return &Result{Sides: []SideResult{
		{Name: "Remora", Wall: Spread{Median: 1200}},
		{Name: "A", Wall: Spread{Median: 2000}, Ratio: Spread{Median: 0.6}},
		{Name: "B", Wall: Spread{Median: 1000}, Ratio: Spread{Median: 1.2}},
	}}
}

func TestGoals(t *testing.T) {
	for _, c := range []struct {
		goal  Goal
		text  string
		value float64
		met   bool
	}{
		{Goal{By: []string{"A"}, Ratio: 0.5}, "at most 0.5 of A", 0.6, false},
		{Goal{By: []string{"A", "B"}, Ratio: 1.2}, "at most 1.2 of the fastest of A, B", 1.2, true},
		{Goal{By: []string{"B"}, Ratio: 1, Plus: 250}, "at most 1 of B, and 250ns", 0.95, true},
		{Goal{Plus: time.Microsecond}, "at most 1µs", 1.2, false},
	} {
		v, ok := result().judge(c.goal)
		if !ok || v.Goal != c.text || v.Met() != c.met || v.Value < c.value-1e-9 || v.Value > c.value+1e-9 {
			t.Errorf("%+v: %+v, met: %v", c.goal, v, v.Met())
		}
	}
}

// TestGoalOfNobody wants no verdict where no side is there that Remora is held against.
func TestGoalOfNobody(t *testing.T) {
	if v, ok := result().judge(Goal{By: []string{"C"}, Ratio: 1}); ok {
		t.Errorf("%+v, met: %v", v, v.Met())
	}
}

func TestHigherPeak(t *testing.T) {
	for _, c := range [][3]int64{{1, 2, 2}, {-2, -3, -3}, {-9, 4, 4}, {4, -9, 4}} {
		if got := higher(c[0], c[1]); got != c[2] {
			t.Errorf("of %d and %d: %d", c[0], c[1], got)
		}
	}
}

func TestSpread(t *testing.T) {
	if got, want := SpreadOf([]float64{5, 1, 3, 2, 4}), (Spread{2, 3, 4}); got != want {
		t.Errorf("%v, not %v", got, want)
	}
	if got, want := SpreadOf([]float64{7}), (Spread{7, 7, 7}); got != want {
		t.Errorf("%v, not %v", got, want)
	}
}

func TestValueMet(t *testing.T) {
	limit := 0.0
	for _, c := range []struct {
		v    Value
		want bool
	}{{Value{Value: 5}, true}, {Value{Value: 5, Limit: &limit}, false}, {Value{Limit: &limit}, true}} {
		if c.v.Met() != c.want {
			t.Errorf("%+v: %v", c.v, c.v.Met())
		}
	}
}
