// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"testing"

	"github.com/remora-go/remora"
)

func xarrayLayout() xarrayFields {
	return xarrayFields{head: atByte(8, 8), shift: atByte(0, 1), slots: atByte(40, 512)}
}

const (
	xarrayAt   = heapBase + 0x200
	xarrayNode = heapBase + 0x4000
)

// xnode writes a node of an xarray, and gives the entry that leads to it.
func (h *heap) xnode(a, shift uint64, slots map[int]uint64) uint64 {
	x := xarrayLayout()
	h.put(a, x.shift, shift)
	for i, v := range slots {
		h.words(a+x.slots.off+uint64(8*i), v)
	}
	return a | 2
}

func TestXarray(t *testing.T) {
	h := newHeap(t, 1<<16)
	sibling := func(i uint64) uint64 { return i<<2 | 2 }
	leaf := h.xnode(xarrayNode, 0, map[int]uint64{0: heapBase, 1: 7<<1 | 1, 8: heapBase + 0x40, 9: sibling(8), 10: sibling(8), 63: 257<<2 | 2})
	large := h.xnode(xarrayNode+0x800, 6, map[int]uint64{0: leaf, 4: heapBase + 0x80, 5: sibling(4)})
	for _, c := range []struct {
		name               string
		head, index        uint64
		entry, first, want uint64
	}{
		{"nothing", 0, 0, 0, 0, 0},
		{"one entry", heapBase, 0, heapBase, 0, 0},
		{"one entry, behind it", heapBase, 1, 0, 1, 0},
		{"a leaf", leaf, 0, heapBase, 0, 0},
		{"a value", leaf, 1, 15, 1, 0},
		{"an empty slot", leaf, 2, 0, 2, 0},
		{"beyond", leaf, 64, 0, 64, 0},
		{"far beyond", leaf, top, 0, top, 0},
		{"several slots, the first", leaf, 8, heapBase + 0x40, 8, 0},
		{"several slots, another", leaf, 10, heapBase + 0x40, 8, 0},
		{"a reserved slot", leaf, 63, 0, 63, 0},
		{"two levels", large, 9, heapBase + 0x40, 8, 0},
		{"a large entry", large, 4<<6 + 5, heapBase + 0x80, 4 << 6, 0},
		{"a large entry of two slots", large, 5<<6 + 5, heapBase + 0x80, 4 << 6, 0},
	} {
		h.words(xarrayAt+8, c.head)
		x, p := xarrayLayout(), peekInto(t.Context(), h.space)
		entry, first := x.find(p, xarrayAt, c.index)
		if p.err != nil || entry != c.entry || first != c.first {
			t.Errorf("%s: %#x from %d, %v; want %#x from %d", c.name, entry, first, p.err, c.entry, c.first)
		}
		p.done()
	}
}

func TestXarrayThatIsDamaged(t *testing.T) {
	for _, c := range []struct {
		name string
		make func(h *heap) uint64
		want error
	}{
		{"a circle", func(h *heap) uint64 { return h.xnode(xarrayNode, 0, map[int]uint64{0: xarrayNode | 2}) }, remora.ErrCorrupt},
		{"a node no lower", func(h *heap) uint64 {
			return h.xnode(xarrayNode, 6, map[int]uint64{0: h.xnode(xarrayNode+0x800, 6, nil)})
		}, remora.ErrCorrupt},
		{"a sibling of a sibling", func(h *heap) uint64 { return h.xnode(xarrayNode, 0, map[int]uint64{0: 1<<2 | 2, 1: 2}) }, remora.ErrCorrupt},
		{"a sibling behind it", func(h *heap) uint64 { return h.xnode(xarrayNode, 0, map[int]uint64{0: 5<<2 | 2, 5: heapBase}) }, remora.ErrCorrupt},
		{"a shift beyond a word", func(h *heap) uint64 { return h.xnode(xarrayNode, 200, nil) }, remora.ErrCorrupt},
		{"memory that is not there", func(*heap) uint64 { return 0xffff000000000002 }, remora.ErrUnmapped},
	} {
		h := newHeap(t, 1<<16)
		h.words(xarrayAt+8, c.make(h))
		x, p := xarrayLayout(), peekInto(t.Context(), h.space)
		if entry, _ := x.find(p, xarrayAt, 0); !errors.Is(p.err, c.want) || entry != 0 {
			t.Errorf("%s: %#x, %v", c.name, entry, p.err)
		}
		p.done()
	}
}

func FuzzXarray(f *testing.F) {
	f.Add(uint64(xarrayNode|2), uint64(3), []byte{6, 0, 0, 0, 0, 0, 0, 0, 2})
	f.Fuzz(func(t *testing.T, head, index uint64, b []byte) {
		h := newHeap(t, 1<<15)
		h.words(xarrayAt+8, head)
		h.bytes(xarrayNode, b[:min(len(b), 0x2000)])
		x, p := xarrayLayout(), peekInto(t.Context(), h.space)
		defer p.done()
		if entry, first := x.find(p, xarrayAt, index); first > index || p.err != nil && entry != 0 {
			t.Errorf("%#x from %d, %v", entry, first, p.err)
		}
	})
}
