// SPDX-License-Identifier: Apache-2.0

package xfer

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"runtime"
	"testing"

	"pgregory.net/rapid"

	"github.com/remora-go/remora"
)

var causes = []error{remora.ErrProtected, remora.ErrNotSaved, remora.ErrIO, remora.ErrHole}

// drawRAM gives a space with faults, and a copy that is as yet the same.
func drawRAM(t *rapid.T, name string, size int) (*ram, *ram) {
	base := remora.Addr(rapid.SampledFrom([]uint64{0, 0x1000, 1<<63 - 40, -uint64(size)}).Draw(t, "base"))
	r := &ram{name: name, base: base, mem: rapid.SliceOfN(rapid.Byte(), size, size).Draw(t, "mem"), bad: map[int]error{}}
	for _, i := range rapid.SliceOfN(rapid.IntRange(0, size-1), 0, 4).Draw(t, "bad") {
		r.bad[i] = rapid.SampledFrom(causes).Draw(t, "cause")
	}
	r.limit = rapid.SampledFrom([]int{0, 0, 1, 7}).Draw(t, "limit")
	return r, &ram{name: name, base: base, mem: bytes.Clone(r.mem), bad: r.bad}
}

func (r *ram) byteAt(a remora.Addr) (*byte, error) {
	if _, err := r.prefix(a, 1); err != nil {
		return nil, err
	}
	return &r.mem[a-r.base], nil
}

func drawSegs(t *rapid.T, base remora.Addr, size, longest int) []remora.Seg {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) remora.Seg {
		return remora.Seg{
			Addr: base + remora.Addr(rapid.IntRange(-8, size+8).Draw(t, "at")),
			Buf:  bytes.Repeat([]byte{rapid.Byte().Draw(t, "fill")}, rapid.IntRange(0, longest).Draw(t, "len")),
		}
	}), 0, 12).Draw(t, "segs")
}

func drawOp(t *rapid.T) remora.Op {
	return rapid.SampledFrom([]remora.Op{remora.Read, remora.Write, remora.StopAtFault, remora.Write | remora.StopAtFault}).Draw(t, "op")
}

func TestEachAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r, model := drawRAM(t, "ram", 200)
		for range 4 {
			op := drawOp(t)
			segs := drawSegs(t, r.base, 200, 60)
			want := twin(segs)
			n, err := r.Transfer(t.Context(), op, segs)
			naive(op, want, model.byteAt)
			same(t, op, segs, want, n, err)
			if !bytes.Equal(r.mem, model.mem) {
				t.Fatalf("%v: the memory differs", op)
			}
		}
	})
}

// clock is a context that ends after a number of looks.
type clock struct {
	context.Context
	left  int
	looks int
}

func (c *clock) Err() error {
	c.looks++
	if c.left--; c.left < 0 {
		return context.Canceled
	}
	return nil
}

func TestEachLooksBeforeEachChunk(t *testing.T) {
	r := &ram{mem: make([]byte, 4*ChunkBytes+10)}
	ctx := &clock{Context: t.Context(), left: 2}
	segs := []remora.Seg{{Addr: 1, Buf: make([]byte, 4*ChunkBytes)}, {}, {Addr: 2, Buf: make([]byte, 3)}}
	n, err := r.Transfer(ctx, remora.Read, segs)
	if want := int64(2*ChunkBytes - 1); n != want || err != context.Canceled || segs[0].N != int(want) {
		t.Errorf("got %d, %v", n, err)
	}
	if segs[0].Err != context.Canceled || segs[1].Err != nil || segs[2].Err != context.Canceled || segs[2].N != 0 {
		t.Errorf("segments: %v, %v, %v", segs[0].Err, segs[1].Err, segs[2].Err)
	}

	many := make([]remora.Seg, 5*ChunkSegs)
	for i := range many {
		many[i] = remora.Seg{Buf: make([]byte, 1)}
	}
	ctx = &clock{Context: t.Context(), left: 3}
	if n, err := r.Transfer(ctx, remora.Read, many); n != 3*ChunkSegs || err != context.Canceled {
		t.Errorf("got %d, %v", n, err)
	}
}

func TestEachEmptyCallIgnoresContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := &ram{}
	if n, err := r.Transfer(ctx, remora.Write, []remora.Seg{{Addr: remora.MaxAddr, N: 7, Err: fs.ErrExist}}); n != 0 || err != nil {
		t.Errorf("got %d, %v", n, err)
	}
}

