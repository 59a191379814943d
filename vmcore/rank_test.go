// SPDX-License-Identifier: Apache-2.0

package vmcore

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/testimage"
)

// randomBits is a bitmap of n bits whose regions are full, empty or mixed, and the ranks
// of all bits.
func randomBits(seed, n uint64) (b []byte, ranks []uint32) {
	rng := rand.New(rand.NewPCG(seed, 6))
	b = make([]byte, (n+7)/8)
	for at := uint64(0); at < n; {
		run := min(1+rng.Uint64N(1<<rng.Uint64N(23)), n-at)
		kind := rng.IntN(3)
		for i := at; i < at+run; i++ {
			if kind == 0 || kind == 1 && rng.IntN(2) == 0 {
				b[i/8] |= 1 << (i % 8)
			}
		}
		at += run
	}
	ranks = make([]uint32, n+1)
	for i := range n {
		ranks[i+1] = ranks[i] + uint32(b[i/8]>>(i%8)&1)
	}
	if n%8 != 0 {
		b[n/8] |= 0xff << (n % 8) // bits that do not count
	}
	return b, ranks
}

// TestRank compares ranks and runs with a plain count, with the bits kept and not.
func TestRank(t *testing.T) {
	ctx := context.Background()
	for seed, n := range []uint64{1, 63, 64, 1000, 1 << 20, 1<<20 + 1, 3<<20 + 777, 5 << 20} {
		raw, ranks := randomBits(uint64(seed), n)
		for _, kept := range []int{0, rankKept} {
			b := &rankBits{src: kdumpFile("bits", append(make([]byte, 10), raw...)), off: 10, n: n, kept: kept}
			rng := rand.New(rand.NewPCG(uint64(seed), 8))
			for range 3000 {
				i := rng.Uint64N(n)
				set, rank, err := b.look(ctx, i)
				if want := ranks[i+1] > ranks[i]; err != nil || set != want || rank != uint64(ranks[i]) {
					t.Fatalf("bit %d of %d: %v, %d, %v; want %v, %d", i, n, set, rank, err, want, ranks[i])
				}
				same, end, err := b.span(ctx, i)
				if err != nil || same != set || end <= i || end > n {
					t.Fatalf("the run of bit %d of %d: %v, %d, %v", i, n, same, end, err)
				}
				got, all := uint64(ranks[end]-ranks[i]), end-i
				if set && got != all || !set && got != 0 {
					t.Fatalf("the run of bit %d of %d ends at %d, but %d bits of it are set", i, n, end, got)
				}
				if end < n && end%rankGroup != 0 && (ranks[end+1] > ranks[end]) == set {
					t.Fatalf("the run of bit %d of %d goes on at %d", i, n, end)
				}
			}
			if set, rank, err := b.look(ctx, n); set || rank != uint64(ranks[n]) || err != nil {
				t.Fatalf("all %d bits: %v, %d, %v", n, set, rank, err)
			}
			size := 0
			for r := range b.built.Load() {
				size += 4 * len(b.at(r).ranks)
			}
			if n >= 1<<20 && size > int(n/8/16) {
				t.Errorf("%d bytes of ranks for %d of bitmap", size, n/8)
			}
		}
	}
}

// TestRankAgain: what cannot be read now is tried again.
func TestRankAgain(t *testing.T) {
	raw, ranks := randomBits(3, 1<<21)
	src := kdumpFile("bits", raw)
	b := &rankBits{src: src, n: 1 << 21}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, _, err := b.look(ctx, 5); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	good := src.r
	src.r = bytes.NewReader(nil)
	if _, _, err := b.look(context.Background(), 5); err != remora.ErrTruncated {
		t.Error(err)
	}
	src.r = badReader{}
	if _, _, err := b.span(context.Background(), 5); err != remora.ErrIO {
		t.Error(err)
	}
	src.r = good
	if _, rank, err := b.look(context.Background(), 1<<20+5); err != nil || rank != uint64(ranks[1<<20+5]) {
		t.Error(rank, err)
	}
}

// badReader fails.
type badReader struct{}

func (badReader) ReadAt([]byte, int64) (int, error) { return 0, errors.New("the disk is broken") }

// atomicCounter counts from many goroutines.
type atomicCounter struct {
	r     io.ReaderAt
	calls atomic.Int64
	bytes atomic.Int64
}

