// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/memtest"
)

// atByte gives a field by hand.
func atByte(off uint64, size uint32) field { return field{off: off, size: size, there: true} }

// heap is memory of a kernel that a test writes by hand.
type heap struct {
	t     testing.TB
	space *memtest.Sparse
}

const heapBase = 0xffff888000000000

// newHeap gives size bytes of zeros at heapBase.
func newHeap(t testing.TB, size uint64) *heap {
	h := &heap{t, memtest.NewSparse(nil)}
	if err := h.space.Map(remora.Range{Start: heapBase, Size: size}, memtest.MapOptions{Perm: remora.PermRead | remora.PermWrite}); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *heap) bytes(a uint64, b []byte) {
	if err := h.space.Poke(b, remora.Addr(a)); err != nil {
		h.t.Fatal(err)
	}
}

// words writes words, one behind another.
func (h *heap) words(a uint64, words ...uint64) {
	var b []byte
	for _, w := range words {
		b = binary.LittleEndian.AppendUint64(b, w)
	}
	h.bytes(a, b)
}

// put writes a member of a structure.
func (h *heap) put(a uint64, f field, v uint64) {
	h.bytes(a+f.off, binary.LittleEndian.AppendUint64(nil, v)[:f.size])
}

// mapleLayout is that of a 64-bit kernel.
func mapleLayout() mapleFields {
	return mapleFields{
		root: atByte(8, 8), parent: atByte(0, 8),
		leaf:   mapleShape{atByte(8, 120), atByte(128, 128), atByte(248, 1)},
		arange: mapleShape{atByte(8, 72), atByte(80, 80), atByte(240, 1)},
	}
}

const (
	mapleTree = heapBase + 0x100
	mapleAt   = heapBase + 0x1000
)

// node writes the node at a: slots, and the last index of each but the last.
func (h *heap) node(a uint64, kind uint64, slots, pivots []uint64) uint64 {
	f := mapleLayout()
	shape := &f.leaf
	if kind == mapleArange64 {
		shape = &f.arange
	}
	h.words(a+shape.pivot.off, pivots...)
	h.words(a+shape.slot.off, slots...)
	if len(slots) < shape.slots() {
		h.put(a, shape.end, uint64(len(slots)-1))
	}
	return a | kind<<3 | 4
}

// collect gives the entries of the tree.
func (h *heap) collect() (all []mapleEntry, err error) {
	f := mapleLayout()
	err = f.entries(h.t.Context(), h.space, mapleTree, func(e mapleEntry) bool {
		all = append(all, e)
		return len(all) < 1000
	})
	return all, err
}

const top = ^uint64(0)

func TestMaple(t *testing.T) {
	h := newHeap(t, 1<<16)
	if all, err := h.collect(); err != nil || len(all) != 0 {
		t.Errorf("an empty tree: %v, %v", all, err)
	}
	h.words(mapleTree+8, heapBase+0x500)
	if all, err := h.collect(); err != nil || len(all) != 1 || all[0].value != heapBase+0x500 {
		t.Errorf("a tree of one entry: %v, %v", all, err)
	}
	// A full leaf has no room for a count: its last pivot is in use.
	full, pivots := make([]uint64, 16), make([]uint64, 15)
	for i := range full {
		full[i] = heapBase + 0x2000 + uint64(i)*0x100
		if i < 15 {
			pivots[i] = 0x100000 + uint64(i)*0x1000 - 1
		}
	}
	leaf1 := h.node(mapleAt, mapleLeaf64, []uint64{0, heapBase + 0x600, 0, heapBase + 0x700, 0x406}, []uint64{0xfff, 0x1fff, 0x2fff, 0x4fff})
	leaf2 := h.node(mapleAt+0x100, mapleLeaf64, full, pivots)
	root := h.node(mapleAt+0x200, mapleArange64, []uint64{leaf1, leaf2, 0}, []uint64{0xfffff - 0x1000, 0x10ffff})
	h.words(mapleTree+8, root|2)
	all, err := h.collect()
	if err != nil || len(all) != 18 {
		t.Fatalf("%d entries, %v", len(all), err)
	}
	for i, want := range []mapleEntry{{0x1000, 0x1fff, heapBase + 0x600}, {0x3000, 0x4fff, heapBase + 0x700}, {0xff000, 0xfffff, heapBase + 0x2000}, {0x100000, 0x100fff, heapBase + 0x2100}} {
		if all[i] != want {
			t.Errorf("entry %d: %x, want %x", i, all[i], want)
		}
	}
	if last := all[len(all)-1]; last.last != 0x10ffff {
		t.Errorf("the last entry: %x", last)
	}
}

