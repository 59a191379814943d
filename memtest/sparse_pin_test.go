// SPDX-License-Identifier: Apache-2.0

package memtest

import (
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
	for seed := range uint64(40) {
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
	if short < 50 {
		t.Errorf("only %d cases ended early", short)
	}
}