func (c *atomicCounter) ReadAt(b []byte, off int64) (int, error) {
	c.calls.Add(1)
	c.bytes.Add(int64(len(b)))
	return c.r.ReadAt(b, off)
}

// allocated is how much f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// TestKdumpHuge opens a dump of 1 TiB, of which little was saved: a constant number of
// reads. The tables that a first read makes are small, since most of the memory is alike.
func TestKdumpHuge(t *testing.T) {
	const last = 1<<28 - 1 // page
	mem := &testimage.Physical{Runs: []testimage.Run{{First: 0, End: last + 1, Class: testimage.Excluded}}}
	rng := rand.New(rand.NewPCG(4, 4))
	mem.Set(last, []byte("the last page"))
	for range 200 {
		mem.Set(rng.Uint64N(last), []byte("a page"))
	}
	k := testimage.NewKdump(mem)
	k.Compress = testimage.Zlib
	var file testimage.Sparse
	if _, err := k.WriteTo(&file); err != nil {
		t.Fatal(err)
	}
	count := &atomicCounter{r: &file}
	var m *Image
	if n := allocated(func() {
		var err error
		if m, err = openKdumpSources(nil, &source{name: "huge", size: file.Size(), r: count}); err != nil {
			t.Fatal(err)
		}
	}); n > 64<<10 {
		t.Errorf("opening allocates %d bytes", n)
	}
	defer m.Close()
	if calls, size := count.calls.Load(), count.bytes.Load(); calls > 8 || size > 16<<10 {
		t.Errorf("opening makes %d reads of %d bytes", calls, size)
	}
	var wait sync.WaitGroup
	n := allocated(func() {
		for range 4 {
			wait.Go(func() {
				b := make([]byte, 13)
				if _, err := m.Memory().ReadAt(context.Background(), b, last*4096); err != nil || string(b) != "the last page" {
					t.Errorf("%q, %v", b, err)
				}
			})
		}
		wait.Wait()
	})
	if n > 8<<20+4<<20 { // tables of the page cache, and the mixed regions
		t.Errorf("the first read allocates %d bytes", n)
	}
	if size := count.bytes.Load(); size > 1<<28/8+1<<20 {
		t.Errorf("%d bytes read for a bitmap of %d", size, 1<<28/8)
	}
	for _, pfn := range mem.PFNs() {
		want, _ := mem.Page(pfn)
		b := make([]byte, 4096)
		if _, err := m.Memory().ReadAt(context.Background(), b, remora.Addr(pfn*4096)); err != nil || !bytes.Equal(b, want) {
			t.Fatalf("page 0x%x: %v", pfn, err)
		}
	}
	runs := 0
	for range m.Runs(context.Background()) {
		runs++
	}
	if runs < 200 || runs > 500 {
		t.Errorf("%d runs", runs)
	}
}

// TestKdumpARM: the bitmaps of 32-bit ARM begin at the physical base.
func TestKdumpARM(t *testing.T) {
	const base = 0x80000000 / 4096
	mem := &testimage.Physical{}
	for pfn := range uint64(20) {
		mem.Set(base+pfn, []byte{byte(pfn), 1, 2})
	}
	mem.Mark(base+5, 2, testimage.Excluded)
	k := testimage.NewKdump(mem)
	k.Narrow, k.BasePFN, k.PhysBase = true, base, base*4096
	k.Utsname = []string{"Linux", "test", "6.1", "#1", "armv7l", ""}
	m := mustKdump(t, nil, k.Bytes())
	for pfn := uint64(base - 2); pfn < base+22; pfn++ {
		want, class := mem.Page(pfn)
		b := make([]byte, 4096)
		n, err := m.Memory().ReadAt(context.Background(), b, remora.Addr(pfn*4096))
		if class == testimage.Saved && (err != nil || !bytes.Equal(b, want)) || class != testimage.Saved && (n != 0 || !errors.Is(err, kdumpCause(class))) {
			t.Errorf("page 0x%x: %v", pfn, err)
		}
	}
	var all []Run
	for r := range m.Runs(context.Background()) {
		all = append(all, r)
	}
	if len(all) != 3 || all[0].Start != base*4096 || all[1].Err != remora.ErrNotSaved || all[2].Last() != (base+20)*4096-1 {
		t.Errorf("%+v", all)
	}
}
