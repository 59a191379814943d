// SPDX-License-Identifier: Apache-2.0

package vmcore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/testimage"
)

// kdumpFile is a file of b.
func kdumpFile(name string, b []byte) *source {
	return &source{name: name, size: int64(len(b)), r: bytes.NewReader(b)}
}

// openKdumpFiles opens the files of a kdump-compressed image, flattened ones too.
func openKdumpFiles(o *Options, files ...[]byte) (*Image, error) {
	srcs := make([]*source, len(files))
	for i, b := range files {
		srcs[i] = kdumpFile(fmt.Sprintf("part%d", i), b)
		if isFlat(b) {
			s, err := unwrapFlat(srcs[i])
			if err != nil {
				return nil, err
			}
			srcs[i] = s
		}
	}
	return openKdumpSources(o, srcs...)
}

func openKdumpSources(o *Options, srcs ...*source) (*Image, error) {
	if o == nil {
		o = &Options{}
	}
	f, err := openKdump(srcs, o)
	if err != nil {
		return nil, err
	}
	return newImage(f, srcs[0].name, o), nil
}

func mustKdump(t testing.TB, o *Options, files ...[]byte) *Image {
	t.Helper()
	m, err := openKdumpFiles(o, files...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// kdumpCause is what a read of a page of this class comes to.
func kdumpCause(c testimage.Class) error {
	switch c {
	case testimage.Excluded:
		return remora.ErrNotSaved
	case testimage.Lost:
		return remora.ErrTruncated
	case testimage.Hole:
		return remora.ErrHole
	}
	return nil
}

// sameKdump compares an image with the memory it was made of: every page and the one
// behind the last, read whole, in part and in long runs; and the runs.
func sameKdump(t *testing.T, m *Image, mem *testimage.Physical, base uint64) {
	t.Helper()
	size := uint64(mem.Size())
	end := mem.End() + 2
	ctx := context.Background()
	buf := make([]byte, size)
	want := func(pfn uint64) ([]byte, error) {
		if pfn < base {
			return nil, remora.ErrHole
		}
		data, class := mem.Page(pfn)
		return data, kdumpCause(class)
	}
	for pfn := range end {
		data, cause := want(pfn)
		for _, part := range [][2]uint64{{size / 2, 24}, {0, size}} {
			b := buf[:part[1]]
			n, err := m.Memory().ReadAt(ctx, b, remora.Addr(pfn*size+part[0]))
			if cause != nil {
				if n != 0 || !errors.Is(err, cause) {
					t.Fatalf("page 0x%x: %d bytes, %v; want %v", pfn, n, err, cause)
				}
				continue
			}
			if err != nil || !bytes.Equal(b, data[part[0]:][:part[1]]) {
				t.Fatalf("page 0x%x: wrong bytes, or %v", pfn, err)
			}
		}
	}
	long := make([]byte, 300*size)
	for pfn := uint64(0); pfn < end; {
		from := pfn*size + pfn%7*(size/8)
		n, err := m.Memory().ReadAt(ctx, long, remora.Addr(from))
		for at := from; at < from+uint64(n); at = (at/size + 1) * size {
			data, cause := want(at / size)
			got := long[at-from : min(uint64(n), (at/size+1)*size-from)]
			if cause != nil || !bytes.Equal(got, data[at%size:][:len(got)]) {
				t.Fatalf("a long read at 0x%x: wrong bytes at 0x%x, where there is %v", from, at, cause)
			}
		}
		stop := from + uint64(n)
		if _, cause := want(stop / size); n == len(long) && err != nil || n < len(long) && (cause == nil || !errors.Is(err, cause)) {
			t.Fatalf("a long read at 0x%x: %d bytes, then %v, where there is %v", from, n, err, cause)
		}
		pfn = max(pfn+1, stop/size)
	}
	sameKdumpRuns(t, m, mem, base)
}

// sameKdumpRuns compares the runs of an image with the memory it was made of.
func sameKdumpRuns(t *testing.T, m *Image, mem *testimage.Physical, base uint64) {
	t.Helper()
	seen := make(map[uint64]Run)
	last := Run{Err: errors.New("none")}
	for r, err := range m.Runs(context.Background()) {
		if err != nil {
			t.Fatal(err)
		}
		if joins(&last, &r) {
			t.Errorf("%+v and %+v are one run", last, r)
		}
		last = r
		for pfn := uint64(r.Start) / uint64(mem.Size()); pfn <= uint64(r.Last())/uint64(mem.Size()); pfn++ {
			seen[pfn] = r
		}
	}
	for pfn := range mem.End() + 2 {
		_, class := mem.Page(pfn)
		r, ok := seen[pfn]
		if ok != (class != testimage.Hole && pfn >= base) || ok && r.Err != kdumpCause(class) {
			t.Fatalf("page 0x%x is in run %+v, %v; it is %v", pfn, r, ok, class)
		}
	}
}

// randomKdump is a writer for a random layout, in one of all the shapes that there are.
func randomKdump(seed uint64) (*testimage.Kdump, [][]byte) {
	rng := rand.New(rand.NewPCG(seed, 7))
	size := 4096
	if seed%9 == 8 {
		size = 16384 << (seed / 9 % 3)
	}
	mem := testimage.Random(seed, size, 30+rng.IntN(60)/(size/4096))
	pfns := mem.PFNs()
	if rng.IntN(2) == 0 {
		for _, pfn := range pfns[len(pfns)-rng.IntN(20):] {
			if _, class := mem.Page(pfn); class == testimage.Saved {
				mem.Mark(pfn, 1, testimage.Lost)
			}
		}
	}
	k := testimage.NewKdump(mem)
	k.Version = int(seed % 7)
	k.BigEndian = seed/7%2 == 1
	k.Narrow = seed/14%2 == 1
	k.Packed = rng.IntN(2) == 0
	k.DiskDump = rng.IntN(4) == 0
	k.SharedZero = rng.IntN(2) == 0
	k.SizeZero = rng.IntN(6) == 0
	garbage := rng.IntN(2) == 0
	k.NotesLast = rng.IntN(2) == 0
	k.Garbage = garbage && k.NotesLast
	k.DumpLevel = 31
	k.Sec = 1700000000
	k.Compress = testimage.Methods()[rng.IntN(len(testimage.Methods()))]
	if rng.IntN(2) == 0 {
		k.VMCoreInfo = testimage.VMCoreInfo("OSRELEASE", "6.12.0-test", "PAGESIZE", fmt.Sprint(size))
	}
	files := [][]byte{k.Bytes()}
	if k.Version >= 2 && rng.IntN(3) == 0 {
		files = k.SplitFiles(1 + rng.IntN(4))
		rng.Shuffle(len(files), func(i, j int) { files[i], files[j] = files[j], files[i] })
	}
	for i := range files {
		if rng.IntN(3) == 0 {
			files[i] = testimage.Flatten(files[i], testimage.FlatOptions{
				Seed: seed, Max: 1 << (4 + rng.IntN(12)), Shuffle: rng.IntN(2) == 0, Rewrite: rng.IntN(20), SkipZeros: rng.IntN(2) == 0})
		}
	}
	return k, files
}

// TestKdumpRandom compares images of random memory in all shapes with the memory.
func TestKdumpRandom(t *testing.T) {
	for seed := range uint64(196) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			k, files := randomKdump(seed)
			if k.Version == 0 {
				for _, pfn := range k.Mem.PFNs() {
					if p := k.Mem.Pages[pfn]; p.Class == testimage.Excluded {
						k.Mem.Pages[pfn] = testimage.Page{} // there are no others in version 0
					}
				}
			}
			m := mustKdump(t, &Options{CacheBytes: int(seed%3) * 100 << 10}, files...)
			sameKdump(t, m, k.Mem, 0)
			meta := m.Meta()
			if meta.Version != k.Version || meta.BigEndian != k.BigEndian || k.Narrow != (meta.WordSize == 4) || len(meta.Parts) != len(files) {
				t.Errorf("%+v", meta)
			}
			if k.Version >= 3 && !bytes.Equal(meta.VMCoreInfo, k.VMCoreInfo) {
				t.Errorf("VMCOREINFO %q", meta.VMCoreInfo)
			}
			if len(meta.Problems) != 0 {
				t.Errorf("problems: %v", meta.Problems)
			}
		})
	}
}
