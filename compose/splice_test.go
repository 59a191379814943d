// SPDX-License-Identifier: Apache-2.0

package compose

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/memtest"
)

// mapped gives a space with the pages of r readable and writable.
func mapped(t *testing.T, o *memtest.SparseOptions, r remora.Range) *memtest.Sparse {
	t.Helper()
	s := memtest.NewSparse(o)
	if err := s.Map(r, memtest.MapOptions{Perm: remora.PermRead | remora.PermWrite}); err != nil {
		t.Fatal(err)
	}
	return s
}

func mustSplice(t *testing.T, o *SpliceOptions, parts ...Part) remora.Space {
	t.Helper()
	s, err := Splice(o, parts...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSpliceRefusesBadParts(t *testing.T) {
	mem := Zero(remora.Range{Size: 1 << 20})
	part := func(start remora.Addr, size uint64, at remora.Addr) Part {
		return Part{Range: remora.Range{Start: start, Size: size}, Space: mem, At: at}
	}
	for _, row := range []struct {
		name  string
		parts []Part
		want  string // in the message; empty: no error
	}{
		{"none", nil, ""},
		{"apart", []Part{part(0x1000, 0x1000, 0), part(0x3000, 1, 0)}, ""},
		{"touching", []Part{part(0x1000, 0x1000, 0), part(0x2000, 1, 0)}, ""},
		{"overlapping by a byte", []Part{part(0x1fff, 1, 0), part(0x1000, 0x1000, 0)}, "parts 0x1000+0x1000 and 0x1fff+0x1 overlap"},
		{"one inside the other", []Part{part(0x1000, 0x1000, 0), part(0x1100, 1, 0)}, "overlap"},
		{"up to the last address", []Part{part(remora.MaxAddr-9, 10, remora.MaxAddr-9)}, ""},
		{"past the last address", []Part{part(remora.MaxAddr-9, 11, 0)}, "passes the last address"},
		{"past the last address below", []Part{part(0, 11, remora.MaxAddr-9)}, "passes the last address of zeros"},
		{"without a space", []Part{{Range: remora.Range{Size: 1}}}, "has no space"},
	} {
		t.Run(row.name, func(t *testing.T) {
			s, err := Splice(nil, row.parts...)
			switch {
			case row.want == "" && err != nil:
				t.Errorf("error %v, want none", err)
			case row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want) || s != nil):
				t.Errorf("error %v, want one with %q", err, row.want)
			}
		})
	}
}

// facts is a Space that can do nothing but say what it is.
type facts struct {
	info remora.Info
	err  error // of every Transfer
}

var _ remora.Space = (*facts)(nil)

func (f *facts) Info() remora.Info { return f.info }

func (f *facts) Transfer(context.Context, remora.Op, []remora.Seg) (int64, error) { return 0, f.err }

