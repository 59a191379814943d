// SPDX-License-Identifier: Apache-2.0

//go:build peers

package draw

import (
	"bytes"
	"encoding/xml"
	"errors"
	"image/color"
	"io"
	"math"
	"strings"
	"testing"

	"github.com/remora-go/remora/bench/internal/report"
)

func figures() []report.Figure {
	return []report.Figure{
		{Name: "lines", Title: "Lines & more", X: "bytes", Y: "GB/s", Bytes: true, Lines: []report.Curve{
			{Name: "Remora", Remora: true, Points: []report.Point{{X: 8, Y: 0.004}, {X: 4096, Y: 2.5}, {X: 1 << 28, Y: 9}}},
			{Name: "<other>", Points: []report.Point{{X: 8, Y: 0.005}, {X: 1 << 28, Y: 9.1}}},
		}},
		{Name: "bars", Title: "Bars", Bars: []report.Bar{{Name: "Remora", Remora: true, Value: 1e5, Label: "0.1 ms"}, {Name: "slow", Value: 5e9, Label: "5 s"}}},
		{Name: "one-bar", Title: "Bar", Bars: []report.Bar{{Name: "Remora", Remora: true, Value: 1e5, Label: "0.1 ms"}}},
		{Name: "marks", Title: "Marks", X: "times", Rows: []string{"a", "b"}, Marks: []report.Curve{
			{Name: "C", Points: []report.Point{{X: 0.9, Y: 0}, {X: 1200, Y: 1}}}, {Name: "memory", Limit: true, Points: []report.Point{{X: 0.2, Y: 1}}},
		}},
	}
}

// TestSVG wants each figure whole, the same each time, and with what it shows.
func TestSVG(t *testing.T) {
	for _, f := range figures() {
		one, err := SVG(&f)
		if err != nil {
			t.Fatalf("%s: %v", f.Name, err)
		}
		two, err := SVG(&f)
		if err != nil || !bytes.Equal(one, two) {
			t.Errorf("%s: drawn again it is another one (%v)", f.Name, err)
		}
		text := string(one)
		for _, want := range []string{report.Note(&f), "Remora", strings.ReplaceAll(f.Title, "&", "&amp;")} {
			if !strings.Contains(text, want) {
				t.Errorf("%s does not hold %q", f.Name, want)
			}
		}
		if strings.Contains(text, "NaN") || strings.Contains(text, "Inf") {
			t.Errorf("%s holds what is no number", f.Name)
		}
		d := xml.NewDecoder(bytes.NewReader(one))
		for {
			if _, err := d.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", f.Name, err)
			}
		}
	}
}

// TestColoursOnAnyGround wants each colour readable on white and on black: a contrast, as
// WCAG 2 defines it, of at least 4.
func TestColoursOnAnyGround(t *testing.T) {
	colours := []color.NRGBA{ink(), own()}
	for i := range 7 {
		colours = append(colours, others(i))
	}
	for _, c := range colours {
		l := luminance(c)
		if white, black := 1.05/(l+0.05), (l+0.05)/0.05; white < 4 || black < 4 {
			t.Errorf("%v: contrast %.2f on white, %.2f on black", c, white, black)
		}
	}
}

func luminance(c color.NRGBA) float64 {
	linear := func(b uint8) float64 {
		v := float64(b) / 255
		if v <= 0.04045 {
			return v / 12.92
		}
		return math.Pow((v+0.055)/1.055, 2.4)
	}
	return 0.2126*linear(c.R) + 0.7152*linear(c.G) + 0.0722*linear(c.B)
}
