// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/memtest"
)

const (
	swapPagesAt = heapBase + 0x8000 // struct pages, from frame 0 on
	swapTableAt = heapBase + 0x2000
	swapClustAt = heapBase + 0x6000
	swapSpaceAt = heapBase + 0x7000
	swapZeroAt  = heapBase + 0x7800
	swapZswapAt = heapBase + 0x7900
)

// swapHeap is memory with a swap area of type 3 and 4096 pages, and some struct pages.
func swapHeap(t testing.TB) (*heap, *swapKnown) {
	h := newHeap(t, 1<<16)
	s := &swapKnown{phys: h.space, frames: &pageFrames{base: swapPagesAt, size: sizeofPage, shift: 12, limit: 512,
		mapping: atByte(24, 8), index: atByte(32, 8), private: atByte(40, 8), bytes: 48}}
	s.f = swapFields{pages: atByte(8, 8), xarray: xarrayLayout(), sizeofSpace: 64, sizeofXarray: 16}
	s.areas[3] = swapArea{SwapArea: SwapArea{Type: 3, Pages: 1 << 20}, used: true}
	return h, s
}

// folio says that a frame holds pages of the area from off on.
func (h *heap) folio(frame, area, off uint64) uint64 {
	h.words(swapPagesAt+frame*sizeofPage+40, area<<swapOffsetBits|off)
	return swapPagesAt + frame*sizeofPage
}

// found is what find said.
type found struct {
	state swapState
	phys  remora.Addr
	err   error
}

func (h *heap) find(s *swapKnown, area int, off uint64) found {
	p := peekInto(h.t.Context(), h.space)
	defer p.done()
	state, phys := s.find(p, area, off)
	return found{state, phys, p.err}
}

func TestSwapTable(t *testing.T) {
	h, s := swapHeap(t)
	s.f.clusters, s.f.table, s.f.sizeofCluster, s.f.perCluster = atByte(0, 8), atByte(8, 8), 48, 512
	s.areas[3].cluster = swapClustAt
	h.words(swapClustAt+8, swapTableAt)
	h.folio(9, 3, 4)
	h.folio(10, 3, 40)
	h.folio(11, 2, 7)
	const count = 1 << 60
	h.words(swapTableAt, ^uint64(7), count|5, count|1<<59|1, 0, count|9<<2|2, count|9<<2|2, count|1<<59|9<<2|2, count|11<<2|2, count|400<<2|2, 6, ^uint64(7))
	for off, want := range map[uint64]found{
		1:    {state: swapOut},
		2:    {state: swapZero},
		3:    {err: remora.ErrCorrupt}, // a free slot
		4:    {swapCached, 9 << 12, nil},
		5:    {swapCached, 10 << 12, nil}, // the second page of the folio
		6:    {swapCached, 11 << 12, nil}, // zeros or not, memory knows better
		7:    {err: remora.ErrCorrupt},    // of another area
		8:    {err: remora.ErrCorrupt},    // an empty struct page
		9:    {err: remora.ErrCorrupt},
		10:   {err: remora.ErrCorrupt}, // a bad slot
		512:  {err: remora.ErrCorrupt}, // an empty cluster
		0:    {err: remora.ErrCorrupt}, // the header
		top:  {err: remora.ErrCorrupt},
		9999: {err: remora.ErrUnmapped},
	} {
		if got := h.find(s, 3, off); got.state != want.state && want.err == nil || got.phys != want.phys && want.err == nil || got.err != want.err && off != 9999 || (got.err == nil) != (want.err == nil) {
			t.Errorf("page %d: %+v, want %+v", off, got, want)
		}
	}
	if got := h.find(s, 4, 1); got.err != remora.ErrCorrupt {
		t.Errorf("an area that there is not: %+v", got)
	}
}

// Tables of pointers, as 6.18 has them, beside a map of users and one of zeros.
func TestSwapTableOfPointers(t *testing.T) {
	h, s := swapHeap(t)
	s.f.clusters, s.f.table, s.f.sizeofCluster, s.f.perCluster = atByte(0, 8), atByte(8, 8), 48, 512
	s.f.swapMap, s.f.zeromap = atByte(80, 8), atByte(88, 8)
	s.areas[3].cluster, s.areas[3].mapped, s.areas[3].zeros = swapClustAt, true, swapZeroAt
	h.words(swapClustAt+8, swapTableAt)
	h.words(swapTableAt, 0, 0, 1<<59|1, 1<<59|1, h.folio(9, 3, 4))
	h.words(swapZeroAt, 1<<3)
	for off, want := range map[uint64]found{1: {state: swapOut}, 2: {state: swapOut}, 3: {state: swapZero}, 4: {state: swapCached, phys: 9 << 12}} {
		if got := h.find(s, 3, off); got != want {
			t.Errorf("page %d: %+v, want %+v", off, got, want)
		}
	}
	// The map of zeros in the cluster, within it or behind a pointer.
	s.f.swapMap, s.f.zeromap, s.f.zeroBits = field{}, field{}, atByte(16, 8)
	s.areas[3].zeros = 0
	h.words(swapClustAt+16, swapZeroAt)
	if got := h.find(s, 3, 3); got.state != swapZero {
		t.Errorf("a map of zeros behind a pointer: %+v", got)
	}
	s.f.zeroBits = atByte(16, 64)
	h.words(swapClustAt+16, 1<<2)
	if got := h.find(s, 3, 2); got.state != swapZero {
		t.Errorf("a map of zeros in the cluster: %+v", got)
	}
}

