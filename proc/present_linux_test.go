// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/specimen"
)

// TestPresent holds what is told of a layout against what was touched of it, and sees that
// telling it changes nothing.
func TestPresent(t *testing.T) {
	for _, old := range []bool{false, true} {
		t.Run(fmt.Sprint("older ", old), func(t *testing.T) {
			b := newBench(t)
			pieces := []specimen.Piece{{Kind: specimen.Touched, Pages: 3}, {Kind: specimen.Untouched, Pages: 3000}}
			for range 700 { // more runs than one call finds
				pieces = append(pieces, specimen.Piece{Kind: specimen.Touched, Pages: 1}, specimen.Piece{Kind: specimen.Untouched, Pages: 1})
			}
			pieces = append(pieces, specimen.Piece{Kind: specimen.Hole, Pages: 5}, specimen.Piece{Kind: specimen.NoAccess, Pages: 2})
			areas := layOut(t, b.Specimen, pieces...)
			var want []remora.Range
			for i, p := range pieces {
				if p.Kind == specimen.Touched || p.Kind == specimen.NoAccess {
					want = append(want, areas[i].Range)
				}
			}
			p, err := Open(b.Pid(), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			if old {
				older(p)
			}
			whole := remora.Between(areas[0].Start, areas[len(areas)-1].Last()+1)
			before := b.entries(t, whole)
			if got := found(t, p, whole); !slices.Equal(got, want) {
				t.Errorf("%d runs, not %d: %v", len(got), len(want), got)
			}
			middle := remora.Range{Start: want[0].Start + remora.Addr(pageSize) + 5, Size: 3}
			page := remora.Range{Start: want[0].Start + remora.Addr(pageSize), Size: uint64(pageSize)}
			if got := found(t, p, middle); !slices.Equal(got, []remora.Range{page}) {
				t.Errorf("of three bytes: %v, not %v", got, page)
			}
			if got := found(t, p, areas[1].Range); got != nil {
				t.Errorf("of what was never touched: %v", got)
			}
			if !slices.Equal(before, b.entries(t, whole)) {
				t.Error("the page table has changed")
			}
			if got := found(t, p, remora.Range{Size: ^uint64(0)}); len(got) < len(want) {
				t.Errorf("of all: %d runs", len(got))
			}
			for range p.Present(t.Context(), whole) {
				break // and no more of it
			}
		})
	}
}

func found(t *testing.T, p *Process, r remora.Range) (runs []remora.Range) {
	t.Helper()
	for run, err := range p.Present(t.Context(), r) {
		if err != nil {
			t.Fatal(err)
		}
		runs = append(runs, run)
	}
	return runs
}

func TestPresentOfWhatIsNoMore(t *testing.T) {
	b := newBench(t)
	p, err := Open(b.Pid(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Exit(); err != nil {
		t.Fatal(err)
	}
	all := remora.Range{Size: ^uint64(0)}
	if err := last(p, all, t); !errors.Is(err, remora.ErrGone) {
		t.Errorf("after an exit: %v", err)
	}
	p.Close()
	if err := last(p, all, t); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// last gives the error that Present ends with.
func last(p *Process, r remora.Range, t *testing.T) (err error) {
	for _, err = range p.Present(t.Context(), r) {
	}
	return err
}

// TestLoopsRest wants a read that is made in the body of a loop over the map to be alone: what
// it asks about the process is short then.
func TestLoopsRest(t *testing.T) {
	b := newBench(t)
	p, err := Open(b.Pid(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	alone := func() {
		t.Helper()
		if !p.gate.Enter() {
			t.Fatal("closed")
		}
		if p.kept() {
			t.Error("a call fears that another one holds the address space")
		}
		p.gate.Leave()
	}
	for range p.Regions(t.Context()) {
		alone()
		break
	}
	for range p.Present(t.Context(), remora.Range{Size: ^uint64(0)}) {
		alone()
		break
	}
	if n := p.gate.Inside(); n != 0 {
		t.Errorf("%d calls are inside", n)
	}
}
