// SPDX-License-Identifier: Apache-2.0

package xfer

import (
	"bytes"
	"context"
	"math/bits"
	"testing"

	"pgregory.net/rapid"

	"github.com/remora-go/remora"
)

// block moves all or nothing. A read that fails spoils the buffer; a write that
// fails changes the granules before the one it failed in.
type block struct {
	*ram
	granule int
	calls   int
}

func (b *block) Whole(_ context.Context, op remora.Op, a remora.Addr, buf []byte) error {
	b.calls++
	n, err := b.prefix(a, len(buf))
	if err == nil {
		b.copy(op, a, buf)
		return nil
	}
	if op&remora.Write == 0 {
		clear(buf)
	} else if n -= min(n, int((uint64(a)+uint64(n))%uint64(b.granule))); n > 0 {
		b.copy(op, a, buf[:n])
	}
	return err
}

func TestRetreatAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const size = 320
		g := rapid.SampledFrom([]int{1, 8, 16, 64}).Draw(t, "granule")
		r, model := drawRAM(t, "ram", size)
		if uint64(r.base)%uint64(g) != 0 {
			r.base, model.base = 0x1000, 0x1000
		}
		for i, err := range r.bad { // a granule is bad as a whole
			for j := range g {
				r.bad[i-i%g+j] = err
			}
		}
		for i := range r.bad { // and for one reason
			r.bad[i] = r.bad[i-i%g]
		}
		b := &block{ram: r, granule: g}
		retreat := &Retreat{Whole: b, Granule: uint32(g)}
		for range 4 {
			op := drawOp(t)
			segs := drawSegs(t, r.base, size, 200)
			want := twin(segs)
			n, err := Each(t.Context(), op, segs, retreat)
			naive(op, want, model.byteAt)
			same(t, op, segs, want, n, err)
			if !bytes.Equal(r.mem, model.mem) {
				t.Fatalf("%v: the memory differs", op)
			}
		}
	})
}

func TestRetreatHalves(t *testing.T) {
	const granules = 256
	b := &block{ram: &ram{mem: make([]byte, granules*4096), bad: map[int]error{}}, granule: 4096}
	for i := range 4096 {
		b.bad[100*4096+i] = remora.ErrNotPresent
	}
	segs := []remora.Seg{{Buf: make([]byte, granules*4096)}}
	n, err := Each(t.Context(), remora.Read, segs, &Retreat{Whole: b, Granule: 4096})
	if n != 100*4096 || err != remora.ErrNotPresent {
		t.Errorf("got %d, %v", n, err)
	}
	if most := bits.Len(granules) + 1; b.calls > most {
		t.Errorf("%d calls, want at most %d", b.calls, most)
	}
}

func TestRetreatStopsAtWhatIsNoFault(t *testing.T) {
	b := &block{ram: &ram{mem: make([]byte, 4096), bad: map[int]error{4000: remora.ErrGone}}, granule: 16}
	segs := []remora.Seg{{Buf: make([]byte, 4096)}}
	n, err := Each(t.Context(), remora.Read, segs, &Retreat{Whole: b, Granule: 16})
	if n != 0 || err != remora.ErrGone || b.calls != 1 {
		t.Errorf("got %d, %v after %d calls", n, err, b.calls)
	}
}
