// SPDX-License-Identifier: Apache-2.0

package scan

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/memtest"
)

const page = 4096

// bare hides that a space has a map.
type bare struct{ remora.Space }

var _ remora.Space = bare{}

// TestReadAgreesWithTheBytes reads random ranges of random layouts, and looks at every
// byte of every range by itself.
func TestReadAgreesWithTheBytes(t *testing.T) {
	for seed := range uint64(16) {
		rnd := rand.New(rand.NewPCG(seed, 7))
		s := layout(t, rnd)
		for name, m := range map[string]*remora.Memory{"with a map": s.Memory(), "without a map": remora.New(bare{s})} {
			t.Run(fmt.Sprintf("seed %d %s", seed, name), func(t *testing.T) {
				ranges := make([]remora.Range, 1+rnd.IntN(12))
				for i := range ranges {
					ranges[i] = remora.Range{Start: remora.Addr(rnd.IntN(70 * page)), Size: uint64(rnd.IntN(5 * page))}
				}
				got := collect(t, m, ranges)
				for i, r := range ranges {
					got[i].compare(t, m, r)
				}
			})
		}
	}
}

// layout maps some of 64 pages, readable or not, and puts faults into them.
func layout(t *testing.T, rnd *rand.Rand) *memtest.Sparse {
	s := memtest.NewSparse(nil)
	for at := 0; at < 64; {
		n := 1 + rnd.IntN(5)
		r := remora.Range{Start: remora.Addr(at * page), Size: uint64(n * page)}
		o := memtest.MapOptions{Perm: remora.Perm(rnd.IntN(8))}
		if rnd.IntN(6) == 0 {
			o.Fault = remora.ErrGuard
		}
		if rnd.IntN(3) > 0 {
			if err := s.Map(r, o); err != nil {
				t.Fatal(err)
			}
			if o.Fault == 0 {
				data := make([]byte, r.Size)
				for i := range data {
					data[i] = byte(rnd.Uint32())
				}
				if err := s.Poke(data, r.Start); err != nil {
					t.Fatal(err)
				}
			}
		}
		at += n
	}
	return s
}

// result is what Read gave for one range: a byte or a cause for each address.
type result struct {
	data   []byte
	causes []error
}

func collect(t *testing.T, m *remora.Memory, ranges []remora.Range) []result {
	t.Helper()
	got := make([]result, len(ranges))
	at := 0
	for p, err := range Read(context.Background(), m, ranges) {
		if err != nil {
			t.Fatal(err)
		}
		if p.Range < at {
			t.Fatalf("range %d comes after range %d", p.Range, at)
		}
		at = p.Range
		g := &got[at]
		if want := ranges[at].Start + remora.Addr(len(g.causes)); p.Addr != want {
			t.Fatalf("range %d goes on at %v, want %v", at, p.Addr, want)
		}
		if p.Err == nil && uint64(len(p.Data)) != p.Size || p.Err != nil && p.Data != nil {
			t.Fatalf("piece %+v is neither bytes nor a hole", p)
		}
		for i := range p.Size {
			b := byte(0)
			if p.Err == nil {
				b = p.Data[i]
			}
			g.data, g.causes = append(g.data, b), append(g.causes, p.Err)
		}
	}
	return got
}

// compare reads the range byte by byte.
func (g result) compare(t *testing.T, m *remora.Memory, r remora.Range) {
	t.Helper()
	if uint64(len(g.data)) != r.Size {
		t.Fatalf("%v: got %d bytes and holes", r, len(g.data))
	}
	alone := make([]byte, r.Size)
	segs := make([]remora.Seg, r.Size)
	for i := range segs {
		segs[i] = remora.Seg{Addr: r.Start + remora.Addr(i), Buf: alone[i : i+1]}
	}
	_, _ = m.ReadV(context.Background(), segs) // each segment tells
	for i := range segs {
		if (segs[i].Err == nil) != (g.causes[i] == nil) {
			t.Fatalf("%v: byte %d: read alone gives %v, with the others %v", r, i, segs[i].Err, g.causes[i])
		}
		if segs[i].Err == nil && alone[i] != g.data[i] {
			t.Fatalf("%v: byte %d is %#x, want %#x", r, i, g.data[i], alone[i])
		}
	}
}

// counting counts the segments that reach the space.
type counting struct {
	*memtest.Sparse
	calls, segs int
}

func (c *counting) Transfer(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
	c.calls++
	c.segs += len(segs)
	return c.Sparse.Transfer(ctx, op, segs)
}

var _ remora.Space = (*counting)(nil)

func TestReadLeapsOverAHugeHole(t *testing.T) {
	s := memtest.NewSparse(nil)
	for _, start := range []remora.Addr{0x1000, 1<<40 - page} {
		if err := s.Map(remora.Range{Start: start, Size: page}, memtest.MapOptions{Perm: remora.PermRead}); err != nil {
			t.Fatal(err)
		}
	}
	c := &counting{Sparse: s}
	var good, holes uint64
	for p, err := range Read(context.Background(), remora.New(c), []remora.Range{{Size: 1 << 40}}) {
		switch {
		case err != nil:
			t.Fatal(err)
		case p.Err != nil:
			holes += p.Size
		default:
			good += p.Size
		}
	}
	if good != 2*page || holes != 1<<40-2*page {
		t.Errorf("read %d bytes and %d in holes", good, holes)
	}
	if c.segs > 1000 {
		t.Errorf("took %d segments", c.segs)
	}
}

