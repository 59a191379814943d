// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/difftest"
	"github.com/remora-go/remora/internal/specimen"
	"github.com/remora-go/remora/internal/specimen/specimentest"
	"github.com/remora-go/remora/internal/sys/linux"
	"github.com/remora-go/remora/internal/testneed"
)

// The differential test makes the same random call in a child process and in a
// memtest.Sparse with the same layout, and holds counts, causes, bytes and what was
// not to be touched against one another. REMORA_VECTORS says how many vectors; a million
// take five minutes on two processors. See difftest for what else may be said.

const diffVectors = 8000

func TestDifferential(t *testing.T) {
	if linux.ForcedWrite() != 0 {
		testneed.Lacks(t, "/proc/PID/mem heeds protections on this kernel: nothing else can look at such memory")
	}
	run := difftest.Begin(t, "REMORA_VECTORS", diffVectors)
	var workers [difftest.Workers]*diffWorker
	var work []func(int, int) error
	for i := range workers {
		workers[i] = newDiffWorker(t, run.Seed)
		work = append(work, workers[i].layout)
	}
	run.Layouts(t, work...)
	var all diffCover
	for _, w := range workers {
		all.add(&w.cover)
	}
	text, missing := all.table(workers[0].lacking, len(workers[0].lay.device) > 0)
	run.Covered(t, text, missing)
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
	child := specimentest.Start(t, &specimen.Options{Seed: seed})
	w.lacking = difftest.Lacking(t, child)
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