func TestAdmit(t *testing.T) {
	var g Gate
	const ops = remora.StopAtFault
	if err := g.Admit(remora.Write, ops, false); err != remora.ErrReadOnly {
		t.Errorf("write: %v", err)
	}
	if err := g.Admit(1<<31, ops, true); err != errors.ErrUnsupported {
		t.Errorf("unknown bit: %v", err)
	}
	if err := g.Admit(remora.Write|ops, ops, true); err != nil {
		t.Errorf("write: %v", err)
	}
	g.Rest()
	if n := g.Inside(); n != 0 {
		t.Errorf("%d calls are inside, and the only one rests", n)
	}
	left := make(chan struct{})
	go func() { g.Close(); close(left) }()
	for !g.Closed() {
		runtime.Gosched()
	}
	g.Wake()
	if n := g.Inside(); n != 1 {
		t.Errorf("%d calls are inside, not 1", n)
	}
	select {
	case <-left:
		t.Error("Close did not wait for the call inside")
	default:
	}
	if err := g.Admit(remora.Read, ops, true); err != fs.ErrClosed {
		t.Errorf("after Close: %v", err)
	}
	g.Leave()
	<-left
	if g.Close() {
		t.Error("second Close says that it was the first")
	}
}

// fails is a Mover whose every move gives the same answer.
type fails struct {
	n   int
	err error
}

func (f fails) Move(context.Context, remora.Op, remora.Addr, []byte) (int, error) { return f.n, f.err }

// ahead is a Mover that counts the ranges it was to fetch ahead of those it moved.
type ahead struct {
	t              *testing.T
	fetched, moved int
}

func (a *ahead) Prefetch(segs []remora.Seg) {
	if len(segs) == 0 || len(segs) > PrefetchSegs || a.moved != a.fetched || int(segs[0].Addr) != a.fetched {
		a.t.Errorf("%d ranges from %v on fetched after %d of %d are moved", len(segs), segs[0].Addr, a.moved, a.fetched)
	}
	a.fetched += len(segs)
}

func (a *ahead) Move(_ context.Context, _ remora.Op, _ remora.Addr, buf []byte) (int, error) {
	a.moved++
	return len(buf), nil
}

func TestEachFetchesAhead(t *testing.T) {
	for _, it := range []struct {
		op         remora.Op
		segs, want int
	}{{remora.Read, 0, 0}, {remora.Read, 1, 0}, {remora.Read, 2, 2}, {remora.Read, 64, 64}, {remora.Read, 200, 200}, {remora.Write, 200, 0}} {
		m := &ahead{t: t}
		segs := make([]remora.Seg, it.segs)
		for i := range segs {
			segs[i] = remora.Seg{Addr: remora.Addr(i), Buf: make([]byte, 1)}
		}
		if n, err := Each(t.Context(), it.op, segs, m); int(n) != it.segs || err != nil || m.fetched != it.want {
			t.Errorf("%v of %d: %d bytes moved, %d ranges fetched, want %d, %v", it.op, it.segs, n, m.fetched, it.want, err)
		}
	}
}

func TestEachEndsWhenNothingMoves(t *testing.T) {
	segs := []remora.Seg{{Buf: make([]byte, 2)}}
	if n, err := Each(t.Context(), remora.Read, segs, fails{}); n != 0 || err != remora.ErrFault {
		t.Errorf("got %d, %v", n, err)
	}
}

func TestEachReportsTheContextWhenTheBackendGaveUp(t *testing.T) {
	for _, e := range []error{remora.ErrInDoubt, context.Canceled} {
		ctx := &clock{Context: t.Context(), left: 1}
		segs := []remora.Seg{{Buf: make([]byte, 2)}, {Buf: make([]byte, 2)}}
		n, err := Each(ctx, remora.Write, segs, fails{1, e})
		if n != 1 || err != context.Canceled || segs[0].Err != e || segs[1].Err != context.Canceled {
			t.Errorf("%v: got %d, %v, segments %v, %v", e, n, err, segs[0].Err, segs[1].Err)
		}
	}
}

func TestEachAllocates(t *testing.T) {
	r := &ram{mem: make([]byte, 100), bad: map[int]error{50: remora.ErrIO}}
	segs := []remora.Seg{{Addr: 40, Buf: make([]byte, 20)}, {Addr: remora.MaxAddr, Buf: make([]byte, 5)}}
	allocs(t, func() { r.Transfer(t.Context(), remora.Read, segs) })
}
