// SPDX-License-Identifier: Apache-2.0

//go:build peers

package draw

import (
	"bytes"
	"fmt"
	"image/color"
	"regexp"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"

	"github.com/remora-go/remora/bench/internal/report"
)

// ink is for text and axes. Like every colour here it is about as far from white as from
// black, and nothing is painted behind it: a figure can be read on either.
func ink() color.NRGBA { return color.NRGBA{0x76, 0x76, 0x76, 0xff} }

// faint is for what guides the eye.
func faint() color.NRGBA { return color.NRGBA{0x76, 0x76, 0x76, 0x50} }

// own is Remora's colour.
func own() color.NRGBA { return color.NRGBA{0xd9, 0x4a, 0x0b, 0xff} }

// others gives the colour of the i-th of the others.
func others(i int) color.NRGBA {
	all := [...]color.NRGBA{
		{0x2f, 0x78, 0xd0, 0xff}, {0x22, 0x88, 0x44, 0xff}, {0xa0, 0x55, 0xd5, 0xff}, {0x0b, 0x86, 0x86, 0xff},
		{0x96, 0x70, 0x1c, 0xff}, {0xd0, 0x3f, 0x88, 0xff}, {0x62, 0x6f, 0x9f, 0xff},
	}
	return all[i%len(all)]
}

// glyph gives the mark of the i-th line: colours alone are not enough for everyone.
func glyph(i int) draw.GlyphDrawer {
	all := [...]draw.GlyphDrawer{
		draw.CircleGlyph{}, draw.BoxGlyph{}, draw.PyramidGlyph{}, draw.RingGlyph{}, draw.SquareGlyph{}, draw.TriangleGlyph{}, draw.CrossGlyph{}, draw.PlusGlyph{},
	}
	return all[i%len(all)]
}

// SVG draws a figure. The same figure always gives the same bytes.
func SVG(f *report.Figure) ([]byte, error) {
	switch {
	case len(f.Lines) > 0:
		return lines(f)
	case len(f.Marks) > 0:
		return marks(f)
	}
	return bars(f)
}

// styled gives a plot with nothing in it.
func styled(f *report.Figure) *plot.Plot {
	p := plot.New()
	p.BackgroundColor = color.Transparent
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = f.Title, f.X, f.Y
	p.Title.Padding = vg.Points(8)
	style(&p.Title.TextStyle, 12)
	for _, a := range []*plot.Axis{&p.X, &p.Y} {
		style(&a.Label.TextStyle, 10)
		style(&a.Tick.Label, 9)
		a.Color, a.Tick.LineStyle.Color = ink(), ink()
		a.Padding = vg.Points(4)
	}
	return p
}

func style(s *text.Style, points float64) {
	s.Font = font.Font{Typeface: "Liberation", Variant: "Sans", Size: vg.Points(points)}
	s.Color = ink()
}

// lines draws lines over logarithmic axes, with a legend beside them.
func lines(f *report.Figure) ([]byte, error) {
	p := styled(f)
	p.X.Scale, p.Y.Scale = plot.LogScale{}, plot.LogScale{}
	p.X.Tick.Marker, p.Y.Tick.Marker = decades{}, decades{}
	if f.Bytes {
		p.X.Tick.Marker = sizes{}
	}
	p.Add(grid())
	legend := beside()
	other := 0
	for i, c := range f.Lines {
		line, dots, err := plotter.NewLinePoints(points(c))
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", f.Name, c.Name, err)
		}
		line.Color, line.Width = own(), vg.Points(2.4)
		if !c.Remora {
			line.Color, line.Width = others(other), vg.Points(1.3)
			other++
		}
		dots.Color, dots.Shape, dots.Radius = line.Color, glyph(i), vg.Points(3)
		p.Add(line, dots)
		legend.Add(c.Name, line, dots)
	}
	return whole(f, p, legend, 330)
}

func points(c report.Curve) plotter.XYs {
	all := make(plotter.XYs, len(c.Points))
	for i, pt := range c.Points {
		all[i] = plotter.XY{X: pt.X, Y: pt.Y}
	}
	return all
}

// beside gives a legend to be put beside a plot.
func beside() *plot.Legend {
	l := plot.NewLegend()
	l.Top, l.Left, l.Padding, l.ThumbnailWidth = true, true, vg.Points(5), vg.Points(22)
	style(&l.TextStyle, 9)
	return &l
}

