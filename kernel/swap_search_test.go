// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"testing"

	"github.com/remora-go/remora"
)

const (
	searchInfo   = heapBase + 0x400 // the kernel's arrays
	searchSpaces = heapBase + 0x800
	searchArea   = heapBase + 0x2000 // areas, 0x100 bytes each
	searchSpace  = heapBase + 0x3000 // address spaces, likewise
	searchOps    = heapBase + 0x4000
	searchUsers  = heapBase + 0x5000
	swapWritten  = 0xffffffff81234560 // swap_writepage
)

// searched makes memory with areas 0 and 2, and gives what searches it.
func searched(t *testing.T) (*heap, *swapSearch) {
	h := newHeap(t, 1<<16)
	s := &swapSearch{f: &swapFields{flags: atByte(0, 8), typ: atByte(8, 1), max: atByte(16, 4), room: atByte(20, 4), file: atByte(24, 8), swapMap: atByte(32, 8)},
		p: peekInto(t.Context(), h.space), write: swapWritten, host: atByte(0, 8), aops: atByte(16, 8), writeOff: atByte(8, 8)}
	t.Cleanup(s.p.done)
	h.words(searchOps+8, swapWritten)
	h.bytes(searchUsers, []byte{0x3f})
	for _, i := range []uint64{0, 2} {
		h.words(searchInfo+8*i, searchArea+0x100*i)
		h.words(searchArea+0x100*i, 3, i, 0x0fff00001000, heapBase, searchUsers)
		h.words(searchSpaces+8*i, searchSpace+0x100*i)
		h.words(searchSpace+0x100*i, 0, 0, searchOps)
	}
	return h, s
}

// search goes through the memory as through the image of a kernel.
func (h *heap) search(s *swapSearch) (swapRoots, error) {
	b := make([]byte, 1<<12)
	if err := h.space.Peek(b, heapBase); err != nil {
		h.t.Fatal(err)
	}
	s.look(heapBase, b)
	return s.choose()
}

func TestSwapSearch(t *testing.T) {
	h, s := searched(t)
	h.words(heapBase+0x600, searchArea)       // another pointer to an area, which is alone
	h.words(heapBase+0x608, 0x1234)           // as this is no pointer
	h.words(heapBase+0xa00, searchSpace+0x80) // a pointer to something else
	want := swapRoots{info: searchInfo, count: 3, spaces: searchSpaces}
	if r, err := h.search(s); err != nil || r != want {
		t.Errorf("%+v, %v, want %+v", r, err, want)
	}
}

func TestSwapSearchThatFails(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(h *heap)
	}{
		{"no area in use", func(h *heap) { h.words(searchArea, 0); h.words(searchArea+0x200, 0) }},
		{"areas that are of other types", func(h *heap) { h.words(searchArea+8, 5); h.words(searchArea+0x208, 9) }},
		{"no map of users", func(h *heap) { h.bytes(searchUsers, []byte{0}) }},
		{"two arrays", func(h *heap) {
			h.words(heapBase+0xc00, searchArea+0x400)
			h.words(searchArea+0x400, 3, 0, 0x0fff00001000, heapBase, searchUsers)
		}},
		{"no swap cache", func(h *heap) { h.words(searchOps+8, 0) }},
		{"two of them", func(h *heap) { h.words(heapBase+0xd00, searchSpace, 0, searchSpace+0x200) }},
	} {
		h, s := searched(t)
		c.change(h)
		if r, err := h.search(s); !errors.Is(err, remora.ErrUnrecognized) {
			t.Errorf("%s: %+v, %v", c.name, r, err)
		}
	}
}
