// SPDX-License-Identifier: Apache-2.0

package usercore

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"iter"
	"math"
	"slices"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/testimage"
	"github.com/remora-go/remora/memtest"
)

const coreBase = 0x400000

// sampleContents is a process with mappings of each kind: pages with contents, of zeros,
// that cannot be read, and that were never touched.
func sampleContents(t testing.TB) (*Contents, *memtest.Sparse) {
	s := memtest.NewSparse(nil)
	rw := remora.PermRead | remora.PermWrite
	for i, o := range []memtest.MapOptions{
		{Perm: remora.PermRead | remora.PermExec, Name: "/bin/program"},
		{Perm: rw},
		{Perm: rw, Name: "[heap]"},
	} {
		if err := s.Map(remora.Range{Start: coreBase + remora.Addr(i)*0x100000, Size: 0x8000}, o); err != nil {
			t.Fatal(err)
		}
	}
	for _, at := range []remora.Addr{0, 0x1000, 0x100000, 0x104000, 0x107ff0} {
		if err := s.Poke([]byte("contents"), coreBase+at); err != nil {
			t.Fatal(err)
		}
	}
	for _, at := range []remora.Addr{0x102010, 0x102000, 0x103000} {
		s.Inject(coreBase+at, remora.Read, remora.ErrNotSaved)
	}
	c := &Contents{
		Machine: elf.EM_X86_64, Memory: s.Memory(), Regions: s.Regions(t.Context()), PageSize: 4096,
		Process: Process{PID: 42, PPID: 1, UID: 7, GID: 8, Command: "a name that is too long", Args: "a b"},
		Threads: []ThreadRegs{{ID: 42, Signal: 11, Regs: map[string]uint64{"rip": coreBase + 4, "rsp": coreBase + 0x100010, "gs": 9}}, {ID: 43}},
		Auxv:    (&testimage.Core{}).Auxv(6, 4096).Desc,
	}
	return c, s
}

func TestWrite(t *testing.T) {
	for _, m := range []elf.Machine{elf.EM_X86_64, elf.EM_AARCH64, elf.EM_RISCV} {
		c, s := sampleContents(t)
		c.Machine = m
		if m != elf.EM_X86_64 {
			c.Threads[0].Regs = map[string]uint64{"pc": coreBase + 4, "sp": coreBase + 0x100010}
		}
		var out testimage.Sparse
		done, err := Write(t.Context(), &out, c)
		if err != nil {
			t.Fatal(err)
		}
		if done.Missing != 0x2000 || len(done.Gaps) != 1 || done.Saved+done.Missing != 3*0x8000 || done.Zeros != 3*0x8000-0x2000-5*0x1000 {
			t.Errorf("%v: %+v", m, done)
		}
		core, err := New(&out, done.Size, "written", nil)
		if err != nil {
			t.Fatal(err)
		}
		if p := core.Process(); p.PID != 42 || p.PPID != 1 || p.UID != 7 || p.GID != 8 || p.Command != "a name that is " || p.Args != "a b" {
			t.Errorf("%v: %+v", m, p)
		}
		threads, err := core.Threads()
		if err != nil || len(threads) != 2 || threads[0].ID != 42 || threads[1].ID != 43 || threads[0].PC != coreBase+4 || threads[0].SP != coreBase+0x100010 {
			t.Errorf("%v: %+v, %v", m, threads, err)
		}
		if a := core.Auxv(); len(a) != 1 || a[0] != (Aux{6, 4096}) {
			t.Errorf("%v: %v", m, a)
		}
		compareMemory(t, core, s)
	}
}

