// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/specimen"
	"github.com/remora-go/remora/internal/specimen/specimentest"
	"github.com/remora-go/remora/internal/testneed"
)

// A forced write reaches what a debugger reaches, and the target sees it.
func TestForcedWritesAreSeenByTheTarget(t *testing.T) {
	for _, d := range doors() {
		t.Run(d.String(), func(t *testing.T) {
			s := specimentest.Start(t, nil)
			p := openProcess(t, s.Pid(), &Options{Door: d, Write: true})
			forced := p.Memory().With(remora.Force)
			for _, k := range []specimen.Kind{specimen.Text, specimen.ReadOnly, specimen.ExecOnly, specimen.NoAccess, specimen.Reserved} {
				r := mapped(t, s, k, 2)
				at := r.Start + remora.Addr(pageSize) - 3 // across two pages
				if _, err := p.Memory().WriteAt(t.Context(), []byte("poked"), at); !errors.Is(err, remora.ErrProtected) {
					t.Errorf("%v, not forced: %v", k, err)
				}
				if n, err := forced.WriteAt(t.Context(), []byte("poked"), at); n != 5 || err != nil {
					t.Fatalf("%v: %d, %v", k, n, err)
				}
				if err := s.Protect(r, remora.PermRead); err != nil {
					t.Fatal(err)
				}
				want, got := s.Contents(k, r), make([]byte, r.Size)
				copy(want[at-r.Start:], "poked")
				if err := s.Peek(got, r.Start); err != nil || !bytes.Equal(got, want) {
					t.Errorf("%v: the target does not see it (%v)", k, err)
				}
			}
			r := mapped(t, s, specimen.SharedReadOnly, 1)
			if n, err := forced.WriteAt(t.Context(), []byte("poked"), r.Start); n != 0 || !errors.Is(err, remora.ErrProtected) {
				t.Errorf("a shared read-only mapping: %d, %v", n, err)
			}
			holds(t, p, s, specimen.SharedReadOnly, r)
		})
	}
}

// pagemap gives the entries for r: what the page table holds, and whether it is
// swapped, shared or dirty.
func (b *bench) entries(t testing.TB, r remora.Range) []uint64 {
	t.Helper()
	raw := make([]byte, r.Size/uint64(pageSize)*8)
	if _, err := b.pagemap.ReadAt(raw, int64(uint64(r.Start)/uint64(pageSize)*8)); err != nil {
		t.Fatal(err)
	}
	out := make([]uint64, len(raw)/8)
	for i := range out {
		out[i] = binary.NativeEndian.Uint64(raw[8*i:])
	}
	return out
}

// older takes away what kernels before 6.7 and 6.11 have not, and what a pagemap that cannot be
// opened does not tell.
func older(p *Process) { p.as.query, p.as.scan, p.as.counts = false, false, false }

// A Resident read leaves the page table of the target as it is, page by page, and
// tells exactly what is not there.
func TestResidentLeavesThePageTableAlone(t *testing.T) {
	for _, d := range doors() {
		for _, old := range []bool{false, true} {
			t.Run(fmt.Sprint(d, " older ", old), func(t *testing.T) {
				b := newBench(t)
				b.areas = layOut(t, b.Specimen,
					specimen.Piece{Kind: specimen.Touched, Pages: 3}, specimen.Piece{Kind: specimen.Untouched, Pages: 40},
					specimen.Piece{Kind: specimen.UnreadFile, Pages: 40}, specimen.Piece{Kind: specimen.ZeroPage, Pages: 5},
					specimen.Piece{Kind: specimen.Reserved, Pages: 3}, specimen.Piece{Kind: specimen.Touched, Pages: 40})
				whole := remora.Between(b.areas[0].Start, b.areas[5].Last()+1)
				last := b.areas[5].Range
				for i := 1; i < 40; i += 3 { // every third page is absent
					if err := b.Drop(remora.Range{Start: last.Start + remora.Addr(i*pageSize), Size: uint64(pageSize)}); err != nil {
						t.Fatal(err)
					}
				}
				p := openProcess(t, b.Pid(), &Options{Door: d})
				if old {
					older(p)
				}
				before := b.entries(t, whole)
				absent := 0
				for _, entry := range before {
					if entry>>63 == 0 {
						absent++
					}
				}
				if want := 40 + 40 + 3 + 13; absent != want {
					t.Fatalf("%d pages are absent, want %d", absent, want)
				}
				b.readResident(t, p, whole, before)
				if after := b.entries(t, whole); !slices.Equal(before, after) {
					t.Errorf("the page table was\n%x and is\n%x", before, after)
				}
			})
		}
	}
}

