// SPDX-License-Identifier: Apache-2.0

package paging

import (
	"context"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/remora-go/remora"
)

// FuzzWalk takes any bytes for the physical memory: 8 for the address, one for the
// geometry, the rest from physical address 0 on, with the root at the start. They end
// with a page, behind which nothing is there. Nothing may panic, no extent may break the rules of
// a Translator, and each must be what the model says.
func FuzzWalk(f *testing.F) {
	all := machines()
	for i := range all {
		s := newScene(&all[i], uint64(i))
		low := s.roots[0]
		seed := binary.LittleEndian.AppendUint64(nil, s.address())
		seed = append(seed, byte(i))
		for a := low; a < low+8<<12 && s.mem.pages[a>>12] != nil; a += 4096 {
			seed = append(seed, s.mem.pages[a>>12][:]...)
		}
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) < 9 {
			return
		}
		va, m := binary.LittleEndian.Uint64(data), all[int(data[8])%len(all)]
		data = data[9:min(len(data), 1<<17)]
		mem := newRAM()
		mem.granule = 4096
		for a := 0; a < len(data); a += 4096 {
			copy(mem.make(uint64(a))[:], data[a:])
		}
		format, err := m.format()
		must(t, format, err)
		tables := NewTables(mem, format, 0, &Options{Half: m.half, Cache: smallCache(mem)})
		ctx := context.Background()
		for _, a := range []uint64{va, va + 1<<m.page, ^va, 0} {
			e := tables.Translate(ctx, remora.Addr(a))
			first, last := uint64(e.Virt), uint64(e.Virt)+e.Size-1
			if e.Size == 0 || a < first || a > last || first>>63 != last>>63 {
				t.Fatalf("%#x: %s", a, extentText(&e))
			}
			for _, spot := range []uint64{a, first, last} {
				want := m.walk(mem, 0, spot)
				if want.err != nil && !errors.Is(e.Err, want.err) || want.err == nil && (e.Err != nil || uint64(e.Phys)+spot-first != want.phys) {
					t.Fatalf("%#x of %#x: %s, want %#x %v", spot, a, extentText(&e), want.phys, want.err)
				}
			}
			if steps := tables.Walk(ctx, remora.Addr(a)); len(steps) > format.Levels() {
				t.Fatalf("%d steps", len(steps))
			}
			if e.Err != nil {
				if x := tables.Explain(ctx, remora.Read, remora.Addr(a), e.Err); !errors.Is(x, e.Err) {
					t.Fatalf("%v became %v", e.Err, x)
				}
			}
		}
		n := 0
		for r := range tables.Regions(ctx) {
			if n++; r.Size == 0 || n > 5*512*(len(data)/8+1) {
				t.Fatalf("region %d: %v", n, r.Range)
			}
		}
	})
}
