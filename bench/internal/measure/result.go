// SPDX-License-Identifier: Apache-2.0

package measure

import (
	"fmt"
	"strings"
	"time"
)

// Result is what the rounds of a row came to. Times are in nanoseconds, for doing it once.
type Result struct {
	Group  string       `json:"group"`
	Name   string       `json:"name"`
	Work   string       `json:"work"`
	Bytes  int64        `json:"bytes,omitempty"`
	Rounds int          `json:"rounds"`
	Guard  bool         `json:"guard,omitempty"`
	Why    string       `json:"why,omitempty"`
	Series string       `json:"series,omitempty"`
	X      float64      `json:"x,omitempty"`
	Flat   bool         `json:"flat,omitempty"`
	Sides  []SideResult `json:"sides"`
	Goals  []Verdict    `json:"goals,omitempty"`
}

// SideResult is what the rounds of one side came to.
type SideResult struct {
	Name   string  `json:"name"`
	How    string  `json:"how"`
	Other  bool    `json:"other,omitempty"` // it does other work, whose output is another one
	Digest string  `json:"digest,omitempty"`
	Times  int     `json:"times"` // in a round
	Wall   Spread  `json:"wall"`
	Ratio  Spread  `json:"ratio"` // Remora's time by this one's, of each round
	CPU    float64 `json:"cpu"`
	ByCPU  Spread  `json:"by_cpu"`         // Remora's CPU time by this one's, of each round
	Peak   int64   `json:"peak"`           // bytes resident; below 0: no more than so many
	Allocs float64 `json:"allocs"`         // below 0: not known
	Sets   []Set   `json:"sets,omitempty"` // of a row that guards something, beside the one above
}

// Set is what the rounds of another set of processes came to: the medians of the ratios.
type Set struct {
	Ratio float64 `json:"ratio"`
	ByCPU float64 `json:"by_cpu"`
}

// AddSet keeps what another set of processes came to. It may have fewer sides.
func (r *Result) AddSet(of *Result) {
	for i := 1; i < len(r.Sides); i++ {
		s := &r.Sides[i]
		if other := of.Side(s.Name); other != nil {
			s.Sets = append(s.Sets, Set{Ratio: other.Ratio.Median, ByCPU: other.ByCPU.Median})
		}
	}
}

// Verdict is a goal, in words, and how far from it the row is.
type Verdict struct {
	Goal  string  `json:"goal"`
	Value float64 `json:"value"` // Remora's time, without what the goal adds, by that of the side, or by the goal
	Limit float64 `json:"limit"`
}

// Met tells whether the row is as fast as it is to be.
func (v Verdict) Met() bool { return v.Value <= v.Limit }

// Side gives the side of that name, or nil.
func (r *Result) Side(name string) *SideResult {
	for i := range r.Sides {
		if r.Sides[i].Name == name {
			return &r.Sides[i]
		}
	}
	return nil
}

// judge holds a row against a goal, if one of the sides that it names is there.
func (r *Result) judge(g Goal) (v Verdict, ok bool) {
	if len(g.By) == 0 {
		return Verdict{Goal: g.String(), Value: r.Sides[0].Wall.Median / float64(g.Plus), Limit: 1}, true
	}
	var best *SideResult
	for _, name := range g.By {
		if s := r.Side(name); s != nil && (best == nil || s.Wall.Median < best.Wall.Median) {
			best = s
		}
	}
	if best == nil {
		return Verdict{}, false
	}
	return Verdict{Goal: g.String(), Limit: g.Ratio, Value: max(0, best.Ratio.Median-float64(g.Plus)/best.Wall.Median)}, true
}

// higher gives the higher of two peaks; below 0 they are bounds.
func higher(a, b int64) int64 {
	if a < 0 && b < 0 {
		return min(a, b)
	}
	return max(a, b)
}

// String tells a goal in words.
func (g Goal) String() string {
	if len(g.By) == 0 {
		return fmt.Sprint("at most ", g.Plus)
	}
	by := strings.Join(g.By, ", ")
	if len(g.By) > 1 {
		by = "the fastest of " + by
	}
	text := fmt.Sprintf("at most %.3g of %s", g.Ratio, by)
	if g.Plus > 0 {
		text += fmt.Sprintf(", and %v", g.Plus.Round(time.Nanosecond))
	}
	return text
}

// Value is something that is measured once and is no time, or not one of a row: a size, a
// number of allocations.
type Value struct {
	Group string   `json:"group"`
	Name  string   `json:"name"`
	How   string   `json:"how"` // it is found, as a reader could do it
	Value float64  `json:"value"`
	Unit  string   `json:"unit,omitempty"`  // "B" for bytes
	Limit *float64 `json:"limit,omitempty"` // it is to be at most this; nil: it is told for comparison
}

// Met tells whether a value is within its limit, if it has one.
func (v *Value) Met() bool { return v.Limit == nil || v.Value <= *v.Limit }
