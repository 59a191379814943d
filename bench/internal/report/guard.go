// SPDX-License-Identifier: Apache-2.0

package report

import (
	"fmt"

	"github.com/remora-go/remora/bench/internal/measure"
)

// floor is by how much a ratio may rise before it is looked at: two runs of the same build
// differ by about half of it.
const floor = 0.07

// Fall is how a row compares with what it was.
type Fall struct {
	Group, Row, Side string // the side that is the steadiest
	Was, Is          measure.Spread
	Rise             float64 // of the ratio; 0.1: Remora needs a tenth more, by that side
	Allowed          float64 // by the spreads of both
}

// Suspect tells whether the row is to be measured again.
func (f *Fall) Suspect() bool { return f.Rise > floor }

// Fallen tells whether the row fell by more than its spread.
func (f *Fall) Fallen() bool { return f.Rise > f.Allowed }

// String tells it in a line.
func (f *Fall) String() string {
	return fmt.Sprintf("%s: %s, by %s: %s, was %s: %+.1f %%, of which %.1f %% are allowed",
		f.Group, f.Row, f.Side, ratio(f.Is), ratio(f.Was), 100*f.Rise, 100*f.Allowed)
}

// Compare holds a row against what it was: the ratio to the side that was the steadiest of
// those that do the same work. Times alone are never compared.
func Compare(was, is *measure.Result) (*Fall, error) {
	var best *Fall
	for i := range was.Sides {
		old := &was.Sides[i]
		now := is.Side(old.Name)
		if i == 0 || old.Other || now == nil {
			continue
		}
		f := &Fall{Group: was.Group, Row: was.Name, Side: old.Name, Was: old.Ratio, Is: now.Ratio}
		f.Rise = now.Ratio.Median/old.Ratio.Median - 1
		f.Allowed = max(floor, spread(old.Ratio)+spread(now.Ratio))
		if best == nil || spread(f.Was) < spread(best.Was) {
			best = f
		}
	}
	if best == nil {
		return nil, fmt.Errorf("%s: %s: no other side does the same work in both", was.Group, was.Name)
	}
	return best, nil
}

// spread gives half the way between the quartiles, by the middle.
func spread(s measure.Spread) float64 { return (s.High - s.Low) / 2 / s.Median }
