// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/remora-go/remora/internal/sys/linux"
)

// result is what the rounds of one row came to.
type result struct {
	row
	here, there []float64 // nanoseconds for each time it is done
	ratios      []float64 // of each round, here by there
	allocs      float64   // for each time it is done here
}

// measure runs a row: so often in each round that one side takes about each.
func measure(t *twin, r row, rounds int, each time.Duration) (res result, err error) {
	res = result{row: r}
	if !r.wide {
		runtime.LockOSThread() // place is about threads
		defer func() {
			err = cmp.Or(err, linux.Place(linux.ThreadID()))
			runtime.UnlockOSThread()
		}()
	}
	if r.prepare != nil {
		if err := r.prepare(t); err != nil {
			return res, err
		}
	}
	n, once, err := times(t, r, each)
	if err != nil {
		return res, err
	}
	if once > time.Second {
		rounds = min(rounds, 10)
	}
	if r.most > 0 {
		n = min(n, r.most)
	}
	var before, after runtime.MemStats
	for i := range rounds + 1 {
		var here float64
		if err := place(t, r, i/2); err != nil {
			return res, err
		}
		first := i%2 == 0 // take turns in who is first
		if first {
			if here, err = timeHere(r, n, &before, &after); err != nil {
				return res, err
			}
		}
		took, err := r.timeThere(t, n)
		if err != nil {
			return res, err
		}
		there := float64(took.Nanoseconds()) / float64(n)
		if !first {
			if here, err = timeHere(r, n, &before, &after); err != nil {
				return res, err
			}
		}
		if i == 0 {
			continue // it warms up
		}
		res.there = append(res.there, there)
		if r.here != nil {
			res.here = append(res.here, here)
			res.ratios = append(res.ratios, here/there)
			res.allocs += float64(after.Mallocs-before.Mallocs) / float64(n) / float64(rounds)
		}
	}
	return res, nil
}

// place puts both sides of a row on the same processor, a different one every other
// round: no two of them are equally fast at a time. A wide row is not bound to any.
func place(t *twin, r row, round int) error {
	var where []int
	if !r.wide {
		where = []int{round % runtime.NumCPU()}
	}
	if err := linux.Place(linux.ThreadID(), where...); err != nil {
		return err
	}
	return linux.Place(t.cmd.Process.Pid, where...)
}

// times gives the number of times that the twin does in about the given time, and how long
// one takes.
func times(t *twin, r row, each time.Duration) (n int, once time.Duration, err error) {
	for n := 1; ; n *= 2 {
		took, err := r.timeThere(t, n)
		if err != nil {
			return 0, 0, err
		}
		if took > each/4 {
			return max(1, int(float64(n)*float64(each)/float64(took))), took / time.Duration(n), nil
		}
	}
}

// timeThere has the peer do it n times.
func (r *row) timeThere(t *twin, n int) (took time.Duration, err error) {
	if r.peer == nil {
		took, _, err = t.run("%s", r.there(t, n))
		return took, err
	}
	began := time.Now()
	err = r.peer(n)
	return time.Since(began), err
}

func timeHere(r row, n int, before, after *runtime.MemStats) (float64, error) {
	if r.here == nil {
		return 0, nil
	}
	runtime.ReadMemStats(before)
	began := time.Now()
	err := r.here(n)
	took := time.Since(began)
	runtime.ReadMemStats(after)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", r.name, err)
	}
	return float64(took.Nanoseconds()) / float64(n), nil
}

// quantile gives the value below which that part of the values lies.
func quantile(values []float64, q float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	at := q * float64(len(sorted)-1)
	low := int(at)
	if low+1 >= len(sorted) {
		return sorted[low]
	}
	return sorted[low] + (at-float64(low))*(sorted[low+1]-sorted[low])
}