// The address spaces of kernels up to 6.17, with whole and with masked indices.
func TestSwapSpaces(t *testing.T) {
	h, s := swapHeap(t)
	a := &s.areas[3]
	a.spaces, a.zeros, a.zswap = swapSpaceAt, swapZeroAt, swapZswapAt
	node := uint64(heapBase + 0x1000)
	h.words(swapSpaceAt+64+8+8, h.xnode(node, 0, map[int]uint64{5: h.folio(9, 3, 1<<14|5), 6: 5<<1 | 1})) // the second space, masked
	whole := uint64(heapBase + 0x1800)
	high := h.xnode(whole+0x800, 0, map[int]uint64{3: h.folio(10, 3, 2<<14|2)})
	middle := h.xnode(whole+0x400, 6, map[int]uint64{0: high})
	h.words(swapSpaceAt+2*64+8+8, h.xnode(whole, 12, map[int]uint64{8: middle}))
	if got := h.find(s, 3, 1<<14|5); got != (found{swapCached, 9 << 12, nil}) {
		t.Errorf("a masked index: %+v", got)
	}
	if got := h.find(s, 3, 2<<14|3); got != (found{swapCached, 11 << 12, nil}) {
		t.Errorf("a whole index: %+v", got)
	}
	if got := h.find(s, 3, 1<<14|6); got != (found{state: swapOut}) {
		t.Errorf("a shadow: %+v", got)
	}
	h.words(swapZeroAt, 1<<7)
	if got := h.find(s, 3, 7); got != (found{state: swapZero}) {
		t.Errorf("zeros: %+v", got)
	}
	a.InRAM = true
	if got := h.find(s, 3, 8); got != (found{state: swapZram}) {
		t.Errorf("zram: %+v", got)
	}
}

// A page of the swap cache that was left out of the image is where the area has the same.
func TestSwapCacheThatWasLeftOut(t *testing.T) {
	h, s := swapHeap(t)
	a := &s.areas[3]
	a.spaces, a.zeros, a.zswap = swapSpaceAt, swapZeroAt, swapZswapAt
	const uptodate, cached, dirty, writeback = 1, 2, 4, 8
	s.written = pageFlags{atByte(0, 8), uptodate | cached, dirty | writeback}
	slots := map[int]uint64{}
	for i, flags := range []uint64{uptodate | cached, uptodate | cached, uptodate | cached | dirty, uptodate | cached | writeback, uptodate, uptodate | cached} {
		slots[i+1] = h.folio(uint64(9+i), 3, uint64(i+1))
		h.words(swapPagesAt+uint64(9+i)*sizeofPage, flags)
	}
	h.words(swapSpaceAt+8+8, h.xnode(heapBase+0x1000, 0, slots))
	h.words(swapZeroAt, 1<<2)
	h.words(swapZswapAt+8, h.xnode(heapBase+0x1800, 0, map[int]uint64{6: heapBase}))
	phys := memtest.NewSparse(nil)
	if err := phys.Map(remora.Range{Size: 1 << 20}, memtest.MapOptions{Perm: remora.PermRead}); err != nil {
		t.Fatal(err)
	}
	s.phys = phys
	for _, saved := range []bool{true, false} {
		for off, left := range map[uint64]swapState{1: swapLeft, 2: swapZero, 3: swapCached, 4: swapCached, 5: swapCached, 6: swapCached} {
			cause := remora.ErrNotSaved
			if saved {
				cause, left = 0, swapCached
			}
			phys.Inject(remora.Addr(8+off)<<12, remora.Read, cause)
			if got := h.find(s, 3, off); got.state != left || got.err != nil || got.state != swapZero && got.phys != remora.Addr(8+off)<<12 {
				t.Errorf("page %d, saved %v: %+v, want %d", off, saved, got, left)
			}
		}
	}
}

