// SPDX-License-Identifier: Apache-2.0

package report

import (
	"encoding/json"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"

	"github.com/remora-go/remora/bench/internal/measure"
)

// Figure is one picture: lines over two logarithmic axes, bars, or marks of how many times as
// long as Remora others need, a line for each row.
type Figure struct {
	Name, Title string
	X, Y        string // what the axes say
	Bytes       bool   // X counts bytes
	Lines       []Curve
	Bars        []Bar
	Rows        []string // what marks stand beside, from above
	Marks       []Curve  // X is a multiple of Remora's time, Y the index of the row
}

// Curve is a line of a figure.
type Curve struct {
	Name   string
	Remora bool
	Limit  bool // it is a limit of the machine
	Points []Point
}

// Bar is a bar of a figure, with what is written at its end.
type Bar struct {
	Name, Label string
	Remora      bool
	Value       float64
}

// Sum is a digest of what a figure shows, which the picture carries along.
func (f *Figure) Sum() string {
	text, err := json.Marshal(f)
	if err != nil {
		return err.Error() // of a number that JSON does not have there is no picture
	}
	return fmt.Sprintf("%08x", crc32.ChecksumIEEE(text))
}

// Figures gives the figures for which there are rows.
func Figures(f *File) []Figure {
	all := []Figure{bandwidths(f)}
	all = append(all, series(f, "range")...)
	all = append(all, bars(f, "open", "From nothing to the first byte of the kernel in an image, as a whole process", "first byte"),
		bars(f, "ps", "A list of the processes in an image, as a whole process", "ps"))
	all = append(all, leads(f)...)
	return slices.DeleteFunc(all, func(f Figure) bool { return len(f.Lines)+len(f.Bars)+len(f.Marks) == 0 })
}

// curves makes lines of rows, one for each side that is in more than one of them.
func curves(rows []*measure.Result, at func(r *measure.Result, s *measure.SideResult) Point) []Curve {
	var all []Curve
	for _, r := range rows {
		for i := range r.Sides {
			s := &r.Sides[i]
			k := slices.IndexFunc(all, func(c Curve) bool { return c.Name == s.Name })
			if k < 0 {
				all = append(all, Curve{Name: s.Name, Remora: i == 0})
				k = len(all) - 1
			}
			all[k].Points = append(all[k].Points, at(r, s))
		}
	}
	for _, c := range all {
		slices.SortStableFunc(c.Points, byX)
	}
	return slices.DeleteFunc(all, func(c Curve) bool { return len(c.Points) < 2 })
}

// bandwidths is the speed of reads of a live process by their size.
func bandwidths(f *File) Figure {
	var rows []*measure.Result
	for _, r := range f.Rows {
		if r.Bytes > 0 && r.Group == livePart && strings.HasPrefix(r.Name, "read ") && !hasBytes(rows, r.Bytes) {
			rows = append(rows, r)
		}
	}
	return Figure{
		Name: "bandwidth", Title: "One read of a live process", X: "bytes read at once", Y: "GB/s", Bytes: true,
		Lines: curves(rows, func(r *measure.Result, s *measure.SideResult) Point {
			return Point{float64(r.Bytes), float64(r.Bytes) / s.Wall.Median}
		}),
	}
}

// hasBytes tells whether there is a row about so much: the first of them is the plain one.
func hasBytes(rows []*measure.Result, bytes int64) bool {
	return slices.ContainsFunc(rows, func(r *measure.Result) bool { return r.Bytes == bytes })
}

// series gives a figure for each series whose name holds a word: times by amounts of work.
func series(f *File, word string) []Figure {
	var names []string
	rows := map[string][]*measure.Result{}
	for _, r := range f.Rows {
		if r.Series == "" || !strings.Contains(r.Series, word) {
			continue
		}
		name := r.Group + ": " + r.Series
		if rows[name] == nil {
			names = append(names, name)
		}
		rows[name] = append(rows[name], r)
	}
	var all []Figure
	for _, name := range names {
		all = append(all, Figure{
			Name: slug(name), Title: capital(name), X: "ranges", Y: "µs",
			Lines: curves(rows[name], func(r *measure.Result, s *measure.SideResult) Point { return Point{r.X, s.Wall.Median / 1e3} }),
		})
	}
	return all
}

// slug makes a name of a file of a title.
func slug(title string) string {
	keep := func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		case r >= 'A' && r <= 'Z':
			return r - 'A' + 'a'
		}
		return ' '
	}
	return strings.Join(strings.Fields(strings.Map(keep, title)), "-")
}

// bars gives a figure of the times of all sides of those rows about whole processes whose
// names begin so. The last part of a name says what image it is.
func bars(f *File, name, title, begin string) Figure {
	fig := Figure{Name: name, Title: title, Y: "time"}
	for _, r := range f.Rows {
		if !strings.HasPrefix(r.Name, begin) || !strings.Contains(r.Name, "whole process") && !strings.Contains(r.Name, "by crash") {
			continue
		}
		image := r.Name
		if i := strings.LastIndex(image, ", "); i >= 0 {
			image = image[i+2:]
		}
		for i, s := range r.Sides {
			b := Bar{Name: image + ": " + s.Name, Label: duration(s.Wall.Median), Remora: i == 0, Value: s.Wall.Median}
			if !slices.ContainsFunc(fig.Bars, func(o Bar) bool { return o.Name == b.Name }) {
				fig.Bars = append(fig.Bars, b)
			}
		}
	}
	slices.SortStableFunc(fig.Bars, func(a, b Bar) int {
		x, _, _ := strings.Cut(a.Name, ": ")
		y, _, _ := strings.Cut(b.Name, ": ")
		return strings.Compare(x, y)
	})
	return fig
}

// livePart is the group of rows about live processes.
const livePart = "live process"

// leads gives a figure for each group of some rows: how many times as long as Remora the
// others need.
func leads(f *File) []Figure {
	const few = 4
	var all []Figure
	for _, r := range f.Rows {
		if len(r.Sides) < 2 {
			continue
		}
		name := leadName(r.Group)
		if len(all) == 0 || all[len(all)-1].Name != name {
			all = append(all, Figure{Name: name, Title: capital(r.Group) + ": what others need for the same work", X: "times Remora's time"})
		}
		fig := &all[len(all)-1]
		for _, s := range r.Sides[1:] {
			if s.Ratio.Median <= 0 {
				continue
			}
			i := slices.IndexFunc(fig.Marks, func(c Curve) bool { return c.Name == s.Name })
			if i < 0 {
				fig.Marks = append(fig.Marks, Curve{Name: s.Name, Limit: s.Other})
				i = len(fig.Marks) - 1
			}
			fig.Marks[i].Points = append(fig.Marks[i].Points, Point{1 / s.Ratio.Median, float64(len(fig.Rows))})
		}
		fig.Rows = append(fig.Rows, r.Name)
	}
	return slices.DeleteFunc(all, func(f Figure) bool { return len(f.Rows) < few })
}

// leadName names the figure of a group.
func leadName(group string) string { return "lead-" + slug(group) }

// Note is what a picture of a figure says of itself: a test holds it against the results.
func Note(f *Figure) string { return "Remora's benchmark, figure " + f.Name + ", data " + f.Sum() }
