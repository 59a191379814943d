// SPDX-License-Identifier: Apache-2.0

package memtest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/remora-go/remora"
)

// errStale is in the segments before a call: a Space must overwrite it.
var errStale = errors.New("left over from before the call")

// probe holds one fixture at a time against what is known about it.
type probe struct {
	want Want
	work effort
	make func() Fixture
	logf func(format string, args ...any)

	fx    Fixture
	info  remora.Info
	lay   layout
	rnd   *rand.Rand
	noise noise
	got   []byte // what compare looked at last
}

// effort is how much of a rule's work is done.
type effort struct {
	ops    int           // the kinds of access that a rule tries
	share  int           // one in so many cases around edges is tried
	rounds int           // one in so many repetitions is made
	allocs int           // calls whose allocations are counted
	grace  time.Duration // how long a Close that does not wait is given to show itself
	seed   uint64        // of what is random
}

func (w *Want) effort() effort {
	switch {
	case w.Part != 0:
		return effort{ops: 2, share: 6, rounds: 10, allocs: 500, grace: time.Millisecond, seed: w.Part}
	case testing.Short():
		return effort{ops: 3, share: 4, rounds: 5, allocs: 1000, grace: 5 * time.Millisecond, seed: 1}
	}
	return all()
}

// all is the whole work.
func all() effort {
	return effort{ops: 8, share: 1, rounds: 1, allocs: 10_000, grace: 20 * time.Millisecond, seed: 1}
}

// times is how often to do what is done n times to the full.
func (e effort) times(n int) int { return (n + e.rounds - 1) / e.rounds }

// fresh closes the fixture and makes another.
func (p *probe) fresh() error {
	if err := p.discard(); err != nil {
		return err
	}
	p.fx = p.make()
	if p.noise == nil {
		p.noise = newNoise(newRand(p.work.seed))
	}
	p.rnd = newRand(p.work.seed)
	lay, err := newLayout(p.fx.Areas)
	if err != nil {
		return fmt.Errorf("fixture: %w", err)
	}
	p.lay, p.info = lay, p.fx.Space.Info()
	return p.claims()
}

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 2)) }

// afresh makes a fixture and takes the steps on it, up to the first error.
func (p *probe) afresh(steps ...func() error) error {
	if err := p.fresh(); err != nil {
		return err
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (p *probe) discard() error {
	closer := p.fx.Close
	p.fx = Fixture{}
	if closer == nil {
		return nil
	}
	if err := closer(); err != nil {
		return fmt.Errorf("Close: %w", err)
	}
	return nil
}

// claims compares Info with Want and with the areas.
func (p *probe) claims() error {
	got, want := p.info, p.want.Info
	if want.Name == "" && got.Name != "" {
		want.Name = got.Name
	}
	got.Ops &^= remora.Write
	want.Ops &^= remora.Write
	switch {
	case got != want:
		return fmt.Errorf("Info is %+v, want %+v", got, want)
	case got.Name == "" || got.Granule == 0:
		return fmt.Errorf("Info has no Name or no Granule: %+v", got)
	case got.Ops&^remora.AllOps != 0:
		return fmt.Errorf("Info.Ops holds unknown bits: %v", got.Ops)
	}
	for _, op := range p.ops() {
		for _, r := range p.lay.runs(op) {
			if r.Last() > got.Last {
				return fmt.Errorf("fixture: %v is beyond Info.Last, %v", r, got.Last)
			}
		}
		for _, r := range p.lay.edges(op) {
			if end := r.Last() + 1; uint64(end)%uint64(got.Granule) != 0 && r.Last() != got.Last {
				return fmt.Errorf("accessibility changes at %v, inside a Granule of %d bytes", end, got.Granule)
			}
		}
	}
	return nil
}

// ops lists the kinds of access that the Space claims, each of which needs a
// fixture of its own: writing a page makes it present.
func (p *probe) ops() []remora.Op {
	var out []remora.Op
	bits := remora.Force | remora.Resident
	for op := remora.Read; op <= remora.AllOps; op++ {
		if op&^(bits|remora.Write) == 0 && op&bits&^p.info.Ops == 0 && (op&remora.Write == 0 || p.info.Writable) {
			out = append(out, op)
		}
	}
	return out
}

// turn gives those of ops whose turn it is: all, unless only part of the work is
// to be done.
func (p *probe) turn(ops []remora.Op) []remora.Op {
	for len(ops) > p.work.ops {
		i := p.rnd.IntN(len(ops))
		ops = slices.Delete(ops, i, i+1)
	}
	return ops
}

// reads and writes give the ops in one direction.
func (p *probe) reads() []remora.Op {
	return slices.DeleteFunc(p.ops(), func(op remora.Op) bool { return op&remora.Write != 0 })
}

func (p *probe) writes() []remora.Op {
	return slices.DeleteFunc(p.ops(), func(op remora.Op) bool { return op&remora.Write == 0 })
}

// dirs gives Read, and Write where the Space is writable.
func (p *probe) dirs() []remora.Op {
	if p.info.Writable {
		return []remora.Op{remora.Read, remora.Write}
	}
	return []remora.Op{remora.Read}
}

// seg makes a segment; its Buf holds what is to be written, noise for a read.
func (p *probe) seg(a remora.Addr, n int) remora.Seg {
	buf := make([]byte, n)
	if n > 0 {
		p.noise.fill(p.rnd, buf)
	}
	return remora.Seg{Addr: a, Buf: buf}
}