// The tree that zswap had before 6.8.
func TestSwapZswapTree(t *testing.T) {
	h, s := swapHeap(t)
	a := &s.areas[3]
	a.spaces, a.zswap, a.rbtree = swapSpaceAt, swapZswapAt, true
	s.f.rbRoot, s.f.rbNode, s.f.rbRight, s.f.rbLeft, s.f.entry = atByte(0, 8), atByte(0, 24), atByte(8, 8), atByte(16, 8), atByte(24, 8)
	n := func(i uint64) uint64 { return heapBase + 0x1000 + 64*i }
	h.words(swapZswapAt, n(0))
	h.words(n(0), 0, n(2), n(1), 20)
	h.words(n(1), 0, 0, 0, 3<<swapOffsetBits|10)
	h.words(n(2), 0, n(2), 0, 30)
	for off, want := range map[uint64]swapState{10: swapZswap, 20: swapZswap, 30: swapZswap, 9: swapOut, 21: swapOut} {
		if got := h.find(s, 3, off); got.state != want || got.err != nil {
			t.Errorf("page %d: %+v", off, got)
		}
	}
	if got := h.find(s, 3, 31); got.err != remora.ErrCorrupt {
		t.Errorf("a circle: %+v", got)
	}
}

func TestSwapFileHeader(t *testing.T) {
	good := func() []byte {
		b := make([]byte, 8*4096)
		binary.LittleEndian.PutUint32(b[swapInfoAt:], 1)
		binary.LittleEndian.PutUint32(b[swapInfoAt+4:], 7)
		copy(b[4096-10:], swapMagic)
		return b
	}
	areas := []SwapArea{{Type: 0, Path: "/dev/vdb", Pages: 8}, {Type: 2, Path: "/swap", Pages: 16}, {Type: 3, Path: "/more", Pages: 16}}
	for _, c := range []struct {
		name   string
		change func(b []byte) []byte
		kind   int
		want   string // part of the error
		area   int
	}{
		{"that fits", func(b []byte) []byte { return b }, -1, "", 0},
		{"named", func(b []byte) []byte { return b }, 0, "", 0},
		{"short", func(b []byte) []byte { return b[:100] }, -1, "cut off", 0},
		{"no magic", func(b []byte) []byte { b[4096-1]++; return b }, -1, "want SWAPSPACE2", 0},
		{"of another order", func(b []byte) []byte { binary.BigEndian.PutUint32(b[swapInfoAt:], 1); return b }, -1, "want version 1", 0},
		{"of another size", func(b []byte) []byte { b[swapInfoAt+4]++; return b }, 0, `it has 9 pages, and swap area 0 ("/dev/vdb") has 8`, 0},
		{"of none", func(b []byte) []byte { b[swapInfoAt+4]++; return b }, -1, "it has 9 pages, and the swap areas that are in use are", 0},
		{"of two", func(b []byte) []byte { b[swapInfoAt+4] = 15; return b }, -1, "2 swap areas have 16 pages; say which", 0},
		{"of an area that is not in use", func(b []byte) []byte { return b }, 1, "no swap area 1 in use", 0},
	} {
		b := c.change(good())
		f := &SwapFile{Type: c.kind, R: bytes.NewReader(b), Size: int64(len(b)), Name: "swap"}
		h, err := readSwapHeader(f, 4096)
		var a *SwapArea
		if err == nil {
			a, err = f.area(areas, h)
		}
		switch {
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		case c.want == "" && (err != nil || a.Type != c.area):
			t.Errorf("%s: %+v, %v", c.name, a, err)
		}
	}
}

func TestSwapFileThatIsCutOff(t *testing.T) {
	s := &swapSpace{file: &SwapFile{R: bytes.NewReader(make([]byte, 5000)), Size: 5000}, info: remora.Info{Ops: remora.StopAtFault, Last: 4999}}
	seg := []remora.Seg{{Addr: 4096, Buf: make([]byte, 4096)}, {Addr: 9000, Buf: make([]byte, 1)}}
	_, _ = s.Transfer(t.Context(), remora.Read, seg) // it is in the segments
	if seg[0].N != 904 || seg[0].Err != remora.ErrTruncated || seg[1].Err != remora.ErrTruncated {
		t.Errorf("%+v", seg)
	}
	s.file.R = failing{}
	_, _ = s.Transfer(t.Context(), remora.Read, seg)
	if seg[0].Err != remora.ErrIO {
		t.Errorf("%+v", seg[0])
	}
}

type failing struct{}

func (failing) ReadAt([]byte, int64) (int, error) { return 0, errors.New("broken") }

var _ io.ReaderAt = failing{}

// A header of any bytes is taken or refused.
func FuzzSwapHeader(f *testing.F) {
	b := make([]byte, 4096)
	binary.LittleEndian.PutUint32(b[swapInfoAt:], 1)
	copy(b[4096-10:], swapMagic)
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := readSwapHeader(&SwapFile{R: bytes.NewReader(b), Size: int64(len(b)), Name: "fuzz"}, 4096)
		if (err == nil) != (h != nil) || err == nil && len(b) < 4096 {
			t.Errorf("%+v, %v", h, err)
		}
	})
}
