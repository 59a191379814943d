// SPDX-License-Identifier: Apache-2.0

package paging

import (
	"context"
	"math/rand/v2"
	"testing"

	"github.com/remora-go/remora"
)

// scattered is a process of n pages, each somewhere else, on x86-64 with 4 levels: its
// tables and the pages' addresses.
func scattered(n int) (*ram, []remora.Addr) {
	mem := newRAM()
	mem.granule = 4096
	rng := rand.New(rand.NewPCG(1, 2))
	mem.set(0x1000, 0, 0x2067)
	mem.set(0x2000, 0, 0x3067)
	vas := make([]remora.Addr, n)
	for i := range n {
		table := uint64(0x100000 + i/512*0x1000)
		mem.set(0x3000, i/512, table|0x67)
		mem.set(table, i%512, rng.Uint64N(1<<24)<<12|0x67)
		vas[i] = remora.Addr(i) << 12
	}
	rng.Shuffle(n, func(i, j int) { vas[i], vas[j] = vas[j], vas[i] })
	return mem, vas
}

// What was translated before, among 1,024 scattered pages: 20 million a second.
func BenchmarkTranslateCached(b *testing.B) {
	mem, vas := scattered(1024)
	t := NewTables(mem, x86(b, 4), 0x1000, nil)
	benchTranslate(b, t, vas)
}

// A walk whose tables are kept: more pages than translations.
func BenchmarkTranslateWalk(b *testing.B) {
	mem, vas := scattered(1 << 16)
	t := NewTables(mem, x86(b, 4), 0x1000, &Options{Cache: NewCache(mem, &CacheOptions{Translations: 1})})
	benchTranslate(b, t, vas)
}

// A walk with nothing kept: four reads of a table each.
func BenchmarkTranslateCold(b *testing.B) {
	mem, vas := scattered(1024)
	t := NewTables(mem, x86(b, 4), 0x1000, &Options{Live: true})
	mem.reads.Store(0)
	benchTranslate(b, t, vas)
	b.ReportMetric(float64(mem.reads.Load())/float64(b.N), "reads/op")
}

func BenchmarkTranslateParallel(b *testing.B) {
	mem, vas := scattered(1024)
	t := NewTables(mem, x86(b, 4), 0x1000, nil)
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			t.Translate(context.Background(), vas[i%len(vas)])
		}
	})
}

func benchTranslate(b *testing.B, t *Tables, vas []remora.Addr) {
	ctx := context.Background()
	for _, va := range vas {
		t.Translate(ctx, va)
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if e := t.Translate(ctx, vas[i]); e.Err != nil {
			b.Fatal(e.Err)
		}
		if i++; i == len(vas) {
			i = 0
		}
	}
}