// whole draws a plot of that height, and what is beside it.
func whole(f *report.Figure, p *plot.Plot, legend *plot.Legend, height float64) ([]byte, error) {
	const width = 680
	canvas := vgsvg.New(vg.Points(width), vg.Points(height))
	all := draw.New(canvas)
	right := vg.Points(12)
	if legend != nil {
		room := legend.Rectangle(all).Size().X*1.1 + vg.Points(10) // readers' fonts differ in width
		right += room
		legend.Draw(draw.Crop(all, vg.Points(width)-room, 0, 0, -vg.Points(30)))
	}
	p.Draw(draw.Crop(all, vg.Points(4), -right, vg.Points(4), -vg.Points(4)))
	return finish(f, canvas)
}

func grid() *plotter.Grid {
	g := plotter.NewGrid()
	g.Vertical.Color, g.Horizontal.Color = faint(), faint()
	g.Vertical.Width, g.Horizontal.Width = vg.Points(0.5), vg.Points(0.5)
	return g
}

// bars draws a line to a mark for each time, on a logarithmic axis, the time beside it.
func bars(f *report.Figure) ([]byte, error) {
	p := styled(f)
	p.X.Label.Text, p.Y.Label.Text = "", ""
	least, most := f.Bars[0].Value, f.Bars[0].Value
	var names []string
	for _, b := range f.Bars {
		least, most = min(least, b.Value), max(most, b.Value)
		names = append(names, b.Name)
	}
	slices.Reverse(names)
	p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, spans{}
	p.NominalY(names...)
	upright(p)
	p.Add(grid())
	for i, b := range f.Bars {
		s := stem{row: float64(len(f.Bars) - 1 - i), to: b.Value, label: b.Label, color: others(0), least: least / 3, most: most * 8, style: p.X.Tick.Label}
		if b.Remora {
			s.color = own()
		}
		s.style.XAlign = draw.XLeft
		p.Add(s)
	}
	p.Y.Min, p.Y.Max = -0.6, float64(len(names))-0.4
	return whole(f, p, nil, 74+16*float64(len(names)))
}

// marks draws, for each row, a mark for each other side at how many times Remora's time it needs.
func marks(f *report.Figure) ([]byte, error) {
	p := styled(f)
	names := slices.Clone(f.Rows)
	slices.Reverse(names)
	p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, decades{}
	p.NominalY(names...)
	upright(p)
	p.Add(grid())
	one, err := plotter.NewLine(plotter.XYs{{X: 1, Y: -0.6}, {X: 1, Y: float64(len(names)) - 0.4}})
	if err != nil {
		return nil, err
	}
	one.Color, one.Width = own(), vg.Points(2.4)
	p.Add(one)
	legend := beside()
	legend.Add("Remora", one)
	other := 0
	for i, c := range f.Marks {
		at := points(c)
		for k := range at {
			at[k].Y = float64(len(names)-1) - at[k].Y
		}
		dots, err := plotter.NewScatter(at)
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", f.Name, c.Name, err)
		}
		dots.Color, dots.Shape, dots.Radius = color.Color(ink()), glyph(i), vg.Points(3)
		if !c.Limit {
			dots.Color = others(other)
			other++
		}
		p.Add(dots)
		legend.Add(c.Name, dots)
	}
	p.X.Min, p.X.Max = min(p.X.Min, 0.5)/1.2, max(p.X.Max, 2)*1.2
	p.Y.Min, p.Y.Max = -0.6, float64(len(names))-0.4
	return whole(f, p, legend, max(74+16*float64(len(names)), 60+16*float64(len(f.Marks))))
}

// upright takes the marks off an axis of names.
func upright(p *plot.Plot) {
	style(&p.Y.Tick.Label, 9)
	p.Y.Tick.Label.XAlign, p.Y.Tick.Label.YAlign = draw.XRight, draw.YCenter
	p.Y.Width = 0
}

// finish gives the picture with what the library cannot say: fonts that readers have, no
// fixed size, and the digest of what is shown.
func finish(f *report.Figure, canvas *vgsvg.Canvas) ([]byte, error) {
	var b bytes.Buffer
	if _, err := canvas.WriteTo(&b); err != nil {
		return nil, err
	}
	out := regexp.MustCompile(`font-family:[^;"]*`).ReplaceAll(b.Bytes(), []byte("font-family:Arial,Helvetica,Liberation Sans,sans-serif"))
	note := fmt.Sprintf("<!-- %s -->", report.Note(f))
	return bytes.Replace(out, []byte("<!-- Generated by SVGo and Plotinum VG -->"), []byte(note), 1), nil
}