func TestReadPutsSmallRangesTogether(t *testing.T) {
	s := memtest.NewSparse(nil)
	if err := s.Map(remora.Range{Start: 0x1000, Size: page}, memtest.MapOptions{Perm: remora.PermRead}); err != nil {
		t.Fatal(err)
	}
	c := &counting{Sparse: s}
	ranges := make([]remora.Range, 1000)
	for i := range ranges {
		ranges[i] = remora.Range{Start: 0x1000 + remora.Addr(i), Size: 8}
	}
	for _, err := range Read(context.Background(), remora.New(c), ranges) {
		if err != nil {
			t.Fatal(err)
		}
	}
	if c.calls != 1 {
		t.Errorf("took %d transfers, want 1", c.calls)
	}
}

func TestReadPastTheLastAddress(t *testing.T) {
	s := memtest.NewSparse(nil)
	if err := s.Map(remora.Range{Start: remora.MaxAddr - page + 1, Size: page}, memtest.MapOptions{Perm: remora.PermRead}); err != nil {
		t.Fatal(err)
	}
	var got []string
	for p, err := range Read(context.Background(), s.Memory(), []remora.Range{{Start: remora.MaxAddr - 15, Size: 1<<64 - 1}}) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprint(p.Size, p.Err, p.Past))
		if p.Err != nil && p.Fault(context.Background(), s.Memory(), remora.Read).Error() != "read sparse: past the last address: not mapped" {
			t.Error(p.Fault(context.Background(), s.Memory(), remora.Read))
		}
	}
	if want := []string{"16 <nil> false", "18446744073709551599 not mapped true"}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// ending cancels its context after so many bytes.
type ending struct {
	*memtest.Sparse
	left   int
	cancel context.CancelFunc
}

var _ remora.Space = (*ending)(nil)

func (e *ending) Transfer(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
	for i := range segs {
		if e.left < len(segs[i].Buf) {
			e.cancel()
			n, err := e.Sparse.Transfer(ctx, op, segs[i:])
			return n, err
		}
		e.left -= len(segs[i].Buf)
		if _, err := e.Sparse.Transfer(ctx, op, segs[i:i+1]); err != nil {
			return 0, err
		}
	}
	return 0, nil
}

func TestReadGivesWhatCameBeforeTheEndOfItsContext(t *testing.T) {
	s := memtest.NewSparse(nil)
	if err := s.Map(remora.Range{Size: 64 << 20}, memtest.MapOptions{Perm: remora.PermRead}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	m := remora.New(&ending{Sparse: s, left: 5 << 20, cancel: cancel})
	var data bytes.Buffer
	var last error
	for p, err := range Read(ctx, m, []remora.Range{{Size: 64 << 20}}) {
		data.Write(p.Data)
		last = err
	}
	var f *remora.Fault
	if !errors.Is(last, context.Canceled) || !errors.As(last, &f) || f.Addr != remora.Addr(data.Len()) {
		t.Errorf("after %d bytes: %v", data.Len(), last)
	}
	if data.Len() != 5<<20 {
		t.Errorf("got %d bytes, want %d", data.Len(), 5<<20)
	}
}

func TestReadOfNothing(t *testing.T) {
	s := memtest.NewSparse(nil)
	for p, err := range Read(context.Background(), s.Memory(), []remora.Range{{Start: 5}, {Start: remora.MaxAddr}}) {
		t.Errorf("got %+v, %v", p, err)
	}
}

// present is a space that tells what of it is in memory.
type present struct {
	*counting
	runs []remora.Range
}

func (p *present) Present(_ context.Context, r remora.Range) iter.Seq2[remora.Range, error] {
	return func(yield func(remora.Range, error) bool) {
		for _, run := range p.runs {
			if run.Start >= r.Start && run.Last() <= r.Last() && !yield(run, nil) {
				return
			}
		}
	}
}

func TestReadLeapsOverWhatIsNotInMemory(t *testing.T) {
	const far = 1 << 40
	c := &counting{Sparse: memtest.NewSparse(nil)}
	p := &present{counting: c, runs: []remora.Range{{Start: page, Size: page}, {Start: far, Size: page}}}
	absent := remora.Range{Start: 2 * page, Size: far - 2*page}
	for _, r := range append(p.runs, absent) {
		o := memtest.MapOptions{Perm: remora.PermRead}
		if r == absent {
			o.Fault = remora.ErrNotPresent
		}
		if err := c.Map(r, o); err != nil {
			t.Fatal(err)
		}
	}
	var got []Piece
	for piece, err := range Read(t.Context(), remora.New(p), []remora.Range{{Start: page, Size: far}}) {
		if err != nil {
			t.Fatal(err)
		}
		piece.Data = nil
		got = append(got, piece)
	}
	var good, holes uint64
	for _, piece := range got {
		if piece.Err == nil {
			good += piece.Size
		} else if holes += piece.Size; piece.Err != remora.ErrNotPresent {
			t.Errorf("at %v: %v", piece.Addr, piece.Err)
		}
	}
	if good != 2*page || holes != absent.Size {
		t.Errorf("read %d bytes and %d in holes", good, holes)
	}
	if c.segs > 1000 {
		t.Errorf("took %d segments", c.segs)
	}
}
