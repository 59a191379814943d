// SPDX-License-Identifier: Apache-2.0

package report

import (
	"fmt"
	"math"
	"strings"

	"github.com/remora-go/remora/bench/internal/measure"
)

// floor is by how much a ratio may rise before it is looked at, and beyond the noise before it has
// fallen. Sets of processes of the same build may differ by more: up to 18 % was seen.
const floor = 0.05

// unsteady is how much noise a rise may have at most to tell anything.
const unsteady = 0.1

// Fall is how a row compares with what it was.
type Fall struct {
	Group, Row, Side string
	Of               string // "time" or "CPU time"
	Was, Is          measure.Spread
	Rise             float64 // of the ratio; 0.1: Remora needs a tenth more, by that side
	Noise            float64 // of the rise, by the spreads of both
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
	text := fmt.Sprintf("%s: %s: %s by that of %s: %s, was %s", f.Group, f.Row, f.Of, f.Side, ratio(f.Is), ratio(f.Was))
	if !f.Steady() {
		return text + ": too unsteady to tell"
	}
	return fmt.Sprintf("%s: %+.1f %%, allowed are %.1f %%", text, 100*f.Rise, 100*f.Allowed)
}

// ours tells whether a side is Remora, in whatever way: it is no measure of itself.
func ours(side string) bool { return strings.HasPrefix(side, "Remora") }

// Steadiest gives the sides that a row is held against: of those others that do the same work, the
// one by which the ratio of times is the steadiest, and the one by which that of CPU times is.
func Steadiest(was *measure.Result) (time, cpu string) {
	var best, busy *measure.SideResult
	for i := 1; i < len(was.Sides); i++ {
		s := &was.Sides[i]
		if s.Other || ours(s.Name) { // the latter would fall with it
			continue
		}
		if best == nil || spread(s.Ratio) < spread(best.Ratio) {
			best = s
		}
		if busy == nil || spread(s.ByCPU) < spread(busy.ByCPU) {
			busy = s
		}
	}
	if best == nil {
		return "", ""
	}
	return best.Name, busy.Name
}

// Compare holds a row against what it was: the ratio of times, and that of CPU times, which
// other programs disturb less. Times alone are never compared.
func Compare(was, is *measure.Result) ([]Fall, error) {
	time, cpu := Steadiest(was)
	f := Fall{Group: was.Group, Row: was.Name}
	var all []Fall
	for _, c := range []struct {
		of, side string
		ratio    func(*measure.SideResult) measure.Spread
	}{
		{"time", time, func(s *measure.SideResult) measure.Spread { return s.Ratio }},
		{"CPU time", cpu, func(s *measure.SideResult) measure.Spread { return s.ByCPU }},
	} {
		old, now := was.Side(c.side), is.Side(c.side)
		if old == nil || now == nil {
			return nil, fmt.Errorf("%s: %s: no other side does the same work in both", was.Group, was.Name)
		}
		f.Side = c.side
		f.Of, f.Was, f.Is = c.of, c.ratio(old), c.ratio(now)
		f.Rise = f.Is.Median/f.Was.Median - 1
		f.Noise = 3 * math.Hypot(doubt(f.Was, was.Rounds), doubt(f.Is, is.Rounds))
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