// readResident reads whole in pieces that begin and end anywhere, and holds each
// against the page table.
func (b *bench) readResident(t *testing.T, p *Process, whole remora.Range, table []uint64) {
	t.Helper()
	var segs []remora.Seg
	for off := 0; off < int(whole.Size); off += pageSize/2 + 7 {
		n := min(1+off%(3*pageSize), int(whole.Size)-off)
		segs = append(segs, remora.Seg{Addr: whole.Start + remora.Addr(off), Buf: make([]byte, n)})
	}
	_, _ = p.Memory().With(remora.Resident).Transfer(t.Context(), remora.Read, segs)
	for i := range segs {
		seg := &segs[i]
		a, n, cause := seg.Addr, 0, error(nil)
		for n < len(seg.Buf) {
			at := a + remora.Addr(n)
			switch reserved := b.areas[4].Contains(at); {
			case reserved:
				cause = remora.ErrProtected
			case table[(at-whole.Start)/remora.Addr(pageSize)]>>63 == 0:
				cause = remora.ErrNotPresent
			}
			if cause != nil {
				break
			}
			n = min(len(seg.Buf), n+pageSize-int(uint64(at)%uint64(pageSize)))
		}
		if seg.N != n || seg.Err != cause {
			t.Errorf("%v+%d: %d, %v, want %d, %v", a, len(seg.Buf), seg.N, seg.Err, n, cause)
			continue
		}
		want := make([]byte, n)
		for _, it := range b.areas {
			if in := it.Intersect(remora.Range{Start: a, Size: uint64(n)}); !in.Empty() {
				copy(want[in.Start-a:], b.Contents(it.kind, it.Range)[in.Start-it.Start:][:in.Size])
			}
		}
		if !bytes.Equal(seg.Buf[:n], want) {
			t.Errorf("%v+%d: other bytes than it holds", a, len(seg.Buf))
		}
	}
}

// Every cause is told from the others, and explained by what the map says.
func TestCausesAreToldApartAndExplained(t *testing.T) {
	testneed.Root(t) // to see the file behind a mapping
	s := specimentest.Start(t, nil)
	kinds := []specimen.Kind{specimen.Touched, specimen.Hole, specimen.NoAccess, specimen.WriteOnly, specimen.ExecOnly, specimen.ReadOnly,
		specimen.Text, specimen.SharedReadOnly, specimen.FileEnd, specimen.Guard, specimen.Secret, specimen.Untouched, specimen.UnreadFile}
	var pieces []specimen.Piece
	for _, k := range kinds {
		pieces = append(pieces, specimen.Piece{Kind: k, Pages: 2})
	}
	at := map[specimen.Kind]remora.Addr{}
	for _, it := range layOut(t, s, pieces...) {
		at[it.kind] = it.Start + 16
	}
	end := at[specimen.FileEnd] + remora.Addr(pageSize)
	for _, d := range doors() {
		p := openProcess(t, s.Pid(), &Options{Door: d, Write: true})
		vvar := remora.Addr(0)
		for r, err := range p.Regions(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			if r.Name == "[vvar]" {
				vvar = r.Start
			}
		}
		for _, row := range []struct {
			op    remora.Op
			a     remora.Addr
			cause error
			text  string
		}{
			{remora.Read, 0, remora.ErrUnmapped, "not mapped (the first mapping begins at 0x"},
			{remora.Write, remora.MaxAddr, remora.ErrUnmapped, "not mapped (the last mapping ends at 0x"},
			{remora.Read, at[specimen.Hole], remora.ErrUnmapped, fmt.Sprintf("not mapped (between mappings that end at %v and begin at %v)", at[specimen.Hole]-16, at[specimen.NoAccess]-16)},
			{remora.Read, at[specimen.NoAccess], remora.ErrProtected, "page protection (---p anonymous memory)"},
			{remora.Read, at[specimen.WriteOnly], remora.ErrProtected, "page protection (-w-p anonymous memory)"},
			{remora.Read, at[specimen.ExecOnly], remora.ErrProtected, "page protection (--xp anonymous memory)"},
			{remora.Write, at[specimen.ReadOnly], remora.ErrProtected, "page protection (r--p anonymous memory; Force writes here)"},
			{remora.Write, at[specimen.Text], remora.ErrProtected, "file offset 0x10; Force writes here)"},
			{remora.Write, at[specimen.SharedReadOnly], remora.ErrProtected, "page protection (r--s "},
			{remora.Write | remora.Force, at[specimen.SharedReadOnly], remora.ErrProtected, "file offset 0x10)"},
			{remora.Read, end, remora.ErrBeyondEOF, fmt.Sprintf("(deleted), file offset 0x%x)", pageSize+16)},
			{remora.Write, end, remora.ErrBeyondEOF, "beyond the end of the mapped file (rw-p "},
			{remora.Read, at[specimen.Guard], remora.ErrGuard, "guard page (rw-p anonymous memory)"},
			{remora.Write | remora.Force, at[specimen.Guard], remora.ErrGuard, "guard page"},
			{remora.Read, at[specimen.Secret], remora.ErrFault, "memfd_secret memory, which nobody else can reach"},
			{remora.Read | remora.Resident, at[specimen.Untouched], remora.ErrNotPresent, "not present in memory (rw-p anonymous memory)"},
			{remora.Read | remora.Resident, at[specimen.UnreadFile], remora.ErrNotPresent, "not present in memory (rw-p "},
			{remora.Read, vvar, remora.ErrDevice, "device memory (r--p [vvar])"},
			{remora.Read | remora.Force, vvar, remora.ErrDevice, "device memory (r--p [vvar])"},
		} {
			segs := []remora.Seg{{Addr: row.a, Buf: make([]byte, 1)}}
			_, err := p.Memory().Transfer(t.Context(), row.op, segs)
			if segs[0].N != 0 || err != row.cause {
				t.Errorf("%v, %v at %v: %d, %v, want %v", d, row.op, row.a, segs[0].N, err, row.cause)
				continue
			}
			err = remora.FirstFault(t.Context(), p.Memory(), row.op, segs)
			if !errors.Is(err, row.cause) || !strings.Contains(err.Error(), row.text) || !strings.Contains(err.Error(), fmt.Sprintf("pid %d:%v: ", s.Pid(), row.a)) {
				t.Errorf("%v, %v at %v: %v, want %q", d, row.op, row.a, err, row.text)
			}
		}
	}
}