func TestSpliceInfo(t *testing.T) {
	const all = remora.StopAtFault | remora.Force | remora.Resident
	one := &facts{info: remora.Info{Name: "one", Ops: all, PtrSize: 8, BigEndian: true, Granule: 4096, Atomic: 8, Last: remora.MaxAddr, Writable: true}}
	live := &facts{info: remora.Info{Name: "live", Ops: all &^ remora.Force, PtrSize: 8, BigEndian: true, Granule: 16384, Atomic: 4, Last: 0x10ffff, Writable: true, Live: true}}
	file := &facts{info: remora.Info{Name: "file", Ops: all, PtrSize: 4, Granule: 1, Last: 0xfff}}
	at := func(s remora.Space, start remora.Addr, size uint64, at remora.Addr) Part {
		return Part{remora.Range{Start: start, Size: size}, s, at}
	}
	for _, row := range []struct {
		name  string
		o     *SpliceOptions
		parts []Part
		want  remora.Info
	}{
		{"nothing", nil, nil, remora.Info{Name: "empty", Ops: remora.AllOps, Granule: 1}},
		{"one part", nil, []Part{at(one, 0x4000, 0x2000, 0x8000)},
			remora.Info{Name: "one", Ops: all, PtrSize: 8, BigEndian: true, Granule: 4096, Atomic: 8, Last: 0x5fff, Writable: true}},
		{"borders inside the Granule", nil, []Part{at(one, 0x4100, 0x200, 0x8000)},
			remora.Info{Name: "one", Ops: all, PtrSize: 8, BigEndian: true, Granule: 0x100, Atomic: 8, Last: 0x42ff, Writable: true}},
		{"words cut in two", nil, []Part{at(one, 0x4002, 0x200, 0x8000)},
			remora.Info{Name: "one", Ops: all, PtrSize: 8, BigEndian: true, Granule: 2, Atomic: 2, Last: 0x4201, Writable: true}},
		{"two", nil, []Part{at(live, 0x10000, 0x4000, 0), at(one, 0x4000, 0x4000, 0x8000)},
			remora.Info{Name: "one", Ops: all &^ remora.Force, PtrSize: 8, BigEndian: true, Granule: 0x4000 >> 2, Atomic: 4, Last: 0x13fff, Writable: true, Live: true}},
		{"a part that ends sooner below", nil, []Part{at(live, 0x10000, 0x4000, 0x10c000)},
			remora.Info{Name: "live", Ops: all &^ remora.Force, PtrSize: 8, BigEndian: true, Granule: 0x4000, Atomic: 4, Last: 0x13fff, Writable: true, Live: true}},
		{"a part partly beyond the last address below", nil, []Part{at(file, 0x10000, 0x4000, 0)},
			remora.Info{Name: "file", Ops: all, PtrSize: 4, Granule: 1, Last: 0x10fff}},
		{"parts that do not agree", &SpliceOptions{Name: "mixed"}, []Part{at(one, 0, 16, 0), at(file, 16, 16, 0)},
			remora.Info{Name: "mixed", Ops: all, BigEndian: true, Granule: 1, Last: 31}},
		{"told", &SpliceOptions{PtrSize: 4}, []Part{at(one, 0, 16, 0)},
			remora.Info{Name: "one", Ops: all, PtrSize: 4, Granule: 16, Atomic: 8, Last: 15, Writable: true}},
	} {
		t.Run(row.name, func(t *testing.T) {
			if got := mustSplice(t, row.o, row.parts...).Info(); got != row.want {
				t.Errorf("Info is %+v, want %+v", got, row.want)
			}
		})
	}
}

func TestSpliceGapHasItsCause(t *testing.T) {
	mem := Zero(remora.Range{Size: 0x1000})
	s := mustSplice(t, &SpliceOptions{Gap: remora.ErrHole}, Part{remora.Range{Start: 0x1000, Size: 0x10}, mem, 0})
	segs := []remora.Seg{{Addr: 0xff8, Buf: make([]byte, 16)}, {Addr: 0x1008, Buf: make([]byte, 16)}, {Addr: 1 << 63, Buf: make([]byte, 1)}}
	n, err := s.Transfer(t.Context(), remora.Read, segs)
	if n != 8 || err != remora.ErrHole || segs[0].N != 0 || segs[1].N != 8 || segs[1].Err != remora.ErrHole || segs[2].Err != remora.ErrHole {
		t.Errorf("read %d, %v: %+v", n, err, segs)
	}
}

func TestSpliceExplainsWhereItHappened(t *testing.T) {
	below := mapped(t, &memtest.SparseOptions{Name: "below"}, remora.Range{Start: 0x5000, Size: 0x1000})
	s := mustSplice(t, &SpliceOptions{Name: "whole"}, Part{remora.Range{Start: 0x1000, Size: 0x2000}, below, 0x5000})
	_, err := remora.New(s).ReadAt(t.Context(), make([]byte, 8), 0x2000)
	if want := "read whole:0x2000: read below:0x6000: not mapped"; err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
	_, err = remora.New(s).ReadAt(t.Context(), make([]byte, 8), 0x4000)
	if want := "read whole:0x4000: not mapped"; err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
}

// Segments in a row that lie in one Space go to it in one call.
func TestSpliceHandsOnVectors(t *testing.T) {
	var calls []int
	mem := mapped(t, nil, remora.Range{Size: 0x10000})
	see := func(e Event) { calls = append(calls, len(e.Segs)) }
	one, two := Trace(mem, see), Trace(mem, see)
	s := mustSplice(t, nil,
		Part{remora.Range{Start: 0, Size: 0x1000}, one, 0x8000},
		Part{remora.Range{Start: 0x1000, Size: 0x1000}, one, 0x4000},
		Part{remora.Range{Start: 0x2000, Size: 0x1000}, two, 0})
	var segs []remora.Seg
	for _, a := range []remora.Addr{0, 0x1800, 0x800, 0x2000, 0x2800, 0x10} {
		segs = append(segs, remora.Seg{Addr: a, Buf: make([]byte, 8)})
	}
	for _, op := range []remora.Op{remora.Read, remora.Write} {
		calls = nil
		if _, err := s.Transfer(t.Context(), op, segs); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(calls, []int{3, 2, 1}) {
			t.Errorf("%v: calls of %v segments, want 3, 2 and 1", op, calls)
		}
	}
}