// compareMemory wants of a core what the memory that it was written of has, and no page of
// what could not be read there.
func compareMemory(t *testing.T, core *Core, s *memtest.Sparse) {
	t.Helper()
	for r, err := range s.Regions(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		for at := r.Start; at <= r.Last(); at += 4096 {
			want, got := make([]byte, 4096), make([]byte, 4096)
			_, wantErr := s.Memory().ReadAt(t.Context(), want, at)
			_, err := core.Memory().ReadAt(t.Context(), got, at)
			if (err == nil) != (wantErr == nil) || err == nil && !bytes.Equal(got, want) {
				t.Errorf("%v: %v, and %v of what it was written of", at, err, wantErr)
			}
		}
	}
	var names []string
	for r, err := range core.Regions(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, r.Name)
	}
	if !slices.Contains(names, "/bin/program") {
		t.Errorf("%q", names)
	}
}

// What is known without reading is not read.
func TestWriteByRuns(t *testing.T) {
	c, _ := sampleContents(t)
	page := func(i int) remora.Range {
		return remora.Range{Start: coreBase + 0x100000 + remora.Addr(i)*4096, Size: 4096}
	}
	c.Runs = func(_ context.Context, r remora.Region) iter.Seq2[Run, error] {
		return func(yield func(Run, error) bool) {
			switch r.Start {
			case coreBase: // of a file
				yield(Run{Range: r.Range, Err: remora.ErrNotPresent, None: true}, nil)
			case coreBase + 0x100000:
				_ = yield(Run{Range: page(0)}, nil) && yield(Run{Range: page(1), Zero: true}, nil) &&
					yield(Run{Range: page(2), Err: remora.ErrGuard, None: true}, nil) && yield(Run{Range: page(3), Err: remora.ErrNotSaved}, nil) &&
					yield(Run{Range: remora.Range{Start: page(4).Start, Size: 4 * 4096}}, nil)
			default:
				yield(Run{Range: r.Range, Zero: true}, nil)
			}
		}
	}
	var out testimage.Sparse
	done, err := Write(t.Context(), &out, c)
	if err != nil || done.Saved != 6*4096 || done.Left != 0x8000+4096+0x8000 || done.Missing != 4096 {
		t.Fatalf("%+v, %v", done, err)
	}
	core, err := New(&out, done.Size, "written", nil)
	if err != nil {
		t.Fatal(err)
	}
	for a, ok := range map[remora.Addr]bool{coreBase: false, page(0).Start: true, page(1).Start: true, page(2).Start: false, page(3).Start: false, page(7).Start: true, coreBase + 0x200000: false} {
		if _, err := core.Memory().Uint8(t.Context(), a); (err == nil) != ok {
			t.Errorf("%v: %v", a, err)
		}
	}
}

func TestWriteRefuses(t *testing.T) {
	c, _ := sampleContents(t)
	c.Machine = elf.EM_S390
	if _, err := Write(t.Context(), &testimage.Sparse{}, c); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("a machine that is not known: %v", err)
	}
	c, _ = sampleContents(t)
	c.PageSize = 3000
	if _, err := Write(t.Context(), &testimage.Sparse{}, c); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("a page of 3000 bytes: %v", err)
	}
	c, _ = sampleContents(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Write(ctx, &testimage.Sparse{}, c); !errors.Is(err, context.Canceled) {
		t.Errorf("a context that has ended: %v", err)
	}
}

// More segments than the header can count.
func TestWriteManySegments(t *testing.T) {
	c, _ := sampleContents(t)
	const n = math.MaxUint16 + 10
	c.Regions = func(yield func(remora.Region, error) bool) {
		for i := range n {
			r := remora.Region{Range: remora.Range{Start: coreBase + remora.Addr(i)*8192, Size: 4096}, Perm: remora.PermRead}
			if !yield(r, nil) {
				return
			}
		}
	}
	c.Runs = func(_ context.Context, r remora.Region) iter.Seq2[Run, error] {
		return func(yield func(Run, error) bool) { yield(Run{Range: r.Range, Zero: true}, nil) }
	}
	var out testimage.Sparse
	done, err := Write(t.Context(), &out, c)
	if err != nil {
		t.Fatal(err)
	}
	core, err := New(&out, done.Size, "written", nil)
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for _, err := range core.Regions(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		count++
	}
	if count != n {
		t.Errorf("%d regions, want %d", count, n)
	}
}
