// SPDX-License-Identifier: Apache-2.0

package xfer

import (
	"bytes"
	"context"
	"testing"

	"github.com/remora-go/remora"
)

// ram is a lower space of len(mem) bytes from base on, some of which fault.
type ram struct {
	name  string
	base  remora.Addr
	mem   []byte
	bad   map[int]error // index of a byte that cannot be moved
	calls int
	limit int // most bytes a Move gives, without an error; 0: no limit
	gate  Gate
}

var _ remora.Space = (*ram)(nil)

func (r *ram) Info() remora.Info {
	return remora.Info{Name: r.name, Ops: remora.AllOps &^ remora.Write, Granule: 1, Last: remora.MaxAddr, Writable: true}
}

func (r *ram) Transfer(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
	if err := r.gate.Admit(op, remora.AllOps, true); err != nil {
		return Refuse(segs, err)
	}
	defer r.gate.Leave()
	return Each(ctx, op, segs, r)
}

func (r *ram) Move(_ context.Context, op remora.Op, a remora.Addr, buf []byte) (int, error) {
	r.calls++
	n, err := r.prefix(a, len(buf))
	if r.limit > 0 && n > r.limit {
		n, err = r.limit, nil
	}
	if n > 0 {
		r.copy(op, a, buf[:n])
	}
	return n, err
}

// prefix is how many of the size bytes at a can be moved, and why not more.
func (r *ram) prefix(a remora.Addr, size int) (int, error) {
	for i := range size {
		at := a + remora.Addr(i) - r.base
		if at >= remora.Addr(len(r.mem)) {
			return i, remora.ErrUnmapped
		}
		if err := r.bad[int(at)]; err != nil {
			return i, err
		}
	}
	return size, nil
}

func (r *ram) copy(op remora.Op, a remora.Addr, buf []byte) {
	if op&remora.Write != 0 {
		copy(r.mem[a-r.base:], buf)
	} else {
		copy(buf, r.mem[a-r.base:])
	}
}

// naive moves segs one byte at a time: byteAt gives where a byte is, or why it
// is not there.
func naive(op remora.Op, segs []remora.Seg, byteAt func(remora.Addr) (*byte, error)) {
	stopped := false
	for i := range segs {
		s := &segs[i]
		s.N, s.Err = 0, nil
		for s.N < len(s.Buf) && s.Err == nil {
			a := s.Addr + remora.Addr(s.N)
			var p *byte
			switch {
			case stopped:
				s.Err = remora.ErrStopped
			case a < s.Addr:
				s.Err = remora.ErrUnmapped
			default:
				p, s.Err = byteAt(a)
			}
			if s.Err != nil {
				continue
			}
			if op&remora.Write != 0 {
				*p = s.Buf[s.N]
			} else {
				s.Buf[s.N] = *p
			}
			s.N++
		}
		stopped = stopped || s.Err != nil && op&remora.StopAtFault != 0
	}
}

// same compares the results of a call with those of the model.
func same(t interface {
	Helper()
	Fatalf(string, ...any)
}, op remora.Op, got, want []remora.Seg, n int64, err error) {
	t.Helper()
	var sum int64
	var first error
	for i := range want {
		g, w := &got[i], &want[i]
		if g.N != w.N || g.Err != w.Err {
			t.Fatalf("%v: segment %d at %v of %d bytes: got %d, %v; want %d, %v", op, i, w.Addr, len(w.Buf), g.N, g.Err, w.N, w.Err)
		}
		if op&remora.Write == 0 && !bytes.Equal(g.Buf[:g.N], w.Buf[:w.N]) {
			t.Fatalf("%v: segment %d at %v: wrong bytes", op, i, w.Addr)
		}
		sum += int64(w.N)
		if first == nil {
			first = w.Err
		}
	}
	if n != sum || err != first {
		t.Fatalf("%v: got %d, %v; want %d, %v", op, n, err, sum, first)
	}
}

// twin copies segments with buffers of their own.
func twin(segs []remora.Seg) []remora.Seg {
	out := make([]remora.Seg, len(segs))
	for i, s := range segs {
		out[i] = remora.Seg{Addr: s.Addr, Buf: bytes.Clone(s.Buf)}
	}
	return out
}

// allocs fails the test if f allocates after warm-up.
func allocs(t *testing.T, f func()) {
	t.Helper()
	if raceEnabled {
		return // sync.Pool drops items at random under the race detector
	}
	f()
	if n := testing.AllocsPerRun(200, f); n != 0 {
		t.Errorf("%v allocations per call", n)
	}
}
