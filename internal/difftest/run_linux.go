// SPDX-License-Identifier: Apache-2.0

package difftest

import (
	"bytes"
	"os"
	"strconv"
	"sync"
	"testing"
)

const (
	perLayout = 125 // calls
	failures  = 4   // enough to see a pattern
)

// Workers is how many layouts are worked on at a time.
const Workers = 2

// Run is one run of a differential test.
type Run struct {
	Seed  uint64
	calls int
	short bool // fewer calls than it takes to come upon everything
	only  int  // the one layout, or -1
}

// Begin reads the environment. The variable of that name says how many calls are made;
// otherwise is how many are, where it does not.
func Begin(t *testing.T, name string, otherwise int) Run {
	t.Helper()
	r := Run{
		Seed:  uint64(setting(t, "REMORA_SEED", 1)),
		calls: setting(t, name, otherwise),
		only:  setting(t, "REMORA_LAYOUT", -1),
	}
	r.short = r.calls < otherwise
	t.Logf("%s=%d REMORA_SEED=%d", name, r.calls, r.Seed)
	return r
}

func setting(t *testing.T, name string, otherwise int) int {
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Layouts has the workers make each layout, by its number, and so many calls in it. Each
// worker has one at a time. After some failures no more are begun.
func (r Run) Layouts(t *testing.T, workers ...func(layout, calls int) error) {
	layouts := make(chan int)
	stop := make(chan struct{})
	var mu sync.Mutex
	var wg sync.WaitGroup
	failed := 0
	for _, work := range workers {
		wg.Go(func() {
			for n := range layouts {
				if err := work(n, min(perLayout, r.calls-n*perLayout)); err != nil {
					t.Errorf("REMORA_SEED=%d REMORA_LAYOUT=%d: %v", r.Seed, n, err)
					mu.Lock()
					if failed++; failed == failures {
						close(stop)
					}
					mu.Unlock()
				}
			}
		})
	}
feed:
	for n := range (r.calls + perLayout - 1) / perLayout {
		if r.only >= 0 && n != r.only {
			continue
		}
		select {
		case layouts <- n:
		case <-stop:
			break feed
		}
	}
	close(layouts)
	wg.Wait()
}

// Covered prints the coverage. What is missing in a whole run is a failure.
func (r Run) Covered(t *testing.T, table string, missing []string) {
	t.Log("coverage\n" + table)
	if r.only >= 0 || r.short {
		return
	}
	for _, m := range missing {
		t.Error("not covered: ", m)
	}
}

// First gives the first place where two slices of the same length differ, if they do.
func First(got, want []byte) (i int, differ bool) {
	if bytes.Equal(got, want) { // much quicker than the loop
		return 0, false
	}
	for got[i] == want[i] {
		i++
	}
	return i, true
}
