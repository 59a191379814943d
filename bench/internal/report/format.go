// SPDX-License-Identifier: Apache-2.0

package report

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/remora-go/remora/bench/internal/measure"
)

// number gives three digits of a number, as people write them: no exponent, no zeros that
// say nothing.
func number(v float64) string {
	if v == 0 {
		return "0"
	}
	three, err := strconv.ParseFloat(strconv.FormatFloat(v, 'e', 2, 64), 64)
	if err != nil {
		return err.Error()
	}
	after := 2 - int(math.Floor(math.Log10(math.Abs(three))))
	text := strconv.FormatFloat(v, 'f', min(max(after, 0), 6), 64)
	if after < 0 {
		text = grouped(text)
	}
	return text
}

// grouped puts commas between thousands.
func grouped(text string) string {
	for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// scale is how a number is told: in units of so much.
type scale struct {
	unit string
	by   float64
}

// times are for nanoseconds, sizes and speeds for bytes.
var (
	times  = []scale{{"s", 1e9}, {"ms", 1e6}, {"µs", 1e3}, {"ns", 1}}
	sizes  = []scale{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}
	speeds = []scale{{"GB/s", 1e9}, {"MB/s", 1e6}, {"kB/s", 1e3}, {"B/s", 1}}
)

// fit gives the largest unit of which there is at least one.
func fit(v float64, scales []scale) scale {
	for _, s := range scales {
		if math.Abs(v) >= 0.9995*s.by {
			return s
		}
	}
	return scales[len(scales)-1]
}

func duration(ns float64) string { return in(ns, times) }
func size(bytes float64) string  { return in(bytes, sizes) }

func in(v float64, scales []scale) string {
	s := fit(v, scales)
	return number(v/s.by) + " " + s.unit
}

// quartiles gives both ends of a spread of times, in the unit of its middle.
func quartiles(s measure.Spread) string {
	u := fit(s.Median, times)
	return number(s.Low/u.by) + " – " + number(s.High/u.by)
}

// ratio gives how many times as much, with its quartiles.
func ratio(s measure.Spread) string {
	return fmt.Sprintf("%s× [%s – %s]", number(s.Median), number(s.Low), number(s.High))
}

// bandwidth gives what a side moves in a second, or nothing.
func bandwidth(bytes int64, ns float64) string {
	if bytes == 0 || ns == 0 {
		return ""
	}
	return in(float64(bytes)/ns*1e9, speeds)
}

// value gives a value with its unit.
func value(v float64, unit string) string {
	switch unit {
	case "B":
		return size(v)
	case "":
		return short(v)
	}
	return short(v) + " " + unit
}

// short is a number without zeros at its end.
func short(v float64) string {
	text := number(v)
	if strings.Contains(text, ".") {
		text = strings.TrimRight(strings.TrimRight(text, "0"), ".")
	}
	return text
}

// memory gives the most memory; below 0: that it was no more than so much.
func memory(bytes int64) string {
	switch {
	case bytes == 0:
		return ""
	case bytes < 0:
		return "under " + size(float64(-bytes))
	}
	return size(float64(bytes))
}

// distance tells how far a value is from its limit.
func distance(v, limit float64) string {
	part := func(f float64) string { return strconv.FormatFloat(100*f, 'f', 0, 64) + " %" }
	switch {
	case v <= limit && limit <= 0:
		return "met"
	case limit <= 0:
		return "**missed**"
	case v >= 2*limit:
		return fmt.Sprintf("**missed by a factor of %s**", short(v/limit))
	case v > limit:
		return fmt.Sprintf("**missed by %s**", atLeastOne(part(v/limit-1)))
	case v <= 0 || limit/v < 1.005:
		return "met"
	case limit >= 2*v:
		return fmt.Sprintf("met, %s times over", short(limit/v))
	}
	return fmt.Sprintf("met, %s to spare", part(1-v/limit))
}

func atLeastOne(part string) string {
	if part == "0 %" {
		return "less than 1 %"
	}
	return part
}

// cell is text as it stands in a table.
func cell(text string) string {
	return strings.NewReplacer("|", `\|`, "\n", " ", "<", "&lt;").Replace(text)
}

// table is a table of the page.
type table struct {
	head  []string
	right []bool
	lines [][]string
}

// newTable takes the heads of columns; those that begin with ">" are set to the right.
func newTable(heads ...string) *table {
	t := &table{}
	for _, h := range heads {
		name, right := strings.CutPrefix(h, ">")
		t.head, t.right = append(t.head, name), append(t.right, right)
	}
	return t
}

func (t *table) add(cells ...string) { t.lines = append(t.lines, cells) }

// drop leaves out columns in which nothing stands.
func (t *table) drop() {
	for c := len(t.head) - 1; c >= 0; c-- {
		empty := true
		for _, l := range t.lines {
			empty = empty && l[c] == ""
		}
		if !empty {
			continue
		}
		t.head, t.right = cut(t.head, c), cut(t.right, c)
		for i := range t.lines {
			t.lines[i] = cut(t.lines[i], c)
		}
	}
}

func cut[T any](s []T, i int) []T { return append(s[:i:i], s[i+1:]...) }

// String gives the table, with an empty line behind it; nothing for an empty one.
func (t *table) String() string {
	if len(t.lines) == 0 {
		return ""
	}
	t.drop()
	var b strings.Builder
	rule := make([]string, len(t.head))
	for i := range rule {
		rule[i] = "---"
		if t.right[i] {
			rule[i] = "--:"
		}
	}
	for _, l := range append([][]string{t.head, rule}, t.lines...) {
		b.WriteString("| " + strings.Join(l, " | ") + " |\n")
	}
	return b.String() + "\n"
}
