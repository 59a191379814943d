// SPDX-License-Identifier: Apache-2.0

//go:build peers

package draw

import (
	"image/color"
	"math"
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
	return powers(low, high, 16, func(v float64) string {
		for _, u := range []struct {
			name string
			by   float64
		}{{" GiB", 1 << 30}, {" MiB", 1 << 20}, {" KiB", 1 << 10}} {
			if v >= u.by {
				return strconv.FormatFloat(v/u.by, 'f', -1, 64) + u.name
			}
		}
		return strconv.FormatFloat(v, 'f', -1, 64) + " B"
	})
}

// spans marks powers of ten of nanoseconds.
type spans struct{}

// Ticks gives the marks between two values.
func (spans) Ticks(low, high float64) []plot.Tick {
	return powers(low, high, 10, func(v float64) string {
		for _, u := range []struct {
			name string
			by   float64
		}{{" s", 1e9}, {" ms", 1e6}, {" µs", 1e3}} {
			if v >= u.by {
				return strconv.FormatFloat(v/u.by, 'f', -1, 64) + u.name
			}
		}
		return strconv.FormatFloat(v, 'f', -1, 64) + " ns"
	})
}

// powers marks the powers of a base, at most eight of them with words.
func powers(low, high, base float64, name func(float64) string) []plot.Tick {
	first := math.Ceil(math.Log(low)/math.Log(base) - 1e-9)
	last := math.Floor(math.Log(high)/math.Log(base) + 1e-9)
	step := math.Ceil((last - first + 1) / 8)
	var all []plot.Tick
	for e := first; e <= last; e++ {
		v := math.Pow(base, e)
		t := plot.Tick{Value: v}
		if math.Mod(e-first, step) == 0 {
			t.Label = name(v)
		}
		all = append(all, t)
	}
	if first >= last { // there would be nothing to read a value by
		all = append(all, plot.Tick{Value: low, Label: name(low)}, plot.Tick{Value: high, Label: name(high)})
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
