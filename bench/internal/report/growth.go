// SPDX-License-Identifier: Apache-2.0

package report

import (
	"cmp"
	"math"
	"slices"

	"github.com/remora-go/remora/bench/internal/measure"
)

// Growth is how the time of one side grows over the rows of a series.
type Growth struct {
	Group, Series, Side string
	Remora, Flat        bool
	Points              []Point
	Exponent            float64 // time grows as X to this power
	Limit               float64 // of the exponent; for Remora alone
	Why                 string  // of the row with the most work
}

// Point is one row of a series: how much work it is, and how many nanoseconds it takes.
type Point struct{ X, Y float64 }

func byX(a, b Point) int { return cmp.Compare(a.X, b.X) }

// slack is what an exponent may be off by: three points within 5 % of their line.
const slack = 0.05

// Growths gives the sides of all series, Remora's first.
func Growths(rows []*measure.Result) []Growth {
	var all []Growth
	find := func(g Growth) *Growth {
		i := slices.IndexFunc(all, func(o Growth) bool {
			return o.Group == g.Group && o.Series == g.Series && o.Side == g.Side
		})
		if i < 0 {
			all = append(all, g)
			i = len(all) - 1
		}
		return &all[i]
	}
	for _, r := range rows {
		if r.Series == "" || r.X <= 0 {
			continue
		}
		for i, s := range r.Sides {
			g := find(Growth{Group: r.Group, Series: r.Series, Side: s.Name, Remora: i == 0, Flat: r.Flat})
			if len(g.Points) == 0 || r.X > slices.MaxFunc(g.Points, byX).X {
				g.Why = r.Why
			}
			g.Points = append(g.Points, Point{r.X, s.Wall.Median})
		}
	}
	all = slices.DeleteFunc(all, func(g Growth) bool { return len(g.Points) < 2 })
	for i := range all {
		g := &all[i]
		slices.SortStableFunc(g.Points, byX)
		g.Exponent = exponent(g.Points)
	}
	for i := range all {
		if g := &all[i]; g.Remora {
			g.Limit = limit(g, all)
		}
	}
	return all
}

// limit is what the exponent is to be at most: that of work of a constant time, that of a
// time in proportion to the work, or that of the quickest other side where the machine
// itself does worse, as when the work outgrows a cache.
func limit(g *Growth, all []Growth) float64 {
	if g.Flat {
		return slack
	}
	var best *Growth
	for i := range all {
		o := &all[i]
		if o.Group == g.Group && o.Series == g.Series && !ours(o.Side) && len(o.Points) == len(g.Points) && (best == nil || last(o) < last(best)) {
			best = o
		}
	}
	if best == nil {
		return 1 + slack
	}
	return max(1, best.Exponent) + slack
}

func last(g *Growth) float64 { return g.Points[len(g.Points)-1].Y }

// exponent gives the slope of the line through the logarithms, by least squares.
func exponent(points []Point) float64 {
	var n, x, y, xx, xy float64
	for _, p := range points {
		a, b := math.Log(p.X), math.Log(p.Y)
		n, x, y, xx, xy = n+1, x+a, y+b, xx+a*a, xy+a*b
	}
	d := n*xx - x*x
	if d == 0 {
		return 0
	}
	return (n*xy - x*y) / d
}
