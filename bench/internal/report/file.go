// SPDX-License-Identifier: Apache-2.0

// Package report keeps what the benchmark has measured, and tells it: a file of results, a
// page made of that file alone, the figures on that page, and whether rows measured again
// have fallen behind the file.
package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/remora-go/remora/bench/internal/measure"
)

// File is all that one run has measured.
type File struct {
	Date     string            `json:"date"`
	Took     string            `json:"took"`
	Command  string            `json:"command"`
	Rounds   int               `json:"rounds"`
	Each     time.Duration     `json:"each"` // how long a side runs in a round
	Machine  []Fact            `json:"machine"`
	Versions []Fact            `json:"versions"`
	Rows     []*measure.Result `json:"rows"`
	Values   []measure.Value   `json:"values"`
	Failed   []Failure         `json:"failed"`
}

// Fact is something about the machine, or the version of a program.
type Fact struct {
	Name string `json:"name"`
	Is   string `json:"is"`
}

// Failure is a row that gave no number, or a group of them that could not be laid out.
type Failure struct {
	Group string `json:"group"`
	Row   string `json:"row,omitempty"`
	Why   string `json:"why"`
}

// Row gives the row of that group and name, or nil.
func (f *File) Row(group, name string) *measure.Result {
	i := slices.IndexFunc(f.Rows, func(r *measure.Result) bool { return r.Group == group && r.Name == name })
	if i < 0 {
		return nil
	}
	return f.Rows[i]
}

// Load reads a file of results.
func Load(path string) (*File, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	f := &File{}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(f); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return f, nil
}

// digits is how many digits of a measured number are kept.
const digits = 5

// JSON gives the file, a line for each row, so that two can be compared by eye.
func (f *File) JSON() ([]byte, error) {
	var b bytes.Buffer
	var failed error
	line := func(before, after string, v any) {
		text, err := plain(v)
		if err != nil {
			failed = err
		}
		fmt.Fprintf(&b, "%s%s%s\n", before, text, after)
	}
	line("{\n\"date\": ", ",", f.Date)
	line("\"took\": ", ",", f.Took)
	line("\"command\": ", ",", f.Command)
	line("\"rounds\": ", ",", f.Rounds)
	line("\"each\": ", ",", f.Each)
	list(line, "machine", ",", f.Machine)
	list(line, "versions", ",", f.Versions)
	rows := make([]measure.Result, len(f.Rows))
	for i, r := range f.Rows {
		rows[i] = rounded(r)
	}
	list(line, "rows", ",", rows)
	values := slices.Clone(f.Values)
	for i := range values {
		values[i].Value = round(values[i].Value)
	}
	list(line, "values", ",", values)
	list(line, "failed", "", f.Failed)
	b.WriteString("}\n")
	return b.Bytes(), failed
}

// plain is JSON for people: without escapes that only a page in HTML needs.
func plain(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return bytes.TrimSpace(b.Bytes()), err
}

func list[T any](line func(before, after string, v any), name, end string, all []T) {
	if len(all) == 0 {
		line(fmt.Sprintf("%q: ", name), end, []T{})
		return
	}
	for i, v := range all {
		before, after := "  ", ","
		if i == 0 {
			before = fmt.Sprintf("%q: [\n  ", name)
		}
		if i == len(all)-1 {
			after = "\n]" + end
		}
		line(before, after, v)
	}
}

// rounded gives a row with no more digits than mean something.
func rounded(r *measure.Result) measure.Result {
	c := *r
	c.Sides, c.Goals = slices.Clone(r.Sides), slices.Clone(r.Goals)
	for i := range c.Sides {
		s := &c.Sides[i]
		for _, spread := range []*measure.Spread{&s.Wall, &s.Ratio, &s.ByCPU} {
			*spread = measure.Spread{Low: round(spread.Low), Median: round(spread.Median), High: round(spread.High)}
		}
		s.CPU, s.Allocs = round(s.CPU), round(s.Allocs)
		s.Sets = slices.Clone(s.Sets)
		for k := range s.Sets {
			s.Sets[k] = measure.Set{Ratio: round(s.Sets[k].Ratio), ByCPU: round(s.Sets[k].ByCPU)}
		}
	}
	for i := range c.Goals {
		c.Goals[i].Value = round(c.Goals[i].Value)
	}
	return c
}

func round(v float64) float64 {
	if v == 0 || math.IsInf(v, 0) || math.IsNaN(v) {
		return v
	}
	unit := math.Floor(math.Log10(math.Abs(v))) - digits + 1
	if unit >= 0 {
		scale := math.Pow(10, unit)
		return math.Round(v/scale) * scale
	}
	scale := math.Pow(10, -unit) // a whole number, so that the quotient is the nearest to it in decimal
	return math.Round(v*scale) / scale
}

// Save writes a file whole or not at all.
func Save(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return err
	}
	next := path + ".new"
	if err := os.WriteFile(next, data, 0o666); err != nil {
		return err
	}
	return os.Rename(next, path)
}
