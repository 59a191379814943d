// SPDX-License-Identifier: Apache-2.0

package paging

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/remora-go/remora"
)

// A list takes time in the number of tables, not of what they claim to map.
func TestRegionsOfCyclicTables(t *testing.T) {
	mem := newRAM()
	mem.granule = 4096
	for i := range uint64(8) {
		for k := range 512 {
			mem.set(0x1000+i*0x1000, k, 0x1067+uint64(k)%8*0x1000) // each leads to all
		}
	}
	tables := NewTables(mem, x86(t, 5), 0x1000, nil)
	n := 0
	for _, err := range tables.Regions(context.Background()) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n > 5*8*512*2 || mem.reads.Load() > 8 {
		t.Errorf("%d regions, %d reads", n, mem.reads.Load())
	}
	for range tables.Regions(context.Background()) {
		break // ends when it is told to
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	var errs []error
	for _, err := range tables.Regions(ctx) {
		errs = append(errs, err)
	}
	if !slices.Equal(errs, []error{context.Canceled}) {
		t.Error(errs)
	}
}

// The list has every page that can be translated, and no other.
func TestRegionsAreWhatTranslates(t *testing.T) {
	ctx := context.Background()
	m := machines()[0]
	f, err := m.format()
	must(t, f, err)
	for seed := range uint64(10) {
		s := newScene(&m, seed)
		tables := NewTables(s.mem, f, remora.Addr(s.roots[0]), &Options{Live: seed%2 == 0})
		last := remora.Addr(0)
		for r, err := range tables.Regions(ctx) {
			if r.Start < last || r.Size == 0 {
				t.Fatalf("%v after %v", r.Range, last)
			}
			last = r.Last()
			if r.Name != "" {
				continue // stands for tables that were listed before
			}
			for _, a := range []remora.Addr{r.Start, r.Start + remora.Addr(s.rng.Uint64N(r.Size)), r.Last()} {
				e := tables.Translate(ctx, a)
				if err == nil && (e.Err != nil || e.Perm&^remora.PermUser != r.Perm&^remora.PermUser) || err != nil && !errors.Is(e.Err, remora.ErrNoTable) {
					t.Fatalf("%v %v %v: %s", r.Range, r.Perm, err, extentText(&e))
				}
			}
		}
		for range 100 {
			a := remora.Addr(s.address())
			if e := tables.Translate(ctx, a); e.Err == nil && !listed(ctx, tables, a) {
				t.Fatalf("%v is not listed: %s", a, extentText(&e))
			}
		}
	}
}

func listed(ctx context.Context, tables *Tables, a remora.Addr) bool {
	for r, err := range tables.Regions(ctx) {
		if err == nil && r.Contains(a) {
			return true
		}
	}
	return false
}
