// SPDX-License-Identifier: Apache-2.0

package scan

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/memtest"
)

// Random ranges between random layouts, against a model that copies byte by byte.
func TestCopyAgreesWithTheBytes(t *testing.T) {
	for seed := range uint64(12) {
		rnd := rand.New(rand.NewPCG(seed, 11))
		src, dst := layout(t, rnd), layout(t, rnd)
		want := dst.Clone()
		r := remora.Range{Start: remora.Addr(rnd.IntN(60 * page)), Size: uint64(rnd.IntN(16 * page))}
		a := remora.Addr(rnd.IntN(60 * page))
		model := copyBytes(t, src.Clone(), r, want, a)
		to := dst.Memory()
		if seed%2 == 1 {
			to = remora.New(bare{dst})
		}
		off := uint64(0)
		for c, err := range Copy(context.Background(), src.Memory(), r, to, a) {
			if err != nil {
				t.Fatal(err)
			}
			if c.Off != off || c.Size == 0 {
				t.Fatalf("seed %d: a part of %d at %d, want at %d", seed, c.Size, c.Off, off)
			}
			for i := range c.Size {
				if m := model[off+i]; m.From != c.From || m.To != c.To || (c.From == nil && c.To == nil) != (c.Data != nil) {
					t.Fatalf("seed %d: byte %d: %v, %v; want %v, %v", seed, off+i, c.From, c.To, m.From, m.To)
				}
			}
			off += c.Size
		}
		if off != r.Size {
			t.Errorf("seed %d: %d of %d bytes", seed, off, r.Size)
		}
		if d := bytesDiffer(t, dst, want); d != "" {
			t.Errorf("seed %d: %s", seed, d)
		}
	}
}

// copyBytes is the model.
func copyBytes(t *testing.T, src *memtest.Sparse, r remora.Range, dst *memtest.Sparse, a remora.Addr) []Copied {
	t.Helper()
	all := make([]Copied, r.Size)
	b := make([]byte, 1)
	for i := range r.Size {
		seg := []remora.Seg{{Addr: r.Start + remora.Addr(i), Buf: b}}
		if _, err := src.Transfer(t.Context(), remora.Read, seg); err != nil {
			all[i].From = err
			continue
		}
		seg[0].Addr = a + remora.Addr(i)
		_, all[i].To = dst.Transfer(t.Context(), remora.Write, seg)
	}
	return all
}

func bytesDiffer(t *testing.T, got, want *memtest.Sparse) string {
	t.Helper()
	g, w := make([]byte, page), make([]byte, page)
	for at := remora.Addr(0); at < 130*page; at += page {
		wrong, bad := got.Peek(g, at), want.Peek(w, at)
		if (wrong == nil) != (bad == nil) || bad == nil && string(g) != string(w) {
			return fmt.Sprintf("the page at %v is another", at)
		}
	}
	return ""
}

// What would be copied is what is copied, where the map tells all.
func TestWouldCopy(t *testing.T) {
	for seed := range uint64(40) {
		rnd := rand.New(rand.NewPCG(seed, 13))
		src, dst := layout(t, rnd), memtest.NewSparse(nil)
		for at := remora.Addr(0); at < 64*page; at += page {
			perm := remora.Perm(rnd.IntN(8))
			if rnd.IntN(4) == 0 {
				continue
			}
			o := memtest.MapOptions{Perm: perm, Shared: rnd.IntN(3) == 0, Object: memtest.NewObject(page)}
			if err := dst.Map(remora.Range{Start: at, Size: page}, o); err != nil {
				t.Fatal(err)
			}
		}
		r := remora.Range{Start: remora.Addr(rnd.IntN(60 * page)), Size: uint64(rnd.IntN(16 * page))}
		a, to := remora.Addr(rnd.IntN(68*page)), dst.Memory()
		if seed%2 == 1 {
			to = to.With(remora.Force)
		}
		before := dst.Clone()
		var would, does []fate
		for c, err := range WouldCopy(t.Context(), src.Memory(), r, to, a) {
			if err != nil {
				t.Fatal(err)
			}
			would = byByte(would, c)
		}
		if d := before.Diff(dst); d != "" {
			t.Fatalf("seed %d: only a look: %s", seed, d)
		}
		for c, err := range Copy(t.Context(), src.Memory(), r, to, a) {
			if err != nil {
				t.Fatal(err)
			}
			does = byByte(does, c)
		}
		if uint64(len(does)) != r.Size || !slices.Equal(would, does) {
			t.Errorf("seed %d: it did something else", seed)
		}
	}
	s := memtest.NewSparse(nil)
	if err := s.Map(remora.Range{Start: 0, Size: page}, memtest.MapOptions{Perm: remora.PermRead}); err != nil {
		t.Fatal(err)
	}
	for c, err := range WouldCopy(t.Context(), s.Memory(), remora.Range{Start: 0, Size: page}, remora.New(bare{s}), 9*page) {
		if err != nil || c.Size != page || c.Data == nil {
			t.Errorf("without a map: %+v, %v", c, err)
		}
	}
}

