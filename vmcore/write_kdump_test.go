// SPDX-License-Identifier: Apache-2.0

package vmcore

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"iter"
	"slices"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/testimage"
)

// A kdump-compressed image has all that an ELF image has: memory, what lacks of it and why,
// notes. From there it is the same again in ELF form.
func TestWriteKdumpAndBack(t *testing.T) {
	shapes := []func(v *testimage.VMCore){
		func(v *testimage.VMCore) {},
		func(v *testimage.VMCore) { v.BigEndian, v.Machine = true, elf.EM_S390 },
		func(v *testimage.VMCore) { v.Narrow, v.Machine = true, elf.EM_386 },
		func(v *testimage.VMCore) { v.Narrow, v.Machine = true, elf.EM_ARM },
	}
	for i, codec := range []Codec{Zlib, Zstd, Snappy, None} {
		for seed := range uint64(4) {
			v := &testimage.VMCore{Mem: testimage.Random(seed, 4096, 300), Notes: sampleNotes(), Machine: elf.EM_X86_64}
			shapes[(i+int(seed))%len(shapes)](v)
			if v.Narrow { // notes of another layout
				v.Notes = v.Notes[1:]
			}
			src := elfOf(t, v)
			o := &WriteOptions{To: Kdump, Codec: codec}
			if codec == Zlib || codec == Zstd {
				o.Level = 1 + int(seed)*2
			}
			packed, done := rewritten(t, src.Content(), o)
			sameMemory(t, src, packed)
			sameNotes(t, src, packed)
			m := packed.Meta()
			if m.Format != Kdump || m.Version != 6 || m.PageSize != 4096 || m.Uname[2] != "6.1.0-sample" || m.Uname[4] != machineName(v.Machine) ||
				m.WordSize != src.Meta().WordSize || len(m.Problems) > 0 {
				t.Errorf("%+v", m)
			}
			if done.Lost != 0 || done.Gaps != nil || done.Partial != 0 {
				t.Errorf("%+v", done)
			}
			again, _ := rewritten(t, packed.Content(), &WriteOptions{To: ELF})
			sameMemory(t, src, again)
			sameNotes(t, src, again)
			if err := packed.Check(t.Context(), func(e *remora.FormatError) { t.Error(e) }); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestWriteKdumpOfOtherPages(t *testing.T) {
	for _, size := range []int{4096, 16384, 65536} {
		src := elfOf(t, &testimage.VMCore{Mem: testimage.Random(5, size, 60), Machine: elf.EM_AARCH64})
		c := src.Content()
		c.Meta.PageSize = size
		packed, _ := rewritten(t, c, &WriteOptions{To: Kdump, Codec: Snappy})
		sameMemory(t, src, packed)
		if got := packed.Meta().PageSize; got != size {
			t.Errorf("pages of %d bytes, want %d", got, size)
		}
	}
}

// What does not fill a page is left out, and counted.
func TestWriteKdumpOfPartsOfPages(t *testing.T) {
	mem := &testimage.Physical{Runs: []testimage.Run{{First: 0, End: 64}}}
	c := elfOf(t, &testimage.VMCore{Mem: mem}).Content()
	for _, k := range []struct {
		runs                     []Run
		saved, partial, notSaved uint64
	}{
		{[]Run{run(0x1000, 0x800, nil), run(0x1800, 0x800, remora.ErrTruncated)}, 0, 0x800, 0},
		{[]Run{run(0x1000, 0x2000, nil)}, 0x2000, 0, 0},
		{[]Run{run(0x1000, 0x1c00, nil)}, 0x1000, 0xc00, 0x1000},
		{[]Run{run(0x1800, 0x800, nil)}, 0, 0x800, 0x1000},
		{[]Run{run(0x1800, 0x1000, nil)}, 0, 0x1000, 0x2000},
		{[]Run{run(0x1800, 0x200, nil)}, 0, 0x200, 0x1000},
		{[]Run{run(0x1000, 0x800, nil), run(0x1800, 0x800, nil)}, 0x1000, 0, 0},
		{[]Run{run(0x1000, 0x800, nil), run(0x1800, 0x800, remora.ErrNotSaved)}, 0, 0x800, 0x1000},
		{[]Run{run(0x1000, 0x800, nil), run(0x2800, 0x1800, nil)}, 0x1000, 0x1000, 0x2000},
		{[]Run{run(0x1800, 0x2000, nil), run(0x3800, 0x2000, remora.ErrNotSaved)}, 0x1000, 0x1000, 0x4000},
	} {
		c.Runs = func(context.Context) iter.Seq2[Run, error] {
			return func(yield func(Run, error) bool) {
				for _, r := range k.runs {
					if !yield(r, nil) {
						return
					}
				}
			}
		}
		_, done := rewritten(t, c, &WriteOptions{To: Kdump})
		if done.Saved != k.saved || done.Partial != k.partial || done.NotSaved != k.notSaved || k.notSaved == 0 && k.saved == 0 && done.Lost != 0x1000 {
			t.Errorf("%v: %+v", k.runs, done)
		}
	}
}

func run(start remora.Addr, size uint64, err error) Run {
	return Run{Range: remora.Range{Start: start, Size: size}, Err: err}
}

func TestWriteKdumpGoesAroundDamage(t *testing.T) {
	mem := &testimage.Physical{Runs: []testimage.Run{{First: 16, End: 300}}}
	for pfn := uint64(16); pfn < 300; pfn++ {
		mem.Set(pfn, fmt.Appendf(nil, "page %d", pfn))
	}
	mem.Mark(290, 10, testimage.Lost)
	src := elfOf(t, &testimage.VMCore{Mem: mem})
	c := damaged(t, src, "read 0x20800-0x21000 corrupt\nread 0x40000-0x40001 corrupt\n")
	got, done := rewritten(t, c, &WriteOptions{To: Kdump, Codec: None})
	if done.Lost+done.Partial != 13*4096 || done.Partial != 0x800 || done.Saved != 271*4096 || len(done.Gaps) != 2 {
		t.Errorf("%+v", done)
	}
	for pfn := uint64(16); pfn < 300; pfn++ {
		s, err := got.Memory().CString(t.Context(), remora.Addr(pfn*4096), 100)
		if bad := pfn == 0x20 || pfn == 0x21 || pfn == 0x40 || pfn >= 290; bad != errors.Is(err, remora.ErrTruncated) || !bad && s != fmt.Sprintf("page %d", pfn) {
			t.Errorf("page %#x: %q, %v", pfn, s, err)
		}
	}
	if !slices.Contains(got.Meta().Flags, "incomplete") {
		t.Errorf("flags %q", got.Meta().Flags)
	}
}

func TestWriteKdumpWithManyNotes(t *testing.T) {
	v := &testimage.VMCore{Mem: testimage.Random(6, 4096, 30), Machine: elf.EM_X86_64}
	core := &testimage.Core{}
	for i := range 1000 {
		v.Notes = append(v.Notes, core.PRStatus(i, 0, make([]uint64, 27)...))
	}
	v.Notes = append(v.Notes, sampleNotes()...)
	src := elfOf(t, v)
	got, _ := rewritten(t, src.Content(), &WriteOptions{To: Kdump})
	sameMemory(t, src, got)
	sameNotes(t, src, got)
}

func TestWriteKdumpOfNothing(t *testing.T) {
	c := elfOf(t, &testimage.VMCore{Mem: testimage.Random(1, 4096, 10)}).Content()
	c.Runs = func(context.Context) iter.Seq2[Run, error] { return func(func(Run, error) bool) {} }
	for _, to := range []Format{ELF, Kdump} {
		if _, err := Write(t.Context(), &testimage.Sparse{}, c, &WriteOptions{To: to, Fresh: true}); err != nil {
			t.Errorf("%s: %v", to, err)
		}
	}
}

// The first bit of ARM's bitmaps is the page at the physical base.
func TestWriteKdumpOfARM(t *testing.T) {
	src := elfOf(t, &testimage.VMCore{Mem: testimage.Random(7, 4096, 40), Narrow: true, Machine: elf.EM_ARM})
	c := src.Content()
	c.PhysBase = 0x40000000
	got, _ := rewritten(t, c, &WriteOptions{To: Kdump})
	sameMemory(t, src, got)
}

func TestWriteKdumpOfASourceThatChanges(t *testing.T) {
	c := elfOf(t, &testimage.VMCore{Mem: &testimage.Physical{Runs: []testimage.Run{{First: 0, End: 64}}}}).Content()
	n := uint64(64)
	c.Runs = func(context.Context) iter.Seq2[Run, error] {
		n--
		return func(yield func(Run, error) bool) { yield(run(0, n*4096, nil), nil) }
	}
	if _, err := Write(t.Context(), &testimage.Sparse{}, c, &WriteOptions{To: Kdump}); !errors.Is(err, remora.ErrCorrupt) {
		t.Errorf("got %v", err)
	}
}
