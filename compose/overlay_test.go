// SPDX-License-Identifier: Apache-2.0

package compose

import (
	"bytes"
	"errors"
	"io/fs"
	"slices"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/memtest"
)

func TestOverlayNeverWritesBelow(t *testing.T) {
	below := memtest.NewSample(0).Sparse
	before := below.Clone()
	l := Overlay(below)
	for _, a := range memtest.NewSample(0).Fixture.Areas {
		for _, op := range []remora.Op{remora.Write, remora.Write | remora.Force, remora.Write | remora.Resident} {
			l.Transfer(t.Context(), op, []remora.Seg{{Addr: a.Start, Buf: bytes.Repeat([]byte{0xa5}, 100)}})
		}
	}
	if len(l.Changes()) == 0 {
		t.Error("nothing was written to the layer")
	}
	if d := before.Diff(below); d != "" {
		t.Errorf("the space below changed:\n%s", d)
	}
}

func TestOverlayListsChanges(t *testing.T) {
	const top = remora.MaxAddr - 0x1fff
	below := mapped(t, nil, remora.Range{Start: 0x1000, Size: 0x3000})
	if err := below.Map(remora.Range{Start: top, Size: 0x2000}, memtest.MapOptions{Perm: remora.PermRead}); err != nil {
		t.Fatal(err)
	}
	l := Overlay(below)
	m := remora.New(l)
	write := func(a remora.Addr, n int) {
		t.Helper()
		if _, err := m.WriteAt(t.Context(), make([]byte, n), a); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(want ...remora.Range) {
		t.Helper()
		if got := l.Changes(); !slices.Equal(got, want) {
			t.Errorf("changes %v, want %v", got, want)
		}
	}
	expect()
	write(0x1fff, 2) // over the border of two pages
	expect(remora.Range{Start: 0x1fff, Size: 2})
	write(0x1010, 64)
	write(0x1060, 1)
	expect(remora.Range{Start: 0x1010, Size: 64}, remora.Range{Start: 0x1060, Size: 1}, remora.Range{Start: 0x1fff, Size: 2})
	write(0x1020, 0x1000) // over all that lies between
	expect(remora.Range{Start: 0x1010, Size: 0x1010})
	write(remora.MaxAddr, 1)
	write(top, 0x2000)
	expect(remora.Range{Start: 0x1010, Size: 0x1010}, remora.Range{Start: top, Size: 0x2000})
	l.Discard()
	expect()
}

// What is not changed is what lies below, now; what is changed is not.
func TestOverlayShowsChangesBelow(t *testing.T) {
	below := mapped(t, nil, remora.Range{Size: 0x1000})
	l := Overlay(below)
	m := remora.New(l)
	if _, err := m.WriteAt(t.Context(), []byte("BC"), 1); err != nil {
		t.Fatal(err)
	}
	below.Poke([]byte("abcd"), 0)
	got := make([]byte, 4)
	if _, err := m.ReadAt(t.Context(), got, 0); err != nil || string(got) != "aBCd" {
		t.Errorf("read %q, %v, want aBCd", got, err)
	}
	l.Discard()
	if _, err := m.ReadAt(t.Context(), got, 0); err != nil || string(got) != "abcd" {
		t.Errorf("read %q, %v, after Discard, want abcd", got, err)
	}
}

// A change does not make an address readable that is not.
func TestOverlayKeepsHoles(t *testing.T) {
	below := mapped(t, &memtest.SparseOptions{Name: "below", ReadOnly: true}, remora.Range{Size: 0x2000})
	m := remora.New(Overlay(below))
	n, err := m.WriteAt(t.Context(), make([]byte, 16), 0x1ff8)
	if want := "write below:0x2000: not mapped"; n != 8 || err == nil || err.Error() != want {
		t.Errorf("a write into a hole: %d, %v, want 8, %s", n, err, want)
	}
	if err := below.Unmap(remora.Range{Start: 0x1000, Size: 0x1000}); err != nil {
		t.Fatal(err)
	}
	if n, err := m.ReadAt(t.Context(), make([]byte, 16), 0x1ff8); n != 0 || !errors.Is(err, remora.ErrUnmapped) {
		t.Errorf("read %d changed bytes where nothing is mapped any longer: %v", n, err)
	}
}

func TestOverlayClose(t *testing.T) {
	below := mapped(t, nil, remora.Range{Size: 0x1000})
	l := Overlay(below)
	m := remora.New(l)
	if _, err := m.WriteAt(t.Context(), []byte{1}, 0); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := m.ReadAt(t.Context(), make([]byte, 1), 0); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("a read after Close: %v", err)
	}
	if got := l.Changes(); len(got) != 0 {
		t.Errorf("changes after Close: %v", got)
	}
	if _, err := below.Memory().ReadAt(t.Context(), make([]byte, 1), 0); err != nil {
		t.Errorf("the space below after Close: %v", err)
	}
}