// Where the answer has changed since the transfer, the explanation says so.
func TestExplanationsLookAgain(t *testing.T) {
	s := specimentest.Start(t, nil)
	p := openProcess(t, s.Pid(), nil)
	areas := layOut(t, s, specimen.Piece{Kind: specimen.Touched, Pages: 1}, specimen.Piece{Kind: specimen.Hole, Pages: 1}, specimen.Piece{Kind: specimen.NoAccess, Pages: 1})
	hole, none := areas[1].Range, areas[2].Range
	explain := func(r remora.Range, c error, want string) {
		t.Helper()
		if err := p.Explain(t.Context(), remora.Read, r.Start, c); !errors.Is(err, c) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q", c, err, want)
		}
	}
	if _, err := s.MapAt(hole.Start, specimen.ReadOnly, 1); err != nil {
		t.Fatal(err)
	}
	explain(hole, remora.ErrUnmapped, "mapped by now: r--p anonymous memory")
	if err := s.Protect(none, remora.PermRead); err != nil {
		t.Fatal(err)
	}
	explain(none, remora.ErrProtected, "permitted by now: r--p anonymous memory")
	if err := s.Unmap(none); err != nil {
		t.Fatal(err)
	}
	explain(none, remora.ErrProtected, "no longer mapped: between mappings that end at")
	if err := p.Explain(t.Context(), remora.Read, 0, remora.ErrGone); err != remora.ErrGone {
		t.Errorf("what is no fault: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Explain(ctx, remora.Read, 0, remora.ErrUnmapped); err != remora.ErrUnmapped {
		t.Errorf("with a context that has ended: %v", err)
	}
}

// The stack of the target is not grown, through no door (R47, R68).
func TestStacksDoNotGrow(t *testing.T) {
	for _, d := range doors() {
		for _, old := range []bool{false, true} {
			s := specimentest.Start(t, nil)
			p := openProcess(t, s.Pid(), &Options{Door: d, Write: true})
			if old {
				older(p)
			}
			stack := mapped(t, s, specimen.GrowsDown, 4)
			below := stack.Start - remora.Addr(pageSize)
			for _, op := range []remora.Op{remora.Read, remora.Write, remora.Resident, remora.Force, remora.Write | remora.Force} {
				segs := []remora.Seg{{Addr: below, Buf: make([]byte, 2*pageSize)}}
				if n, err := p.Memory().Transfer(t.Context(), op, segs); n != 0 || err != remora.ErrUnmapped {
					t.Errorf("%v, %v: %d, %v", d, op, n, err)
				}
			}
			for r, err := range p.Regions(t.Context()) {
				if err != nil || r.Contains(below) {
					t.Errorf("%v: the stack is %v, was %v (%v)", d, r.Range, stack, err)
				}
			}
			holds(t, p, s, specimen.GrowsDown, stack)
		}
	}
}
