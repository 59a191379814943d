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
	Peak   int64   `json:"peak"`   // bytes resident
	Allocs float64 `json:"allocs"` // below 0: not known
}

// Verdict is a goal, in words, and how far from it the row is.
type Verdict struct {
	Goal  string  `json:"goal"`
	Value float64 `json:"value"` // Remora's time, without what the goal adds, by that of the side
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

// judge holds a row against a goal.
func (r *Result) judge(g Goal) Verdict {
	var best *SideResult
	for _, name := range g.By {
		if s := r.Side(name); s != nil && (best == nil || s.Wall.Median < best.Wall.Median) {
			best = s
		}
	}
	v := Verdict{Goal: g.String(), Limit: g.Ratio}
	if best != nil {
		v.Value = max(0, best.Ratio.Median-float64(g.Plus)/best.Wall.Median)
	}
	return v
}

// String tells a goal in words.
func (g Goal) String() string {
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