// fate is what became of one byte.
type fate struct {
	from, to error
	written  bool
}

func byByte(all []fate, c Copied) []fate {
	for range c.Size {
		all = append(all, fate{c.From, c.To, c.Data != nil})
	}
	return all
}

// A hole of the destination is one part, however long it is, and the map is that of the
// moment.
func TestCopyPassesOverAHoleAtOnce(t *testing.T) {
	const rw = remora.PermRead | remora.PermWrite
	src, dst := memtest.NewSparse(nil), memtest.NewSparse(nil)
	for _, m := range []struct {
		s     *memtest.Sparse
		first remora.Addr
		pages uint64
		perm  remora.Perm
	}{{src, 0, 400, rw}, {dst, 0, 2, rw}, {dst, 66 * page, 1, rw}, {dst, 67 * page, 100, remora.PermRead}, {dst, 167 * page, 1, rw}} {
		if err := m.s.Map(remora.Range{Start: m.first, Size: m.pages * page}, memtest.MapOptions{Perm: m.perm}); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for c, err := range Copy(t.Context(), src.Memory(), remora.Range{Start: page, Size: 220 * page}, dst.Memory(), 100) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprint(c.Off+100, "+", c.Size, c.To))
		if c.To == remora.ErrUnmapped { // half of the read-only pages become writable
			if err := dst.Map(remora.Range{Start: 117 * page, Size: 50 * page}, memtest.MapOptions{Perm: rw}); err != nil {
				t.Fatal(err)
			}
		}
	}
	want := []string{fmt.Sprint(100, "+", 2*page-100, nil), fmt.Sprint(2*page, "+", 64*page, remora.ErrUnmapped), fmt.Sprint(66*page, "+", page, nil),
		fmt.Sprint(67*page, "+", 50*page, remora.ErrProtected), fmt.Sprint(117*page, "+", 51*page, nil), fmt.Sprint(168*page, "+", 52*page+100, remora.ErrUnmapped)}
	if !slices.Equal(got, want) {
		t.Errorf("parts %q, want %q", got, want)
	}
}

// A destination that is gone ends the copy.
func TestCopyEnds(t *testing.T) {
	src, dst := memtest.NewSparse(nil), memtest.NewSparse(&memtest.SparseOptions{ReadOnly: true})
	for _, s := range []*memtest.Sparse{src, dst} {
		if err := s.Map(remora.Range{Start: 0, Size: 4 * page}, memtest.MapOptions{Perm: remora.PermRead | remora.PermWrite}); err != nil {
			t.Fatal(err)
		}
	}
	calls := 0
	for c, err := range Copy(t.Context(), src.Memory(), remora.Range{Start: 0, Size: 3 * page}, dst.Memory(), page) {
		calls++
		var f *remora.Fault
		if !errors.As(err, &f) || f.Err != remora.ErrReadOnly || f.Addr != page || c.Size != 0 {
			t.Errorf("%+v, %v", c, err)
		}
	}
	if calls != 1 {
		t.Errorf("%d parts", calls)
	}
	for range Copy(t.Context(), src.Memory(), remora.Range{Start: 0, Size: 3 * page}, src.Memory(), page) {
		break // the caller may stop
	}
}
