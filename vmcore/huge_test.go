// SPDX-License-Identifier: Apache-2.0

package vmcore_test

import (
	"context"
	"errors"
	"os"
	"runtime"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/testimage"
	"github.com/remora-go/remora/vmcore"
)

// bigMachine has size bytes of memory in three runs, of which two pages are not zeros.
func bigMachine(size uint64) *testimage.Physical {
	pages := size / page
	mem := &testimage.Physical{Runs: []testimage.Run{
		{First: 0, End: 160}, {First: 256, End: 3 << 18}, {First: 1 << 20, End: 1<<20 + pages},
	}}
	mem.Set(300, []byte{3})
	mem.Set(1<<20+pages-1, []byte{7})
	return mem
}

// TestHuge opens images of a machine of 1 TiB, and wants what is read and allocated to be
// what it is for a machine of 1 GiB.
func TestHuge(t *testing.T) {
	type cost struct {
		calls int
		bytes int64
		alloc uint64
	}
	open := func(size uint64, write func(*testimage.Physical, *testimage.Sparse) error, o *vmcore.Options) cost {
		mem := bigMachine(size)
		var file testimage.Sparse
		if err := write(mem, &file); err != nil {
			t.Fatal(err)
		}
		r := &counting{r: &file}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		m, err := vmcore.New([]vmcore.File{{Name: "huge", Size: file.Size(), R: r}}, o)
		runtime.ReadMemStats(&after)
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		c := cost{r.calls, r.bytes, after.TotalAlloc - before.TotalAlloc}
		for a, want := range map[uint64]byte{300 * page: 3, (1<<20-1)*page + size: 7, 1 << 32: 0} {
			if got, err := at(m, remora.Addr(a)); got != want || err != nil {
				t.Errorf("0x%x: %d, %v", a, got, err)
			}
		}
		if _, err := at(m, remora.Addr(1<<32+size)); !errors.Is(err, remora.ErrHole) {
			t.Error(err)
		}
		return c
	}
	for name, tc := range map[string]struct {
		write func(*testimage.Physical, *testimage.Sparse) error
		opts  vmcore.Options
		reads int
		bytes int64
	}{
		"ELF": {write: func(p *testimage.Physical, w *testimage.Sparse) error {
			_, err := (&testimage.VMCore{Mem: p, Notes: []testimage.Note{info()}}).WriteTo(w)
			return err
		}, reads: 8, bytes: 64 << 10},
		"LiME": {write: func(p *testimage.Physical, w *testimage.Sparse) error {
			return p.LiMETo(w, testimage.LiMEOptions{})
		}, reads: 1 + 3, bytes: 4096 + 3*32},
		"raw": {write: func(p *testimage.Physical, w *testimage.Sparse) error {
			return p.RawTo(w, testimage.RawOptions{HoleStart: 3 << 30, HoleSize: 1 << 30})
		}, opts: vmcore.Options{Format: vmcore.Raw, Hole: remora.Range{Start: 3 << 30, Size: 1 << 30}}},
	} {
		small, huge := open(1<<30, tc.write, &tc.opts), open(1<<40, tc.write, &tc.opts)
		if huge.calls != small.calls || huge.bytes != small.bytes || huge.calls > tc.reads || huge.bytes > tc.bytes {
			t.Errorf("%s: 1 TiB: %+v, 1 GiB: %+v", name, huge, small)
		}
		if huge.alloc > small.alloc+16<<10 || huge.alloc > 128<<10 {
			t.Errorf("%s: 1 TiB: %+v, 1 GiB: %+v", name, huge, small)
		}
	}
}

// TestSparseFile opens files of 10 TiB, in which there is next to nothing.
func TestSparseFile(t *testing.T) {
	const size = 10 << 40
	path := saveFile(t, testimage.Random(1, page, 2).LiME(testimage.LiMEOptions{}))
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Logf("this file system has no such files: %v", err)
		return
	}
	if _, err := f.WriteAt([]byte{1, 2, 3}, size-3); err != nil {
		t.Fatal(err)
	}
	m, err := vmcore.Open(path, nil)
	if err != nil || len(m.Meta().Problems) != 1 {
		t.Fatalf("LiME: %v, %v", err, m)
	}
	m.Close()
	m, err = vmcore.Open(path, &vmcore.Options{Format: vmcore.Raw})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	buf := make([]byte, 4*page)
	for a, n := range map[remora.Addr]int{0: len(buf), 5 << 40: len(buf), size - 3*page - 3: 3*page + 3} {
		if got, err := m.Memory().ReadAt(context.Background(), buf, a); got != n || (n < len(buf)) != errors.Is(err, remora.ErrHole) {
			t.Errorf("%v: %d, %v", a, got, err)
		}
	}
	if got, err := at(m, size-1); got != 3 || err != nil {
		t.Errorf("the last byte: %d, %v", got, err)
	}
}
