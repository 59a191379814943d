// SPDX-License-Identifier: Apache-2.0

package guest_test

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/guest"
	"github.com/remora-go/remora/internal/rsp/rsptest"
)

// reads gives the requests to read that came since the first n packets.
func reads(s *rsptest.Stub, n int) (all []string) {
	for _, r := range s.Said()[n:] {
		if strings.HasPrefix(r, "m") || strings.HasPrefix(r, "x") {
			all = append(all, r)
		}
	}
	return all
}

// TestStubScattered reads many words of physical memory with one call: the stub is asked for
// them alone, and for whole pages only when more of a page is read.
func TestStubScattered(t *testing.T) {
	const pages = 80
	s := ready()
	s.Physical[0].Data = stubFill(pages*stubPage, 3)
	p := dialled(t, s).PhysicalAt(&guest.StubRAM{Ranges: []remora.Range{{Start: stubLow, Size: pages * stubPage}}, How: "the test"})
	segs := make([]remora.Seg, 0, pages+2)
	for i := range pages {
		segs = append(segs, remora.Seg{Addr: stubLow + remora.Addr(i*stubPage+i*8), Buf: make([]byte, 8)})
	}
	segs = append(segs, remora.Seg{Addr: stubLow - 8, Buf: make([]byte, 8)}, remora.Seg{Addr: stubLow + pages*stubPage - 4, Buf: make([]byte, 8)})
	before := len(s.Said())
	n, err := p.Memory().ReadV(t.Context(), segs)
	if n != pages*8+4 || !errors.Is(err, remora.ErrHole) {
		t.Errorf("%d bytes, %v", n, err)
	}
	for i, g := range segs[:pages] {
		if g.N != 8 || !bytes.Equal(g.Buf, s.Physical[0].Data[i*stubPage+i*8:][:8]) {
			t.Errorf("word %d: %d bytes, %v, or other ones", i, g.N, g.Err)
		}
	}
	asked := reads(s, before)
	if i := slices.IndexFunc(asked, func(r string) bool { return !strings.HasSuffix(r, ",8") }); len(asked) < pages || i >= 0 && i < pages {
		t.Errorf("it was asked for %q", asked)
	}
	before = len(s.Said())
	for range 3 { // a page of which more is read
		if _, err := p.Memory().Uint64(t.Context(), stubLow+stubPage); err != nil {
			t.Error(err)
		}
	}
	asked = reads(s, before)
	if total := strings.Join(asked, " "); len(asked) > 2 || !strings.Contains(total, "101000,") {
		t.Errorf("a page that was read before was asked for so: %q", asked)
	}
}

// TestStubAheadStops reads nothing behind a fault where that was asked for.
func TestStubAheadStops(t *testing.T) {
	s := ready()
	v := dialled(t, s).Virtual()
	segs := []remora.Seg{{Addr: stubLow, Buf: make([]byte, 8)}, {Addr: stubLow - stubPage, Buf: make([]byte, 8)}, {Addr: stubLow + 16, Buf: make([]byte, 8)}}
	before := len(s.Said())
	if _, err := v.Memory().With(remora.StopAtFault).ReadV(t.Context(), segs); !errors.Is(err, remora.ErrUnmapped) || !errors.Is(segs[2].Err, remora.ErrStopped) {
		t.Errorf("%v, %v", err, segs[2].Err)
	}
	if asked := reads(s, before); slices.Contains(asked, "m100010,8") {
		t.Errorf("behind the fault it was asked for %q", asked)
	}
	if _, err := v.Memory().ReadV(t.Context(), segs); !errors.Is(err, remora.ErrUnmapped) || segs[0].N != 8 || segs[2].N != 8 || segs[2].Err != nil {
		t.Errorf("without that: %v, %v", err, segs[2].Err)
	}
}
