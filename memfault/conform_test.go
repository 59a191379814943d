// SPDX-License-Identifier: Apache-2.0

package memfault_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/memfault"
	"github.com/remora-go/remora/memtest"
)

const seeds = 12

// injection is a rule of the tests, and what it does to an area.
type injection struct {
	word        string
	first, last remora.Addr
	name        string
	cause       remora.Cause
}

func (in injection) String() string {
	return fmt.Sprintf("%s %#x-%#x %s", in.word, uint64(in.first), uint64(in.last), in.name)
}

func (in injection) hits(op remora.Op) bool {
	write := op&remora.Write != 0
	return in.word == "any" || write == (in.word == "write")
}

// injections gives rules that do not overlap, within the small areas of a sample.
func injections(rnd *rand.Rand, areas []memtest.Area) []injection {
	names := []string{"unmapped", "protected", "poisoned", "io", "not-saved", "gone"}
	causes := []remora.Cause{remora.ErrUnmapped, remora.ErrProtected, remora.ErrPoisoned, remora.ErrIO, remora.ErrNotSaved, remora.ErrGone}
	var out []injection
	for _, a := range areas {
		if rnd.IntN(3) > 0 || a.Start < 0x1000_0000 || a.Start >= 1<<44 {
			continue
		}
		at := rnd.Uint64N(a.Size)
		n, which := 1+rnd.Uint64N(a.Size-at), rnd.IntN(len(names))
		first := a.Start + remora.Addr(at)
		word := []string{"read", "write", "any"}[rnd.IntN(3)]
		out = append(out, injection{word, first, first + remora.Addr(n-1), names[which], causes[which]})
	}
	return out
}

// injected gives the areas as they are under the rules.
func injected(areas []memtest.Area, rules []injection) []memtest.Area {
	for _, in := range rules {
		var out []memtest.Area
		for _, a := range areas {
			out = append(out, split(a, in)...)
		}
		areas = out
	}
	return areas
}

func split(a memtest.Area, in injection) []memtest.Area {
	hit := a.Intersect(remora.Range{Start: in.first, Size: uint64(in.last-in.first) + 1})
	if hit.Empty() {
		return []memtest.Area{a}
	}
	var out []memtest.Area
	part := func(first, end remora.Addr, fault func(remora.Op) []error) {
		if first == end {
			return
		}
		p := memtest.Area{Range: remora.Range{Start: first, Size: uint64(end - first)}, Fault: fault}
		if a.Data != nil {
			p.Data = a.Data[first-a.Start:][:p.Size]
		}
		out = append(out, p)
	}
	part(a.Start, hit.Start, a.Fault)
	part(hit.Start, hit.Last()+1, func(op remora.Op) []error {
		switch {
		case in.hits(op):
			return []error{in.cause}
		case a.Fault == nil:
			return nil
		}
		return a.Fault(op)
	})
	part(hit.Last()+1, a.Last()+1, a.Fault)
	return out
}

// TestKeepsTheContract: with its faults written down as areas, a Space is a Space
// like any other.
func TestKeepsTheContract(t *testing.T) {
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			sample := memtest.NewSample(seed)
			rules := injections(rand.New(rand.NewPCG(seed, 3)), sample.Fixture.Areas)
			var text strings.Builder
			for _, in := range rules {
				fmt.Fprintln(&text, in)
			}
			want := sample.Want
			want.Part = seed + 1
			want.Info.Granule = granule(want.Info.Granule, rules)
			memtest.TestSpace(t, func(t testing.TB) memtest.Fixture {
				fx := memtest.NewSample(seed).Fixture
				space, err := memfault.New(fx.Space, text.String())
				if err != nil {
					t.Fatal(err)
				}
				fx.Space, fx.Close, fx.Areas = space, space.Close, injected(fx.Areas, rules)
				return fx
			}, want)
		})
	}
}

// granule is the largest power of two that divides where the rules begin and end.
func granule(size uint32, rules []injection) uint32 {
	for _, in := range rules {
		for uint64(in.first)%uint64(size) != 0 || uint64(in.last+1)%uint64(size) != 0 {
			size /= 2
		}
	}
	return size
}

// TestWithoutRules: delays and counts that are not reached change nothing.
func TestWithoutRules(t *testing.T) {
	for _, rules := range []string{"", "delay 1ns", "gone after 1000000000; every 9000000000th io"} {
		t.Run(rules, func(t *testing.T) {
			want := memtest.NewSample(2).Want
			if strings.Contains(rules, "every") {
				want.Info.Granule = 1
			}
			memtest.TestSpace(t, func(t testing.TB) memtest.Fixture {
				fx := memtest.NewSample(2).Fixture
				space, err := memfault.New(fx.Space, rules)
				if err != nil {
					t.Fatal(err)
				}
				fx.Space, fx.Close = space, space.Close
				return fx
			}, want)
		})
	}
}

// target is one with another Memory, the transparent way.
type target struct {
	remora.Target
	space *memfault.Space
}

func (t *target) Memory() *remora.Memory { return remora.New(t.space) }
func (t *target) Unwrap() any            { return t.Target }
func (t *target) Close() error           { return cmp.Or(t.space.Close(), t.Target.Close()) }

func TestIsTransparent(t *testing.T) {
	memtest.TestWrapper(t, func(below remora.Target) remora.Target {
		space, err := memfault.New(below.Memory(), "read 0x10-0x20 io")
		if err != nil {
			t.Fatal(err)
		}
		return &target{below, space}
	}, false)
}

// TestRulesCoverTheAreas guards the test above: there must be injections of each
// direction, inside of areas and at their ends.
func TestRulesCoverTheAreas(t *testing.T) {
	seen := map[string]bool{}
	for seed := range uint64(seeds) {
		areas := memtest.NewSample(seed).Fixture.Areas
		for _, in := range injections(rand.New(rand.NewPCG(seed, 3)), areas) {
			i := slices.IndexFunc(areas, func(a memtest.Area) bool { return a.Contains(in.first) })
			at := "inside"
			if in.last == areas[i].Last() {
				at = "at the end"
			}
			seen[in.word+" "+at] = true
		}
	}
	if len(seen) != 6 {
		t.Errorf("only these were there: %v", seen)
	}
}