func TestSpliceRefusesAPairThatAPartRefuses(t *testing.T) {
	const pair = remora.Write | remora.Resident
	mem := mapped(t, nil, remora.Range{Size: 0x1000})
	mem.Poke([]byte{1}, 0)
	info := mem.Info()
	s := mustSplice(t, nil,
		Part{remora.Range{Start: 0, Size: 0x1000}, mem, 0},
		Part{remora.Range{Start: 0x1000, Size: 0x1000}, &facts{info, errors.ErrUnsupported}, 0})
	segs := []remora.Seg{{Addr: 0, Buf: []byte{2}}}
	if n, err := s.Transfer(t.Context(), pair, segs); n != 0 || err != errors.ErrUnsupported || segs[0].Err != errors.ErrUnsupported {
		t.Errorf("%v: %d, %v, %v", pair, n, err, segs[0].Err)
	}
	var got [1]byte
	if mem.Peek(got[:], 0); got[0] != 1 {
		t.Error("a refused call wrote")
	}
	alone := mustSplice(t, nil, Part{remora.Range{Start: 0, Size: 0x1000}, mem, 0})
	if n, err := alone.Transfer(t.Context(), pair, segs); n != 1 || err != nil {
		t.Errorf("without that part: %d, %v", n, err)
	}
}

func TestWindow(t *testing.T) {
	below := mapped(t, &memtest.SparseOptions{Name: "below"}, remora.Range{Start: 0x4000, Size: 0x4000})
	if err := below.Poke([]byte("here"), 0x5000); err != nil {
		t.Fatal(err)
	}
	w, err := Window(below, remora.Range{Start: 0x5000, Size: 0x1000}, 0)
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 4)
	if _, err := remora.New(w).ReadAt(t.Context(), got, 0); err != nil || string(got) != "here" {
		t.Errorf("read %q, %v", got, err)
	}
	n, err := remora.New(w).ReadAt(t.Context(), make([]byte, 9), 0xffc)
	if want := "read below[0x5000+0x1000]:0x1000: not mapped"; n != 4 || err == nil || err.Error() != want {
		t.Errorf("at the border: %d, %v, want 4, %s", n, err, want)
	}
	for _, bad := range []struct {
		r  remora.Range
		at remora.Addr
	}{{remora.Range{Start: 1, Size: 1 << 63}, 1<<63 + 1}, {remora.Range{Start: 1 << 63, Size: 1<<63 + 1}, 0}} {
		if _, err := Window(below, bad.r, bad.at); err == nil {
			t.Errorf("a window of %v at %v gives no error", bad.r, bad.at)
		}
	}
}

// The extents of a splice follow one another without overlap, split at 2^63.
func TestSpliceExtents(t *testing.T) {
	mem := Zero(remora.Range{Size: 1 << 62})
	s := mustSplice(t, nil,
		Part{remora.Range{Start: 0x1000, Size: 0x1000}, mem, 0x5000},
		Part{remora.Range{Start: 0x2000, Size: 1}, mem, 0},
		Part{remora.Range{Start: 1<<63 - 16, Size: 32}, mem, 0x7000})
	want := []remora.Extent{
		{Virt: 0, Size: 0x1000, Err: remora.ErrUnmapped},
		{Virt: 0x1000, Phys: 0x5000, Size: 0x1000},
		{Virt: 0x2000, Phys: 0, Size: 1},
		{Virt: 0x2001, Size: 1<<63 - 16 - 0x2001, Err: remora.ErrUnmapped},
		{Virt: 1<<63 - 16, Phys: 0x7000, Size: 16},
		{Virt: 1 << 63, Phys: 0x7010, Size: 16},
		{Virt: 1<<63 + 16, Size: 1<<63 - 16, Err: remora.ErrUnmapped},
	}
	for _, w := range want {
		if w.Err == nil {
			w.In, w.Perm = mem, remora.PermRead|remora.PermWrite|remora.PermExec
		}
		last := w.Virt + remora.Addr(w.Size-1)
		for _, a := range []remora.Addr{w.Virt, w.Virt + remora.Addr(w.Size/2), last} {
			if got := s.(*splice).plan.Table.Translate(t.Context(), a); got != w {
				t.Errorf("%v lies in %+v, want %+v", a, got, w)
			}
		}
	}
}
