// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/specimen"
	"github.com/remora-go/remora/internal/sys/linux"
)

// The differential test makes the same random call in a child process and in a
// memtest.Sparse with the same layout, and holds counts, causes, bytes and what was
// not to be touched against one another. The environment may say more:
//
//	REMORA_VECTORS  how many vectors; a million take five minutes on two processors
//	REMORA_SEED     of all that is random; printed
//	REMORA_LAYOUT   only this layout, of that seed

const (
	diffVectors   = 8000
	diffPerLayout = 125
	diffSeed      = 1
	diffWorkers   = 2 // processes
	diffFailures  = 4 // enough to see a pattern
)

func diffSetting(t *testing.T, name string, otherwise int) int {
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

func TestDifferential(t *testing.T) {
	if linux.ForcedWrite() != 0 {
		lacks(t, "/proc/PID/mem heeds protections on this kernel: nothing else can look at such memory")
	}
	vectors := diffSetting(t, "REMORA_VECTORS", diffVectors)
	seed := diffSetting(t, "REMORA_SEED", diffSeed)
	only := diffSetting(t, "REMORA_LAYOUT", -1)
	t.Logf("%d vectors, seed %d", vectors, seed)

	layouts := make(chan int)
	stop := make(chan struct{})
	var once sync.Once
	var all diffCover
	var mu sync.Mutex
	var wg sync.WaitGroup
	var lacking map[int]bool
	devices := false
	failures := 0
	for range diffWorkers {
		w := newDiffWorker(t, uint64(seed))
		lacking, devices = w.lacking, len(w.lay.device) > 0
		wg.Go(func() {
			for n := range layouts {
				if err := w.layout(n, min(diffPerLayout, vectors-n*diffPerLayout)); err != nil {
					mu.Lock()
					failures++
					many := failures >= diffFailures
					mu.Unlock()
					t.Errorf("REMORA_SEED=%d REMORA_LAYOUT=%d: %v", seed, n, err)
					if many {
						once.Do(func() { close(stop) })
					}
				}
			}
			mu.Lock()
			all.add(&w.cover)
			mu.Unlock()
		})
	}
feed:
	for n := range (vectors + diffPerLayout - 1) / diffPerLayout {
		if only >= 0 && n != only {
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
	text, missing := all.table(lacking, devices)
	t.Log("coverage\n" + text)
	if only >= 0 {
		return
	}
	for _, m := range missing {
		t.Error("not covered: ", m)
	}
}

// diffWorker has a child of its own, and every way into it.
type diffWorker struct {
	seed    uint64
	lacking map[int]bool
	ways    [len(diffWays)]*Process
	ends    context.Context
	lay     diffLayout
	witness diffWitness
	gen     diffGen
	clean   []byte // what noise was
	cover   diffCover
}

func newDiffWorker(t *testing.T, seed uint64) *diffWorker {
	w := &diffWorker{seed: seed}
	child := startSpecimen(t, &specimen.Options{Seed: seed})
	w.lacking = diffProbe(t, child)
	device, err := diffDeviceMemory(child.Pid())
	if err != nil {
		t.Fatal(err)
	}
	w.lay = diffLayout{page: uint64(os.Getpagesize()), device: device}
	w.witness = diffWitness{lay: &w.lay, child: child, mem: diffFile(t, child.Pid(), "mem"), pagemap: diffFile(t, child.Pid(), "pagemap")}
	for i, way := range diffWays {
		o := way.o
		o.Write = true
		w.ways[i] = openProcess(t, child.Pid(), &o)
	}
	var cancel context.CancelFunc
	w.ends, cancel = context.WithCancel(t.Context())
	t.Cleanup(cancel)
	w.gen.lay = &w.lay
	for i := range w.gen.arenas {
		w.gen.arenas[i] = make([]byte, diffArena)
	}
	w.gen.noise = make([]byte, 5<<18)
	specimen.Pattern(w.gen.noise, 0, seed+1)
	w.clean = bytes.Clone(w.gen.noise)
	return w
}

func diffFile(t *testing.T, pid int, name string) *os.File {
	t.Helper()
	f, err := os.Open(fmt.Sprintf("/proc/%d/%s", pid, name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// layout makes a layout and runs vectors over it. All that is random about it
// comes from the seed and its number.
func (w *diffWorker) layout(number, vectors int) error {
	rnd := rand.New(rand.NewPCG(w.seed, uint64(number)))
	shape := diffSome
	switch {
	case number%20 == 3:
		shape = diffLarge
	case number%4 == 1:
		shape = diffEvery
	}
	child := w.witness.child
	if err := child.Reset(); err != nil {
		return err
	}
	if err := w.lay.make(child, diffPieces(rnd, shape, w.lacking)); err != nil {
		return err
	}
	w.gen.rnd = rnd
	w.cover.layouts++
	for n := range vectors {
		if rnd.IntN(8) == 0 {
			if err := w.lay.dropSome(rnd, child); err != nil {
				return err
			}
		}
		v := w.gen.next()
		if err := w.vector(v, n%32 == 31); err != nil {
			return fmt.Errorf("vector %d: %w\n%s", n, err, v.describe(&w.lay))
		}
		w.cover.count(v, &w.lay)
	}
	if !bytes.Equal(w.gen.noise, w.clean) {
		return fmt.Errorf("a write has changed the buffer that it was to write from")
	}
	return w.witness.last()
}

// vector makes one call, and looks at what became of the child. With whole, it
// looks at all of it that is present.
func (w *diffWorker) vector(v *diffVector, whole bool) error {
	ctx := context.Background()
	if diffWays[v.way].ends {
		ctx = w.ends
	}
	op := v.bits()
	resident := op&remora.Resident != 0
	if resident {
		if err := w.witness.sync(); err != nil {
			return err
		}
	}
	if err := v.call(ctx, w.ways[v.way], &w.lay); err != nil {
		return err
	}
	if err := w.gen.canaries(); err != nil {
		return err
	}
	if resident {
		if err := w.witness.unchanged(); err != nil {
			return err
		}
	}
	if op&remora.Write != 0 || whole {
		w.witness.mark(v.got, whole)
		return w.witness.check(false)
	}
	return nil
}
