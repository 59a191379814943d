// SPDX-License-Identifier: Apache-2.0

//go:build peers

package draw

import (
	"image/color"
	"math"
	"slices"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// decades marks powers of ten.
type decades struct{}

// Ticks gives the marks between two values.
func (decades) Ticks(low, high float64) []plot.Tick {
	return powers(low, high, 10, func(v float64) string { return strconv.FormatFloat(v, 'g', 4, 64) })
}

// sizes marks every sixteenth power of two, in bytes.
type sizes struct{}

// Ticks gives the marks between two values.
func (sizes) Ticks(low, high float64) []plot.Tick {
	return powers(low, high, 16, in(unit{" GiB", 1 << 30}, unit{" MiB", 1 << 20}, unit{" KiB", 1 << 10}, unit{" B", 1}))
}

// spans marks powers of ten of nanoseconds.
type spans struct{}

// Ticks gives the marks between two values.
func (spans) Ticks(low, high float64) []plot.Tick {
	return powers(low, high, 10, in(unit{" s", 1e9}, unit{" ms", 1e6}, unit{" µs", 1e3}, unit{" ns", 1}))
}

// unit is what a mark is counted in.
type unit struct {
	name string
	by   float64
}

// in gives the words of a mark: in the first unit of which there is one, or else in the last.
func in(units ...unit) func(float64) string {
	return func(v float64) string {
		i := slices.IndexFunc(units, func(u unit) bool { return v >= u.by })
		if i < 0 {
			i = len(units) - 1
		}
		return strconv.FormatFloat(v/units[i].by, 'f', -1, 64) + units[i].name
	}
}

// powers marks the powers of a base, at most eight of them with words; where there are one
// or two, twice and five times those too.
func powers(low, high, base float64, name func(float64) string) []plot.Tick {
	first := math.Floor(math.Log(low)/math.Log(base) + 1e-9)
	last := math.Floor(math.Log(high)/math.Log(base) + 1e-9)
	step := math.Ceil((last - first + 1) / 8)
	times := []float64{1}
	if last-first < 2 && base == 10 {
		times = []float64{1, 2, 5}
	}
	var all []plot.Tick
	for e := first; e <= last; e++ {
		for _, by := range times {
			t := plot.Tick{Value: by * math.Pow(base, e)}
			if t.Value < low*0.999 || t.Value > high*1.001 {
				continue
			}
			if math.Mod(e-last, step) == 0 {
				t.Label = name(t.Value)
			}
			all = append(all, t)
		}
	}
	return all
}

// stem is a line from the axis to a mark, with text behind it.
type stem struct {
	row, to     float64
	least, most float64 // of the axis
	label       string
	color       color.Color
	style       text.Style
}

// Plot draws it.
func (s stem) Plot(c draw.Canvas, p *plot.Plot) {
	x, y := p.Transforms(&c)
	from, to := vg.Point{X: x(p.X.Min), Y: y(s.row)}, vg.Point{X: x(s.to), Y: y(s.row)}
	c.StrokeLine2(draw.LineStyle{Color: s.color, Width: vg.Points(5)}, from.X, from.Y, to.X, to.Y)
	c.DrawGlyph(draw.GlyphStyle{Color: s.color, Radius: vg.Points(4), Shape: draw.CircleGlyph{}}, to)
	s.style.YAlign = draw.YCenter
	c.FillText(s.style, vg.Point{X: to.X + vg.Points(8), Y: to.Y}, s.label)
}

// DataRange gives the ends of the axes.
func (s stem) DataRange() (xmin, xmax, ymin, ymax float64) { return s.least, s.most, s.row, s.row }
