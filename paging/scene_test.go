// SPDX-License-Identifier: Apache-2.0

package paging

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/remora-go/remora"
)

// scene is a memory of random tables.
type scene struct {
	*machine
	rng   *rand.Rand
	mem   *ram
	roots []uint64
	index []int // of entries that are set
}

func newScene(m *machine, seed uint64) *scene {
	s := &scene{machine: m, rng: rand.New(rand.NewPCG(seed, 1)), mem: newRAM()}
	size := uint64(1) << m.page
	for i := range uint64(9) {
		s.roots = append(s.roots, (i+3)*size)
	}
	n := 1 << (m.page - 3)
	s.index = []int{0, 1, 2, 3, 15, 16, 17, n/2 - 1, n / 2, n - 2, n - 1}
	for i, table := range s.roots {
		if i > 0 && s.rng.IntN(8) == 0 {
			continue // this one is missing, or in part
		}
		for a := table; a < table+size; a += 4096 {
			s.mem.make(a)
		}
		last := s.entry()
		for _, k := range s.index {
			if s.rng.IntN(3) == 0 {
				last += s.step() // as one mapping with the one before, perhaps
			} else {
				last = s.entry()
			}
			s.mem.set(table, k, last)
		}
		if s.rng.IntN(6) == 0 {
			first := table + s.rng.Uint64N(size)
			s.mem.faults = append(s.mem.faults, fault{first, first + 1 + s.rng.Uint64N(40), remora.ErrNotSaved})
		}
	}
	return s
}

func (s *scene) step() uint64 {
	steps := []uint64{1 << s.page, 1 << (2*s.page - 3), 1 << 10, 1 << 19, 1 << 9, ^uint64(1<<9 - 1), ^uint64(1<<12 - 1), 0}
	return steps[s.rng.IntN(len(steps))]
}

// entry draws one: mostly what leads to a table or maps, sometimes anything.
func (s *scene) entry() uint64 {
	r := s.rng
	to := s.roots[r.IntN(len(s.roots))]
	if r.IntN(3) > 0 {
		to = r.Uint64N(1<<13) << s.page
	}
	if r.IntN(3) == 0 {
		to = r.Uint64N(1<<10) << (s.page + uint(r.IntN(3))*(s.page-3))
	}
	table := s.roots[r.IntN(len(s.roots))]
	kind := r.IntN(18)
	switch {
	case kind > 9 && s.arch == "riscv":
		return table>>2 | 1
	case kind > 9:
		return table | 0x63
	case kind == 0:
		return 0
	case kind == 1:
		return r.Uint64()
	case kind == 2:
		return r.Uint64() >> r.IntN(64) &^ 1
	case kind == 3:
		return 1<<r.IntN(64) ^ 1<<r.IntN(63) ^ 1<<r.IntN(12)
	}
	flip := uint64(0)
	if kind == 4 {
		flip = 1 << r.IntN(64)
	}
	switch s.arch {
	case "x86":
		return flip ^ []uint64{table | 0x67, table | 0x63, to | 0xe7, to | 0x67, ^to&(1<<52-1)>>12<<12 | 0x120, to | 0x120, ^to&(1<<52-1)>>12<<12 | 0x80}[r.IntN(7)]
	case "arm64":
		return flip ^ []uint64{table | 3, table | 3, to | 0x701, to | 0x703, to | 0xf82, to | 1<<58 | 0x702, to | 0xf80}[r.IntN(7)]
	}
	return flip ^ []uint64{table>>2 | 1, table>>2 | 1, to>>2 | 0xc7, to>>2 | 0xdf, to>>2 | 0xe6, to>>6<<4 | 1<<63 | 0x20c7, to>>2 | 0xc6}[r.IntN(7)]
}

// address draws one whose indices are of entries that are set, mostly.
func (s *scene) address() uint64 {
	va := s.rng.Uint64N(1 << s.page)
	for at := s.page; at < s.va; at += s.page - 3 {
		k := uint64(s.index[s.rng.IntN(len(s.index))])
		if s.rng.IntN(8) == 0 {
			k = s.rng.Uint64N(1 << (s.page - 3))
		}
		va |= k << at
	}
	va &= 1<<s.va - 1
	if s.arch == "arm64" && s.half == Upper || s.arch != "arm64" && bit(va, s.va-1) {
		va |= ^uint64(0) << s.va
	}
	if s.rng.IntN(40) == 0 {
		va ^= 1 << s.rng.IntN(64)
	}
	return va
}

// Random tables translate as a walker says that looks at each entry by itself.
func TestTablesTranslateAsTheModel(t *testing.T) {
	for _, m := range machines() {
		t.Run(m.name, func(t *testing.T) {
			f, err := m.format()
			must(t, f, err)
			mapped, seeds := 0, uint64(24)
			if m.page > 12 {
				seeds = 8 // larger tables take longer to make
			}
			for seed := range seeds {
				s := newScene(&m, seed)
				mapped += s.compare(t, f, seed%8 == 1)
			}
			if 4*mapped < int(seeds) {
				t.Errorf("only %d addresses were mapped", mapped)
			}
		})
	}
}

// smallCache is one that has to let go.
func smallCache(mem *ram) *Cache {
	return NewCache(mem, &CacheOptions{TableBytes: 5 << 16, Translations: 64})
}

func (s *scene) compare(t *testing.T, f *Format, live bool) (mapped int) {
	tables := NewTables(s.mem, f, remora.Addr(s.roots[0]), &Options{Half: s.half, Live: live, Cache: smallCache(s.mem)})
	for range 100 {
		va := s.address()
		e := tables.Translate(context.Background(), remora.Addr(va))
		if uint64(e.Virt) > va || va-uint64(e.Virt) >= e.Size {
			t.Fatalf("%#x is not in %s", va, extentText(&e))
		}
		spots := []uint64{va, uint64(e.Virt), uint64(e.Virt) + e.Size - 1, uint64(e.Virt) + s.rng.Uint64N(e.Size)}
		for _, spot := range spots {
			want := s.walk(s.mem, s.roots[0], spot)
			if want.err != nil && !errors.Is(e.Err, want.err) || want.err == nil && (e.Err != nil || uint64(e.Phys)+spot-uint64(e.Virt) != want.phys) {
				t.Fatalf("%#x, of %#x: %s, want %#x %v\n%v", spot, va, extentText(&e), want.phys, want.err, tables.Walk(context.Background(), remora.Addr(spot)))
			}
		}
		if e.Err == nil {
			mapped++
		}
	}
	return mapped
}
