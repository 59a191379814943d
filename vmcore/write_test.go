// SPDX-License-Identifier: Apache-2.0

package vmcore

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"iter"
	"slices"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/compose"
	"github.com/remora-go/remora/internal/testimage"
	"github.com/remora-go/remora/memfault"
)

// sampleInfo is the text of a kernel.
const sampleInfo = "OSRELEASE=6.1.0-sample\nPAGESIZE=4096\nSYMBOL(_stext)=ffffffff81000000\n"

func sampleNotes() []testimage.Note {
	c := &testimage.Core{}
	return []testimage.Note{c.PRStatus(7, 0, make([]uint64, 27)...), testimage.VMCoreInfoNote([]byte(sampleInfo)), testimage.EraseNote("erase x\n")}
}

// opened opens what is in memory.
func opened(t *testing.T, name string, s *testimage.Sparse) *Image {
	t.Helper()
	m, err := New([]File{{Name: name, Size: s.Size(), R: s}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// sparseOf gives the file that write writes.
func sparseOf(t *testing.T, write func(*testimage.Sparse) error) *testimage.Sparse {
	t.Helper()
	s := &testimage.Sparse{}
	if err := write(s); err != nil {
		t.Fatal(err)
	}
	return s
}

func elfOf(t *testing.T, v *testimage.VMCore) *Image {
	t.Helper()
	return opened(t, "source", sparseOf(t, func(s *testimage.Sparse) error { _, err := v.WriteTo(s); return err }))
}

// rewritten writes c, opens the new image and gives what Write said.
func rewritten(t *testing.T, c *Content, o *WriteOptions) (*Image, *Written) {
	t.Helper()
	o.Fresh = true
	var done *Written
	s := sparseOf(t, func(s *testimage.Sparse) (err error) { done, err = Write(t.Context(), s, c, o); return err })
	if s.Size() != done.Size {
		t.Errorf("the file has %d bytes, and %d were written", s.Size(), done.Size)
	}
	return opened(t, "written", s), done
}

// runsOf gives the runs without what only tells where they are.
func runsOf(t *testing.T, m *Image) (all []Run) {
	t.Helper()
	for r, err := range m.Runs(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if n := len(all); n > 0 && all[n-1].Last()+1 == r.Start && all[n-1].Err == r.Err {
			all[n-1].Size += r.Size
			continue
		}
		all = append(all, Run{Range: r.Range, Err: r.Err})
	}
	return all
}

// sameMemory wants two images to hold the same bytes and lack the same for the same
// reasons.
func sameMemory(t *testing.T, want, got *Image) {
	t.Helper()
	w, g := runsOf(t, want), runsOf(t, got)
	if fmt.Sprint(w) != fmt.Sprint(g) {
		t.Fatalf("runs differ:\n%v\n%v", w, g)
	}
	a, b := make([]byte, 1<<16), make([]byte, 1<<16)
	for _, r := range w {
		for at := uint64(0); r.Err == nil && at < r.Size; at += uint64(len(a)) {
			n := min(r.Size-at, uint64(len(a)))
			if _, err := want.Memory().ReadAt(t.Context(), a[:n], r.Start+remora.Addr(at)); err != nil {
				t.Fatal(err)
			}
			if _, err := got.Memory().ReadAt(t.Context(), b[:n], r.Start+remora.Addr(at)); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(a[:n], b[:n]) {
				t.Fatalf("memory at %v differs", r.Start+remora.Addr(at))
			}
		}
	}
}

func sameNotes(t *testing.T, want, got *Image) {
	t.Helper()
	w, g := want.Meta(), got.Meta()
	same := func(a, b Note) bool { return a.Owner == b.Owner && a.Type == b.Type && bytes.Equal(a.Desc, b.Desc) }
	if !slices.EqualFunc(w.Notes, g.Notes, same) || string(w.VMCoreInfo) != string(g.VMCoreInfo) || fmt.Sprint(w.CPUs) != fmt.Sprint(g.CPUs) {
		t.Errorf("%d notes and %d processors, want %d and %d; VMCOREINFO %q", len(g.Notes), len(g.CPUs), len(w.Notes), len(w.CPUs), g.VMCoreInfo)
	}
	if w.Machine != g.Machine || w.BigEndian != g.BigEndian {
		t.Errorf("machine %v, big-endian %v", g.Machine, g.BigEndian)
	}
}

func TestWriteELF(t *testing.T) {
	for seed := range uint64(8) {
		for _, big := range []bool{false, true} {
			v := &testimage.VMCore{Mem: testimage.Random(seed, 4096, 300), Notes: sampleNotes(), BigEndian: big, Machine: elf.EM_X86_64}
			src := elfOf(t, v)
			got, done := rewritten(t, src.Content(), &WriteOptions{To: ELF})
			sameMemory(t, src, got)
			sameNotes(t, src, got)
			if done.Lost != 0 || done.Gaps != nil || done.Partial != 0 {
				t.Errorf("%+v", done)
			}
		}
	}
}

func TestWriteELFOfManyRuns(t *testing.T) {
	mem := &testimage.Physical{}
	const runs = 70000 // more than a 16-bit count holds
	for i := range uint64(runs) {
		mem.Runs = append(mem.Runs, testimage.Run{First: 2 * i, End: 2*i + 1})
	}
	mem.Set(2*runs-2, []byte("the last one"))
	src := elfOf(t, &testimage.VMCore{Mem: mem, Extended: true})
	got, done := rewritten(t, src.Content(), &WriteOptions{})
	if done.Saved != runs*4096 || done.Zeros != (runs-1)*4096 || len(runsOf(t, got)) != runs {
		t.Errorf("%+v, %d runs", done, len(runsOf(t, got)))
	}
	s, err := got.Memory().CString(t.Context(), (2*runs-2)*4096, 100)
	if err != nil || s != "the last one" {
		t.Errorf("%q, %v", s, err)
	}
}

func TestWriteOfExcludedPagesAsZeros(t *testing.T) {
	mem := testimage.Random(9, 4096, 100)
	file := sparseOf(t, func(s *testimage.Sparse) error { _, err := (&testimage.VMCore{Mem: mem}).WriteTo(s); return err })
	src, err := New([]File{{Name: "source", Size: file.Size(), R: file}}, &Options{ZeroExcluded: true})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	for _, to := range []Format{ELF, Kdump} {
		got, done := rewritten(t, src.Content(), &WriteOptions{To: to})
		if done.NotSaved != 0 || done.Zeros == 0 {
			t.Errorf("%+v", done)
		}
		for _, r := range runsOf(t, got) {
			if r.Err != nil {
				t.Errorf("%s: %v: %v", to, r.Range, r.Err)
			}
		}
	}
}

// What is lost in the source has no bytes in the new image, and is counted.
func TestWriteOfALossySource(t *testing.T) {
	mem := testimage.Random(3, 4096, 100)
	for _, pfn := range mem.PFNs()[40:] {
		if _, class := mem.Page(pfn); class == testimage.Saved {
			mem.Mark(pfn, 1, testimage.Lost)
		}
	}
	src := elfOf(t, &testimage.VMCore{Mem: mem})
	var lost, saved uint64
	for _, r := range runsOf(t, src) {
		switch {
		case errors.Is(r.Err, remora.ErrTruncated):
			lost += r.Size
		case r.Err == nil:
			saved += r.Size
		}
	}
	got, done := rewritten(t, src.Content(), &WriteOptions{})
	if lost == 0 || done.Lost != lost || done.Saved != saved {
		t.Errorf("%+v, lost %d, saved %d", done, lost, saved)
	}
	if !slices.Contains(got.Meta().Flags, "incomplete") {
		t.Errorf("flags %q", got.Meta().Flags)
	}
	for _, r := range runsOf(t, got) {
		if errors.Is(r.Err, remora.ErrTruncated) {
			t.Errorf("%v is lost in the new one", r.Range)
		}
	}
}

// damaged gives content that cannot be read where the rules say so, though its runs say
// that it is there.
func damaged(t *testing.T, m *Image, rules string) *Content {
	t.Helper()
	c := m.Content()
	var err error
	if c.Space, err = memfault.New(m, rules); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestWriteELFGoesAroundDamage(t *testing.T) {
	mem := &testimage.Physical{Runs: []testimage.Run{{First: 16, End: 2000}}}
	for pfn := uint64(16); pfn < 2000; pfn++ {
		mem.Set(pfn, fmt.Appendf(nil, "page %d", pfn))
	}
	src := elfOf(t, &testimage.VMCore{Mem: mem})
	for _, c := range []struct {
		name  string
		pages []uint64
	}{
		{"none", nil},
		{"the first", []uint64{16}},
		{"the last", []uint64{1999}},
		{"at the border of a part", []uint64{63, 64}},
		{"two", []uint64{100, 102}},
		{"more than there is room for", every(16, 2000, 5)},
		{"all", every(16, 2000, 1)},
	} {
		t.Run(c.name, func(t *testing.T) {
			rules := ""
			bad := map[uint64]bool{}
			for _, pfn := range c.pages {
				rules += fmt.Sprintf("read %#x-%#x corrupt\n", pfn*4096+100, pfn*4096+200)
				bad[pfn] = true
			}
			got, done := rewritten(t, damaged(t, src, rules), &WriteOptions{})
			if n := uint64(len(c.pages)) * 4096; done.Saved+done.Lost != 1984*4096 || n > 0 && (done.Lost == 0 || done.Lost > n) {
				t.Errorf("%+v", done)
			}
			for pfn := uint64(16); pfn < 2000; pfn++ {
				a := remora.Addr(pfn * 4096)
				s, err := got.Memory().CString(t.Context(), a, 100)
				if err != nil || s != fmt.Sprintf("page %d", pfn) {
					t.Errorf("page %d: %q, %v", pfn, s, err)
				}
				var one [1]byte
				if _, err := got.Memory().ReadAt(t.Context(), one[:], a+100); errors.Is(err, remora.ErrNotSaved) != bad[pfn] {
					t.Errorf("page %d, byte 100: %v", pfn, err)
				}
			}
		})
	}
}

// With more gaps than there is room for, everything is written again, at other places in
// the file: nothing of the first time may show through, and nothing of other pages where
// a gap is.
func TestWriteELFOnceAgain(t *testing.T) {
	const pages = 3000
	mem := &testimage.Physical{Runs: []testimage.Run{{First: 0, End: pages}}}
	for pfn := uint64(0); pfn < pages; pfn++ {
		if pfn%7 > 2 {
			mem.Set(pfn, bytes.Repeat([]byte{0xaa}, 4096))
		}
	}
	src := elfOf(t, &testimage.VMCore{Mem: mem})
	rules, kept := "", 0
	for pfn := uint64(0); pfn < pages; pfn++ {
		if pfn%5 == 4 {
			rules += fmt.Sprintf("read %#x-%#x corrupt\n", pfn*4096, pfn*4096+4095)
		} else if pfn%7 > 2 {
			kept++
		}
	}
	s := &testimage.Sparse{}
	done, err := Write(t.Context(), truncated{s}, damaged(t, src, rules), &WriteOptions{Fresh: true, Workers: 1})
	if err != nil || done.Lost != pages/5*4096 {
		t.Fatalf("%+v, %v", done, err)
	}
	f, err := elf.NewFile(s)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_LOAD && (p.Memsz == 0 || p.Off%4096 != p.Paddr%4096) {
			t.Errorf("%+v", p.ProgHeader)
		}
	}
	if n := bytes.Count(s.Bytes(), bytes.Repeat([]byte{0xaa}, 64)); n != kept*4096/64 {
		t.Errorf("%d bytes of pages are in the file, want %d", n*64, kept*4096)
	}
	got := opened(t, "written", s)
	var b [4096]byte
	for pfn := uint64(0); pfn < pages; pfn++ {
		_, err := got.Memory().ReadAt(t.Context(), b[:], remora.Addr(pfn*4096))
		if pfn%5 == 4 {
			if !errors.Is(err, remora.ErrNotSaved) {
				t.Fatalf("page %d: %v", pfn, err)
			}
			continue
		}
		if want, _ := mem.Page(pfn); err != nil || !bytes.Equal(b[:], want) {
			t.Fatalf("page %d: %v, or other bytes", pfn, err)
		}
	}
}

// truncated is a file that can be emptied.
type truncated struct{ *testimage.Sparse }

func (f truncated) Truncate(size int64) error {
	f.Sparse.Truncate(size)
	return nil
}

func TestWriteELFOfUnalignedMemory(t *testing.T) {
	c := elfOf(t, &testimage.VMCore{Mem: &testimage.Physical{Runs: []testimage.Run{{First: 0, End: 16}}}}).Content()
	c.Runs = func(context.Context) iter.Seq2[Run, error] {
		return func(yield func(Run, error) bool) { yield(Run{Range: remora.Range{Start: 0x1234, Size: 0x3000}}, nil) }
	}
	s := &testimage.Sparse{}
	if _, err := Write(t.Context(), s, c, &WriteOptions{Fresh: true}); err != nil {
		t.Fatal(err)
	}
	f, err := elf.NewFile(s)
	if err != nil || f.Progs[1].Paddr != 0x1234 || f.Progs[1].Off%4096 != 0x234 || f.Progs[1].Filesz != 0x3000 {
		t.Errorf("%+v, %v", f.Progs[1].ProgHeader, err)
	}
}

// Notes that were too large to be kept are counted; the text of VMCOREINFO becomes a note.
func TestWriteNotes(t *testing.T) {
	c := elfOf(t, &testimage.VMCore{Mem: testimage.Random(2, 4096, 20)}).Content()
	c.Meta.Notes = []Note{{Owner: "VMCOREDD", Type: 0x700, Size: 5 << 20}, {Owner: "X", Type: 3, Desc: []byte("abc")}, {Owner: "EMPTY"}}
	c.Meta.VMCoreInfo = []byte(sampleInfo)
	for _, to := range []Format{ELF, Kdump} {
		got, done := rewritten(t, c, &WriteOptions{To: to})
		m := got.Meta()
		if done.NotesLeft != 1 || len(m.Notes) != 3 || string(m.Notes[0].Desc) != "abc" || m.Notes[1].Owner != "EMPTY" || string(m.VMCoreInfo) != sampleInfo {
			t.Errorf("%s: %d left out, %+v, %q", to, done.NotesLeft, m.Notes, m.VMCoreInfo)
		}
	}
}

func every(first, end, step uint64) (all []uint64) {
	for ; first < end; first += step {
		all = append(all, first)
	}
	return all
}

func TestWriteTellsWhereTheKernelIs(t *testing.T) {
	mem := &testimage.Physical{Runs: []testimage.Run{{First: 0, End: 16}, {First: 32, End: 64}}}
	c := elfOf(t, &testimage.VMCore{Mem: mem}).Content()
	c.Direct, c.DirectBase = true, 0xffff888000000000
	c.Kernel = []Mapped{{remora.Range{Start: 40 * 4096, Size: 8 * 4096}, 0xffffffff81000000}}
	s := &testimage.Sparse{}
	if _, err := Write(t.Context(), s, c, &WriteOptions{Fresh: true}); err != nil {
		t.Fatal(err)
	}
	f, err := elf.NewFile(s)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range f.Progs {
		if p.Type == elf.PT_LOAD {
			got = append(got, fmt.Sprintf("%#x at %#x, %d", p.Vaddr, p.Paddr, p.Filesz))
		}
	}
	want := []string{"0xffffffff81000000 at 0x28000, 32768", "0xffff888000000000 at 0x0, 65536", "0xffff888000020000 at 0x20000, 131072"}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if f.Progs[1].Off != f.Progs[3].Off+8*4096 {
		t.Errorf("the kernel's image is not a part of the other segment: %#x, %#x", f.Progs[1].Off, f.Progs[3].Off)
	}
}

func TestWriteRefuses(t *testing.T) {
	src := elfOf(t, &testimage.VMCore{Mem: testimage.Random(1, 4096, 10)})
	far := src.Content()
	far.Runs = func(context.Context) iter.Seq2[Run, error] {
		return func(yield func(Run, error) bool) {
			yield(Run{Range: remora.Range{Start: 1 << 60, Size: 4096}}, nil)
		}
	}
	odd := src.Content()
	odd.Meta.PageSize = 5000
	for _, c := range []struct {
		name string
		c    *Content
		o    WriteOptions
	}{
		{"a format", src.Content(), WriteOptions{To: LiME}},
		{"a codec", src.Content(), WriteOptions{To: Kdump, Codec: "lzo"}},
		{"a level of zlib", src.Content(), WriteOptions{To: Kdump, Level: 10}},
		{"a level of zstd", src.Content(), WriteOptions{To: Kdump, Codec: Zstd, Level: 23}},
		{"a level of snappy", src.Content(), WriteOptions{To: Kdump, Codec: Snappy, Level: 1}},
		{"a level of none", src.Content(), WriteOptions{To: Kdump, Codec: None, Level: 1}},
		{"a bitmap", far, WriteOptions{To: Kdump}},
		{"a page", odd, WriteOptions{To: Kdump}},
	} {
		if _, err := Write(t.Context(), &testimage.Sparse{}, c.c, &c.o); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// full takes some bytes, and then no more.
type full struct{ left int }

var errFull = errors.New("no space")

func (f *full) WriteAt(p []byte, _ int64) (int, error) {
	if f.left -= len(p); f.left < 0 {
		return 0, errFull
	}
	return len(p), nil
}

func TestWriteEnds(t *testing.T) {
	mem := &testimage.Physical{}
	for pfn := range uint64(1000) {
		mem.Set(pfn, fmt.Append(nil, pfn))
	}
	src := elfOf(t, &testimage.VMCore{Mem: mem})
	for _, to := range []Format{ELF, Kdump} {
		for _, left := range []int{0, 100, 40000, 1 << 20} {
			o := &WriteOptions{To: to, Codec: None}
			if _, err := Write(t.Context(), &full{left}, src.Content(), o); !errors.Is(err, errFull) {
				t.Errorf("%s, %d bytes of room: %v", to, left, err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		var last, total uint64
		o := &WriteOptions{To: to, Progress: func(done, all uint64) {
			if last, total = done, all; done >= 1<<20 {
				cancel()
			}
		}}
		if _, err := Write(ctx, &testimage.Sparse{}, src.Content(), o); !errors.Is(err, context.Canceled) || last < 1<<20 || last == total {
			t.Errorf("%s: %v after %d of %d", to, err, last, total)
		}
		src.Close()
		if _, err := Write(t.Context(), &testimage.Sparse{}, src.Content(), &WriteOptions{To: to}); err == nil {
			t.Errorf("%s: a closed image was written", to)
		}
		src = elfOf(t, &testimage.VMCore{Mem: mem})
	}
}

func TestWriteOfSpacesThatAreNoImage(t *testing.T) {
	zero := compose.Zero(remora.Range{Start: 0x1000, Size: 0x3000})
	c := &Content{Space: zero, Runs: func(context.Context) iter.Seq2[Run, error] {
		return func(yield func(Run, error) bool) {
			yield(Run{Range: remora.Range{Start: 0x1000, Size: 0x5000}}, nil)
		}
	}}
	_, done := rewritten(t, c, &WriteOptions{})
	if done.Saved != 0x3000 || done.Zeros != 0x3000 || done.Lost != 0x2000 || len(done.Gaps) != 1 || done.Gaps[0].Err != remora.ErrUnmapped {
		t.Errorf("%+v", done)
	}
}
