// SPDX-License-Identifier: Apache-2.0

package memtest

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/remora-go/remora"
)

// Pin reaches as far as a transfer of the same range does, and leaves behind what a load or a
// store in each page leaves.
func TestPinIsATransferOfNothing(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	short := 0
	for seed := range uint64(15) {
		sample := NewSample(seed).Sparse
		for range 12 {
			s := sample.Clone()
			regions := s.maps
			m := regions[rnd.IntN(len(regions))]
			r := remora.Range{Start: m.first + remora.Addr(rnd.Uint64N(m.size())), Size: 1 + rnd.Uint64N(3*uint64(s.opt.PageSize))}
			op := remora.Read
			if rnd.IntN(2) == 0 {
				op = remora.Write
			}
			if rnd.IntN(4) == 0 {
				op |= remora.Force
			}
			twin := s.Clone()
			got, err := s.Pin(t.Context(), op, r)
			segs := []remora.Seg{{Addr: r.Start, Buf: make([]byte, r.Size)}}
			if op&remora.Write != 0 { // what is written is what is there
				for i := range segs[0].Buf {
					if twin.Peek(segs[0].Buf[i:i+1], r.Start+remora.Addr(i)) != nil {
						break
					}
				}
			}
			twin.Transfer(t.Context(), op, segs)
			if got != uint64(segs[0].N) || !errors.Is(err, segs[0].Err) && err != segs[0].Err {
				t.Fatalf("seed %d: Pin %v of %v gives %d and %v, a transfer %d and %v", seed, op, r, got, err, segs[0].N, segs[0].Err)
			}
			if diff := s.Diff(twin); diff != "" {
				t.Fatalf("seed %d: Pin %v of %v: not what a transfer leaves:\n%s", seed, op, r, diff)
			}
			if err != nil {
				short++
			}
		}
	}
	if short < 20 {
		t.Errorf("only %d cases ended early", short)
	}
}

// What MoveFrom moves is what a read and a write would have, and what it does not move it leaves
// alone.
func TestMoveFromIsAReadAndAWrite(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	whole, some, none := 0, 0, 0
	for seed := range uint64(20) {
		to, from := NewSample(seed).Sparse, NewSample(seed+1).Sparse
		pick := func(s *Sparse) remora.Addr {
			m := s.maps[rnd.IntN(len(s.maps))]
			return m.first + remora.Addr(rnd.Uint64N(m.size()))
		}
		for range 12 {
			s, src := to.Clone(), from.Clone()
			a, b, n := pick(s), pick(src), 1+rnd.IntN(1500)
			if rnd.IntN(4) > 0 { // memory of its own, in a row
				src.Poke(bytes.Repeat([]byte{7}, 5*4096), b)
			}
			twin := s.Clone()
			moved := s.MoveFrom(t.Context(), a, src, b, uint64(n))
			data := make([]byte, n)
			read := []remora.Seg{{Addr: b, Buf: data}}
			src.Transfer(t.Context(), remora.Read, read)
			if moved > uint64(read[0].N) {
				t.Fatalf("seed %d: %d bytes moved from %v, of %d that can be read", seed, moved, b, read[0].N)
			}
			write := []remora.Seg{{Addr: a, Buf: data[:moved]}}
			twin.Transfer(t.Context(), remora.Write, write)
			if write[0].Err != nil {
				t.Fatalf("seed %d: %d bytes moved to %v: %v", seed, moved, a, write[0].Err)
			}
			if diff := s.Diff(twin); diff != "" {
				t.Fatalf("seed %d: from %v to %v, %d of %d:\n%s", seed, b, a, moved, n, diff)
			}
			switch moved {
			case uint64(n):
				whole++
			case 0:
				none++
			default:
				some++
			}
		}
	}
	if whole < 5 || some < 5 || none < 5 {
		t.Errorf("moved all %d times, some %d, none %d: too few of each", whole, some, none)
	}
	s := NewSample(0).Sparse
	if s.MoveFrom(t.Context(), 0, s, 0, 1) != 0 || s.MoveFrom(t.Context(), 0, s.Memory(), 0, 1) != 0 {
		t.Error("it moved from itself, or from what is no Sparse")
	}
}
