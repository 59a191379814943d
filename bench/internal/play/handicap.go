// SPDX-License-Identifier: Apache-2.0

package play

import (
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// Handicap makes a side slower than it is, to see that it is noticed.
type Handicap struct {
	Share float64       // so much longer, of work that moves much: see bulk
	Call  time.Duration // so much longer each time
}

// bulk is how long it takes to move much: a share of less cannot be burnt exactly.
const bulk = 5 * time.Microsecond

// ParseHandicap reads "15%" or "300ns"; "" is none.
func ParseHandicap(text string) (Handicap, error) {
	if text == "" {
		return Handicap{}, nil
	}
	if number, ok := strings.CutSuffix(text, "%"); ok {
		share, err := strconv.ParseFloat(number, 64)
		return Handicap{Share: share / 100}, err
	}
	call, err := time.ParseDuration(text)
	if err == nil && call <= 0 {
		err = fmt.Errorf("no handicap: %v", call)
	}
	return Handicap{Call: call}, err
}

// On gives verbs whose work has the handicap.
func (h Handicap) On(verbs map[string]Verb) map[string]Verb {
	if h == (Handicap{}) {
		return verbs
	}
	slow := make(map[string]Verb, len(verbs))
	for name, verb := range verbs {
		slow[name] = func(args []string) (*Work, error) {
			w, err := verb(args)
			if err != nil {
				return nil, err
			}
			w.Do = h.slow(w.Do)
			return w, nil
		}
	}
	return slow
}

// slow gives what does the same, and then burns time. A share is one of the least time that
// it has taken: others may have had the processor in the rest.
func (h Handicap) slow(do func() error) func() error {
	turn := turnTime()
	if h.Call > 0 {
		turns := int(float64(h.Call) / turn)
		return func() error {
			err := do()
			runtime.KeepAlive(spin(turns))
			return err
		}
	}
	const tries = 8
	least, times := time.Hour, 0
	return func() error {
		if times++; times > tries && least < bulk {
			return do() // the clock alone would be a handicap
		}
		began := time.Now()
		err := do()
		if least = min(least, time.Since(began)); least >= bulk {
			runtime.KeepAlive(spin(int(h.Share * float64(least) / turn)))
		}
		return err
	}
}

// turnTime measures how many nanoseconds a turn of spin takes.
func turnTime() float64 {
	const turns, times = 1 << 16, 50
	best := time.Hour
	for range times {
		began := time.Now()
		runtime.KeepAlive(spin(turns))
		best = min(best, time.Since(began))
	}
	return float64(best) / turns
}

// spin does nothing for so many turns: a clock would take too long to read.
//
//go:noinline
func spin(turns int) (x uint64) {
	x = 1
	for range turns {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
	}
	return x
}
