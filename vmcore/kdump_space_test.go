// SPDX-License-Identifier: Apache-2.0

package vmcore

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/testimage"
	"github.com/remora-go/remora/memtest"
)

// kdumpAreas is what an image of mem holds, and does not hold.
func kdumpAreas(mem *testimage.Physical) []memtest.Area {
	size := uint64(mem.Size())
	var all []memtest.Area
	add := func(first, end uint64, class testimage.Class) {
		if first == end {
			return
		}
		a := memtest.Area{Range: remora.Range{Start: remora.Addr(first * size), Size: (end - first) * size}}
		if a.Fault = memtest.Always(kdumpCause(class)); class == testimage.Saved {
			a.Fault = memtest.OnWrite(remora.ErrReadOnly)
			for pfn := first; pfn < end; pfn++ {
				data, _ := mem.Page(pfn)
				a.Data = append(a.Data, data...)
			}
		}
		all = append(all, a)
	}
	at := uint64(0)
	for r := range mem.All() {
		add(at, r.First, testimage.Hole)
		add(r.First, r.End, r.Class)
		at = r.End
	}
	add(at, at+3, testimage.Hole)
	return all
}

// kdumpContract is what all kdump images claim.
func kdumpContract(k *testimage.Kdump, part uint64) memtest.Want {
	want := memtest.Want{
		Info: remora.Info{
			Ops:       remora.StopAtFault | remora.Force | remora.Resident,
			PtrSize:   8,
			BigEndian: k.BigEndian,
			Granule:   uint32(k.Mem.Size()),
			Last:      remora.MaxAddr,
		},
		Part: part,
		Lacks: memtest.Lacks{
			Forced: "an image has no protection",
			Absent: "an image has no pages to fault in",
			Top:    "no machine has memory there",
		},
	}
	if k.Narrow {
		want.Info.PtrSize = 4
	}
	if part != 0 {
		want.Lacks.Large = "the same reads as in the test that has it"
	}
	return want
}

func testKdumpSpace(t *testing.T, k *testimage.Kdump, part uint64, o *Options, files ...[]byte) {
	areas := kdumpAreas(k.Mem)
	memtest.TestSpace(t, func(t testing.TB) memtest.Fixture {
		m, err := openKdumpFiles(o, files...)
		if err != nil {
			t.Fatal(err)
		}
		return memtest.Fixture{Space: m, Areas: areas, Close: m.Close}
	}, kdumpContract(k, part))
}

// largeKdump is an image with more than 3 MiB in one run, and all kinds of pages.
func largeKdump() *testimage.Kdump {
	mem := testimage.Random(1, 4096, 100)
	mem.Mark(20, 3, testimage.Lost)
	mem.Mark(30, 3, testimage.Excluded)
	rng := rand.New(rand.NewPCG(2, 2))
	first := mem.End() + 5
	for pfn := first; pfn < first+3<<20/4096+7; pfn++ {
		page := bytes.Repeat([]byte{byte(pfn), byte(rng.Uint32()), 1, 2}, 1024)
		mem.Set(pfn, page)
	}
	return testimage.NewKdump(mem)
}

func TestKdumpSpace(t *testing.T) {
	k := largeKdump() // not compressed: inflating takes its time under the race detector
	testKdumpSpace(t, k, 0, nil, k.Bytes())
}

// TestKdumpSpaceShapes holds the shapes of files against the contract, a part each.
func TestKdumpSpaceShapes(t *testing.T) {
	for _, seed := range []uint64{1, 25, 41} { // versions 1, 4 and 6, wide and narrow, in both byte orders
		if RaceEnabled && seed != 25 {
			continue // nothing in them is shared in another way
		}
		k, files := randomKdump(seed)
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			testKdumpSpace(t, k, seed+1, nil, files...)
		})
	}
	for i, method := range testimage.Methods() {
		if RaceEnabled && method != testimage.Mixed {
			continue
		}
		k := testimage.NewKdump(testimage.Random(uint64(i)+40, 4096, 25))
		k.Compress = method
		t.Run(method.String(), func(t *testing.T) { testKdumpSpace(t, k, uint64(i)+50, nil, k.Bytes()) })
	}
}

// TestKdumpReaders reads one image from many goroutines, through a cache that is much too
// small, in pieces of all sizes. When it is closed no goroutine is left.
func TestKdumpReaders(t *testing.T) {
	t.Cleanup(func() { goleak.VerifyNone(t, goleak.IgnoreCurrent()) })
	k := largeKdump()
	k.Compress = testimage.Mixed
	files := k.SplitFiles(2)
	m, err := openKdumpFiles(&Options{CacheBytes: 200 << 10}, files[1], testimage.Flatten(files[0], testimage.FlatOptions{}))
	if err != nil {
		t.Fatal(err)
	}
	areas := kdumpAreas(k.Mem)
	var wait sync.WaitGroup
	for g := range uint64(8) {
		wait.Go(func() {
			rng := rand.New(rand.NewPCG(g, 0))
			buf := make([]byte, 1<<20)
			for range 200 {
				a := &areas[rng.IntN(len(areas))]
				at := rng.Uint64N(a.Size)
				n := min(1+rng.Uint64N(1<<rng.Uint64N(21)), a.Size-at)
				for step := 0; step < 5 && n > 0; step++ { // small ones go on, as readers do
					got, _ := m.Memory().ReadAt(context.Background(), buf[:n], a.Start+remora.Addr(at))
					if a.Data != nil && uint64(got) != n || !bytes.Equal(buf[:got], a.Data[min(at, uint64(len(a.Data))):][:got]) {
						t.Errorf("%d of %d bytes at %v, or wrong ones", got, n, a.Start+remora.Addr(at))
						return
					}
					at += n
					n = min(n, a.Size-at)
				}
			}
		})
	}
	for range 2 {
		if err := m.Check(context.Background(), func(e *remora.FormatError) {
			if e.Err != remora.ErrTruncated {
				t.Error(e)
			}
		}); err != nil {
			t.Error(err)
		}
	}
	wait.Wait()
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}
