// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/memtest"
)

// countdown is a context that ends when it has been looked at so often.
type countdown struct {
	context.Context
	left int
	used atomic.Int64
}

func (c *countdown) Err() error {
	if c.used.Add(1) > int64(c.left) {
		return context.Canceled
	}
	return nil
}

// sparse maps runs of random bytes, with text at places.
func sparse(t testing.TB, runs []remora.Range, at []remora.Addr, text string) *memtest.Sparse {
	t.Helper()
	s := memtest.NewSparse(nil)
	for _, r := range runs {
		if err := s.Map(r, memtest.MapOptions{Perm: remora.PermRead | remora.PermWrite}); err != nil {
			t.Fatal(err)
		}
	}
	for _, a := range at {
		if err := s.Poke([]byte(text), a); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func TestSweepFindsWhatIsThereOnceAndInOrder(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var runs []remora.Range
	var at []remora.Addr
	for a := remora.Addr(0x3000); len(runs) < 400; {
		n := uint64(1+rng.IntN(3)) * 4096
		if len(runs)%100 == 50 {
			n = 3<<20 + 0x5000
		}
		runs = append(runs, remora.Range{Start: a, Size: n})
		at = append(at, a+remora.Addr(rng.Uint64N(n-uint64(len(digits)))))
		a += remora.Addr(n + 4096*uint64(1+rng.IntN(2)))
	}
	for _, r := range runs { // across chunks, which begin at multiples of 64 KiB or behind
		for a := (r.Start + 1<<20) &^ (1<<16 - 1); r.Size > 1<<20 && a+64 < r.Start+remora.Addr(r.Size); a += 1 << 16 {
			at = append(at, a-7)
		}
	}
	slices.Sort(at)
	s := sparse(t, runs, at, digits)
	var got []remora.Addr
	n, err := sweep(t.Context(), s, remora.Range{Size: 1 << 63}, traces, func(x trace) bool {
		got = append(got, x.at)
		return true
	})
	var want uint64
	for _, r := range runs {
		want += r.Size
	}
	if err != nil || n != want || !slices.Equal(got, at) {
		t.Errorf("%d bytes of %d, %v, %d found of %d", n, want, err, len(got), len(at))
	}
	// A page in the middle that cannot be read after all.
	long := slices.IndexFunc(runs, func(r remora.Range) bool { return r.Size > 1<<20 })
	bad := runs[long].Start + 1<<20 + 0x123
	s.Inject(bad, remora.Read, remora.ErrCorrupt)
	left := slices.DeleteFunc(slices.Clone(at), func(a remora.Addr) bool { return a+remora.Addr(len(digits)) > bad && a&^0xfff <= bad })
	got = nil
	if _, err := sweep(t.Context(), s, remora.Range{Size: 1 << 63}, traces, func(x trace) bool {
		got = append(got, x.at)
		return true
	}); err != nil || !slices.Equal(got, left) {
		t.Errorf("with a bad page: %v, %d found of %d", err, len(got), len(left))
	}
}

func TestSweepStops(t *testing.T) {
	s := sparse(t, []remora.Range{{Start: 0, Size: 64 << 20}}, []remora.Addr{0x100, 0x200, 60 << 20}, digits)
	n := 0
	size, err := sweep(t.Context(), s, remora.Range{Size: 1 << 63}, traces, func(trace) bool { n++; return n < 2 })
	if err != nil || n != 2 || size > 1<<20 {
		t.Errorf("%d found, %d bytes, %v", n, size, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := sweep(ctx, s, remora.Range{Size: 1 << 63}, traces, func(trace) bool { return true }); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	s.Close()
	if _, err := sweep(t.Context(), s, remora.Range{Size: 1 << 63}, traces, func(trace) bool { return true }); err == nil {
		t.Error("of a Space that is closed")
	}
	if _, err := sweep(t.Context(), struct{ remora.Space }{s}, remora.Range{Size: 1 << 63}, traces, func(trace) bool { return true }); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("without a list of what is there: %v", err)
	}
}