func TestMapleThatIsDamaged(t *testing.T) {
	const entry = heapBase + 0x600
	for _, c := range []struct {
		name string
		make func(h *heap) uint64
		want error
		have int // entries before it
	}{
		{"a circle", func(h *heap) uint64 {
			self := uint64(mapleAt | mapleArange64<<3)
			return h.node(mapleAt, mapleArange64, []uint64{self, self}, []uint64{0xfff})
		}, remora.ErrCorrupt, 0},
		{"a node twice", func(h *heap) uint64 {
			leaf := h.node(mapleAt+0x100, mapleLeaf64, []uint64{entry, 0}, []uint64{0xfff})
			return h.node(mapleAt, mapleArange64, []uint64{leaf, leaf}, []uint64{0xffff})
		}, remora.ErrCorrupt, 1},
		{"pivots that go back", func(h *heap) uint64 {
			return h.node(mapleAt, mapleLeaf64, []uint64{entry, entry, 0}, []uint64{0xfff, 0x7ff})
		}, remora.ErrCorrupt, 1},
		{"a kind that there is not", func(h *heap) uint64 { return h.node(mapleAt, 9, []uint64{entry}, nil) }, remora.ErrCorrupt, 0},
		{"more slots than there are", func(h *heap) uint64 {
			at := h.node(mapleAt, mapleArange64, []uint64{entry}, nil)
			h.put(mapleAt, mapleLayout().arange.end, 200)
			return at
		}, remora.ErrCorrupt, 0},
		{"a dead node", func(h *heap) uint64 {
			at := h.node(mapleAt, mapleLeaf64, []uint64{entry}, nil)
			h.words(mapleAt, mapleAt)
			return at
		}, errDead, 0},
		{"memory that is not there", func(h *heap) uint64 {
			leaf := h.node(mapleAt+0x100, mapleLeaf64, []uint64{entry, 0}, []uint64{0xfff})
			return h.node(mapleAt, mapleArange64, []uint64{leaf, 0x4000<<8 | mapleLeaf64<<3}, []uint64{0xffff})
		}, remora.ErrUnmapped, 1},
		{"memory that is not there, and more behind it", func(h *heap) uint64 {
			leaf := h.node(mapleAt+0x100, mapleLeaf64, []uint64{entry, 0}, []uint64{0xfff})
			other := h.node(mapleAt+0x200, mapleLeaf64, []uint64{entry + 0x100}, nil)
			return h.node(mapleAt, mapleArange64, []uint64{leaf, 0x4000<<8 | mapleLeaf64<<3, other}, []uint64{0xffff, 0x1ffff})
		}, remora.ErrUnmapped, 2},
		{"a tower", func(h *heap) uint64 {
			for i := range uint64(64) {
				h.node(mapleAt+i*0x100, mapleArange64, []uint64{mapleAt + (i+1)*0x100 | mapleArange64<<3}, []uint64{top})
			}
			return mapleAt | mapleArange64<<3
		}, remora.ErrCorrupt, 0},
	} {
		h := newHeap(t, 1<<16)
		h.words(mapleTree+8, c.make(h)|2)
		if all, err := h.collect(); !errors.Is(err, c.want) || len(all) != c.have {
			t.Errorf("%s: %d entries, %v", c.name, len(all), err)
		}
	}
}

// A tree of any bytes ends, and its entries are in order.
func FuzzMaple(f *testing.F) {
	h := newHeap(f, 1<<13)
	leaf := h.node(mapleAt, mapleLeaf64, []uint64{heapBase, 0}, []uint64{0xfff})
	h.node(mapleAt+0x100, mapleArange64, []uint64{leaf, leaf}, []uint64{0xffff})
	seed := make([]byte, 0x400)
	if err := h.space.Peek(seed, mapleAt); err != nil {
		f.Fatal(err)
	}
	f.Add(uint64(mapleAt|0x100|mapleArange64<<3|2), seed)
	f.Add(uint64(mapleAt|mapleLeaf64<<3|2), seed)
	f.Fuzz(func(t *testing.T, root uint64, b []byte) {
		h := newHeap(t, 1<<13)
		h.words(mapleTree+8, root)
		h.bytes(mapleAt, b[:min(len(b), 0x800)])
		all, _ := h.collect()
		if !slices.IsSortedFunc(all, func(a, b mapleEntry) int {
			if a.last < b.first && a.first <= a.last {
				return -1
			}
			return 1
		}) {
			t.Errorf("%x", all)
		}
	})
}
