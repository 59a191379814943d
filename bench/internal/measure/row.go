// SPDX-License-Identifier: Apache-2.0

// Package measure times pieces of work that several programs can do, in turns.
//
// A Row is one piece of work with all that do it, its sides; the first is Remora's. Before
// anything is timed each side does the work once and tells a digest of what came out: where
// those differ there is no number but an error. Then, in each round, every side does it so
// often that it takes about a given time, in an order that is another one each round. What
// disturbs one side of a round disturbs all, so it is ratios of one round that are compared.
//
// A side is done by a Doer: a Program that stays and takes requests, one a line, or a
// Command that is run to its end each time, as a user does.
package measure

import (
	"slices"
	"time"
)

// Row is one piece of work and those who do it. It is told apart by group and name.
type Row struct {
	Group string
	Name  string
	Work  string // what is done each time, in words
	Bytes int64  // that are moved each time; 0: the row is not about bandwidth
	Sides []Side // Remora's is the first
	Goals []Goal
	Wide  bool   // it needs more than one processor
	Guard bool   // it is quick and steady enough to tell a slow-down by
	Why   string // what lies between Remora and the limit of the machine

	Series string  // rows of one series are points of one line, at X
	X      float64 // how much work it is, in the unit of the series
	Flat   bool    // of such a series the time is not to grow with X
}

// Side is one way to do the work of a row.
type Side struct {
	Name  string // who does it
	How   string // the call or the command, as a reader could make it
	By    Doer
	Work  string // what By is asked to do
	Most  int    // times in a round; 0: as many as fit
	Other bool   // what it does has another output: a limit of the machine, or a calibration
}

// Goal is what a row is to reach: Remora's time at most Ratio times that of the fastest of
// some sides, and Plus; at most Plus if no side is named.
type Goal struct {
	By    []string // names of sides
	Ratio float64
	Plus  time.Duration
}

// Doer does work, and is asked by one at a time.
type Doer interface {
	// Digest does it once, and tells what came out of it.
	Digest(work string) (string, error)
	// Run does it n times.
	Run(work string, n int) (Cost, error)
	// Place lets it run on those processors alone, or on any when none is named.
	Place(cpus []int) error
}

// Cost is what it took to do something so often.
type Cost struct {
	Wall, CPU time.Duration
	Peak      int64   // bytes resident at most; below 0: no more than so many
	Allocs    float64 // each time; below 0: not known
}

// Spread is the middle of some values and their quartiles.
type Spread struct {
	Low    float64 `json:"low"`
	Median float64 `json:"median"`
	High   float64 `json:"high"`
}

// SpreadOf gives the spread of values, of which there is at least one.
func SpreadOf(values []float64) Spread {
	sorted := slices.Sorted(slices.Values(values))
	return Spread{quantile(sorted, 0.25), quantile(sorted, 0.5), quantile(sorted, 0.75)}
}

// quantile gives the value below which that part of the sorted values lies.
func quantile(sorted []float64, q float64) float64 {
	at := q * float64(len(sorted)-1)
	low := int(at)
	if low+1 >= len(sorted) {
		return sorted[low]
	}
	return sorted[low] + (at-float64(low))*(sorted[low+1]-sorted[low])
}
