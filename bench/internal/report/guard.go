// SPDX-License-Identifier: Apache-2.0

package report

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/remora-go/remora/bench/internal/measure"
)

// floor is by how much a ratio may rise above that of the slowest set of processes before it is
// looked at, and beyond the noise before it has fallen. One set tells little: of the same build
// two may differ by 18 %.
const floor = 0.05

// unsteady is how much noise a rise may have at most to tell anything.
const unsteady = 0.1

// Fall is how a row compares with what it was.
type Fall struct {
	Group, Row, Side string
	Of               string // "time" or "CPU time"
	Was, Is          measure.Spread
	Slowest          float64 // of the sets of processes that Was is one of
	Rise             float64 // of the ratio above Slowest; 0.1: Remora needs a tenth more, by that side
	Noise            float64 // of the rise, by the spread of what it is
	Allowed          float64
}

// Suspect tells whether the row is to be measured again.
func (f *Fall) Suspect() bool { return f.Steady() && f.Rise > floor }

// Fallen tells whether the row fell by more than its spread.
func (f *Fall) Fallen() bool { return f.Steady() && f.Rise > f.Allowed }

// Steady tells whether the comparison tells anything.
func (f *Fall) Steady() bool { return f.Noise <= unsteady }

// String tells it in a line.
func (f *Fall) String() string {
	text := fmt.Sprintf("%s: %s: %s by that of %s: %s, was %s, at most %s",
		f.Group, f.Row, f.Of, f.Side, ratio(f.Is), ratio(f.Was), number(f.Slowest))
	if !f.Steady() {
		return text + ": too unsteady to tell"
	}
	return fmt.Sprintf("%s: %+.1f %%, allowed are %.1f %%", text, 100*f.Rise, 100*f.Allowed)
}

// ours tells whether a side is Remora, in whatever way: it is no measure of itself.
func ours(side string) bool { return strings.HasPrefix(side, "Remora") }

// yardstick is a kind of ratio that a row has by each side.
type yardstick struct {
	of    string
	was   func(*measure.SideResult) measure.Spread
	inSet func(measure.Set) float64
}

// yardsticks gives both: ratios of times, and those of CPU times, which other programs disturb less.
func yardsticks() [2]yardstick {
	return [2]yardstick{
		{"time", func(s *measure.SideResult) measure.Spread { return s.Ratio }, func(s measure.Set) float64 { return s.Ratio }},
		{"CPU time", func(s *measure.SideResult) measure.Spread { return s.ByCPU }, func(s measure.Set) float64 { return s.ByCPU }},
	}
}

// sets gives the ratios by a side of all sets of processes.
func (y *yardstick) sets(s *measure.SideResult) []float64 {
	all := []float64{y.was(s).Median}
	for _, set := range s.Sets {
		all = append(all, y.inSet(set))
	}
	return all
}

// steadiest gives the side by which the ratio is the steadiest, over sets of processes and
// within one, or nil.
func (y *yardstick) steadiest(was *measure.Result) (best *measure.SideResult) {
	least := math.Inf(1)
	for _, name := range Comparable(was) {
		s := was.Side(name)
		if len(s.Sets) == 0 {
			continue
		}
		all := y.sets(s)
		if unrest := slices.Max(all)/slices.Min(all) - 1 + 3*doubt(y.was(s), was.Rounds); unrest < least {
			best, least = s, unrest
		}
	}
	return best
}

// Comparable gives the sides that a row could be held against: those others that do the same work.
func Comparable(r *measure.Result) (names []string) {
	for i, s := range r.Sides {
		if i > 0 && !s.Other && !ours(s.Name) { // the latter would fall with it
			names = append(names, s.Name)
		}
	}
	return names
}

// Steadiest gives the sides that a row is held against: the one by which the ratio of times is the
// steadiest, and the one by which that of CPU times is.
func Steadiest(was *measure.Result) (names []string) {
	for _, y := range yardsticks() {
		if s := y.steadiest(was); s != nil {
			names = append(names, s.Name)
		}
	}
	return names
}

// Compare holds a row against what it was: the ratio of times, and that of CPU times. Times
// alone are never compared.
func Compare(was, is *measure.Result) (all []Fall, err error) {
	for _, y := range yardsticks() {
		old := y.steadiest(was)
		if old == nil {
			return nil, fmt.Errorf("%s: %s: the file has no other side that did the same work in more than one set of processes", was.Group, was.Name)
		}
		now := is.Side(old.Name)
		if now == nil {
			return nil, fmt.Errorf("%s: %s: %s is in the file, and was not measured", was.Group, was.Name, old.Name)
		}
		f := Fall{Group: was.Group, Row: was.Name, Side: old.Name, Of: y.of, Was: y.was(old), Is: y.was(now), Slowest: slices.Max(y.sets(old))}
		f.Rise = f.Is.Median/f.Slowest - 1
		f.Noise = 3 * doubt(f.Is, is.Rounds) // that of what it was is in Slowest
		f.Allowed = floor + f.Noise
		all = append(all, f)
	}
	return all, nil
}

// doubt gives the standard error of the median of so many rounds, by the median.
func doubt(s measure.Spread, rounds int) float64 {
	const ofQuartiles, ofMedian = 0.6745, 1.2533 // of a normal distribution
	return ofMedian / ofQuartiles * spread(s) / math.Sqrt(float64(max(rounds, 1)))
}

// spread gives half the way between the quartiles, by the middle.
func spread(s measure.Spread) float64 { return (s.High - s.Low) / 2 / s.Median }
