// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"

	"github.com/remora-go/remora"
)

// swapState is where a page is that page tables have as swapped out.
type swapState uint8

const (
	swapUnknown swapState = iota // see the error
	swapCached                   // still, or again, in memory
	swapLeft                     // the same, but the image does not have it, and the area does
	swapZero                     // zeros, which were never written
	swapZswap                    // packed, in memory
	swapZram                     // packed, in memory, in the area itself
	swapOut                      // in the area
)

const (
	swapOffsetBits  = 58      // of a swp_entry_t, below the type (SWP_TYPE_SHIFT)
	swapSpaceShift  = 14      // pages of one struct address_space (SWAP_ADDRESS_SPACE_SHIFT)
	swapFolio       = 1 << 12 // more pages than a folio has in a swap area
	swapZeroFlag    = 1 << 59 // of an entry of a table, 7.2
	swapCountMask   = 0x1f << 59
	swapBad         = ^uint64(4095) // from here on: SWP_TB_BAD, and errors
	swapZswapLevels = 96
)

// swapEntry takes a swp_entry_t apart.
func swapEntry(v uint64) (area int, off uint64) {
	return int(v >> swapOffsetBits & (swapTypes - 1)), v & (1<<swapOffsetBits - 1)
}

// find says where a page of an area is, in the order in which the kernel itself looks
// (do_swap_page in mm/memory.c, swap_read_folio in mm/page_io.c): memory knows better
// than the area, which may never have been written. phys is for swapCached and swapLeft.
func (s *swapKnown) find(p *peek, area int, off uint64) (state swapState, phys remora.Addr) {
	if area >= swapTypes || !s.areas[area].used || off == 0 || off >= s.areas[area].Pages {
		p.err = remora.ErrCorrupt
		return swapUnknown, 0
	}
	a := &s.areas[area]
	var page remora.Addr
	if s.f.table.has() {
		state, page, phys = s.inTable(p, a, off)
	} else {
		state, page, phys = s.inSpaces(p, a, off)
	}
	kept := state == swapCached
	switch {
	case p.err != nil:
		return swapUnknown, 0
	case state == swapZero || kept && !(s.clean(p, page) && s.leftOut(p, phys)):
		return state, phys
	}
	if s.zeroed(p, a, off) && p.err == nil {
		return swapZero, 0
	}
	packed := s.packed(p, a, off)
	switch {
	case p.err != nil:
		return swapUnknown, 0
	case kept && (packed || a.InRAM || a.blind):
		return swapCached, phys
	case kept:
		return swapLeft, phys
	case a.blind:
		p.err = errZswap
		return swapUnknown, 0
	case packed:
		return swapZswap, 0
	case a.InRAM:
		return swapZram, 0
	}
	return swapOut, 0
}

// clean says whether a page of the swap cache is as it is in the area: it was written there,
// and not changed since.
func (s *swapKnown) clean(p *peek, page remora.Addr) bool {
	f := &s.written
	if !f.at.has() {
		return false
	}
	flags := p.uint(page, f.at)
	return p.err == nil && flags&f.with == f.with && flags&f.without == 0
}

// leftOut says whether a page was left out of the image.
func (s *swapKnown) leftOut(p *peek, phys remora.Addr) bool {
	l := looks.Get().(*look)
	l.seg[0] = remora.Seg{Addr: phys, Buf: l.byte[:]}
	_, _ = s.phys.Transfer(p.ctx, remora.Read, l.seg[:]) // it is in the segment
	out := errors.Is(l.seg[0].Err, remora.ErrNotSaved)
	looks.Put(l)
	return out
}

// inSpaces looks in the swap cache of kernels up to 6.17: address spaces for 64 MiB each.
// Their indices are the whole offset before 6.11, and what is left of it after: only one
// of them can be there.
func (s *swapKnown) inSpaces(p *peek, a *swapArea, off uint64) (swapState, remora.Addr, remora.Addr) {
	if a.spaces == 0 {
		p.err = remora.ErrCorrupt
		return swapUnknown, 0, 0
	}
	pages := a.spaces + remora.Addr(off>>swapSpaceShift*s.f.sizeofSpace+s.f.pages.off)
	entry, _ := s.f.xarray.find(p, pages, off)
	if masked := off & (1<<swapSpaceShift - 1); entry == 0 && masked != off && p.err == nil {
		entry, _ = s.f.xarray.find(p, pages, masked)
	}
	if p.err != nil || entry == 0 || entry&1 != 0 { // a value is the shadow of what was there
		return swapOut, 0, 0
	}
	return s.cached(p, a, remora.Addr(entry), off)
}

// cached gives the memory of a page of an area, which is in the folio of a struct page.
func (s *swapKnown) cached(p *peek, a *swapArea, page remora.Addr, off uint64) (swapState, remora.Addr, remora.Addr) {
	_, _, private := s.frames.head(p, page)
	area, first := swapEntry(private)
	phys, ok := s.frames.phys(page, off-first)
	if p.err == nil && (!ok || area != a.Type || off-first >= swapFolio) {
		p.err = remora.ErrCorrupt
	}
	return swapCached, page, phys
}

// inTable looks in the swap table that kernels have from 6.18 on.
func (s *swapKnown) inTable(p *peek, a *swapArea, off uint64) (swapState, remora.Addr, remora.Addr) {
	ci := a.cluster + remora.Addr(off/s.f.perCluster*s.f.sizeofCluster)
	i := off % s.f.perCluster
	table := remora.Addr(p.uint(ci, s.f.table))
	if table == 0 { // an empty cluster
		return s.free(p, a)
	}
	v := p.word(table + remora.Addr(8*i))
	switch {
	case p.err != nil:
		return swapUnknown, 0, 0
	case v == 0:
		return s.free(p, a)
	case v >= swapBad:
		p.err = remora.ErrCorrupt
		return swapUnknown, 0, 0
	case v&1 != 0: // a shadow
		if s.flagged() && v&swapZeroFlag != 0 {
			return swapZero, 0, 0
		}
	case v&3 == 2: // a frame number, from 7.0 on
		page := s.frames.page(v &^ swapCountMask >> 2)
		state, _, phys := s.cached(p, a, page, off)
		if s.flagged() && v&swapZeroFlag != 0 && s.leftOut(p, phys) {
			return swapZero, 0, 0
		}
		return state, page, phys
	case v&7 == 0: // a pointer
		return s.cached(p, a, remora.Addr(v), off)
	default:
		p.err = remora.ErrCorrupt
	}
	return swapOut, 0, 0
}

// flagged says whether a bit of the entries tells that a page is of zeros. Before, it was a
// part of the shadow.
func (s *swapKnown) flagged() bool {
	return !s.f.swapMap.has() && !s.f.zeromap.has() && !s.f.zeroBits.has()
}

// free is what a slot says that has nothing: that the page is in the area, where another
// map counts its users, else nonsense.
func (s *swapKnown) free(p *peek, a *swapArea) (swapState, remora.Addr, remora.Addr) {
	if !a.mapped && p.err == nil {
		p.err = remora.ErrCorrupt
	}
	return swapOut, 0, 0
}

// zeroed says whether a page was all zeros when it was swapped out, which is noted and not
// written: in a bitmap of the area from 6.12 on, later in one of the cluster.
func (s *swapKnown) zeroed(p *peek, a *swapArea, off uint64) bool {
	bits := a.zeros
	if s.f.table.has() && s.f.zeroBits.has() {
		ci := a.cluster + remora.Addr(off/s.f.perCluster*s.f.sizeofCluster)
		off %= s.f.perCluster
		if bits = ci + remora.Addr(s.f.zeroBits.off); s.f.zeroBits.size == 8 { // a pointer to it
			bits = remora.Addr(p.uint(ci, s.f.zeroBits))
		}
	}
	if bits == 0 {
		return false
	}
	return p.word(bits+remora.Addr(off/64*8))>>(off%64)&1 != 0
}

// packed says whether zswap has a page.
func (s *swapKnown) packed(p *peek, a *swapArea, off uint64) bool {
	switch {
	case a.zswap == 0:
		return false
	case a.rbtree:
		return s.packedTree(p, a, off)
	}
	entry, _ := s.f.xarray.find(p, a.zswap+remora.Addr(off>>swapSpaceShift*s.f.sizeofXarray), off)
	return entry != 0
}

// packedTree looks in the tree that zswap had before 6.8.
func (s *swapKnown) packedTree(p *peek, a *swapArea, off uint64) bool {
	f := &s.f
	if !f.rbNode.has() || !f.entry.has() {
		p.err = remora.ErrNotPresent
		return false
	}
	node := remora.Addr(p.word(a.zswap + remora.Addr(f.rbRoot.off)))
	for range swapZswapLevels {
		if node == 0 || p.err != nil {
			return false
		}
		_, at := swapEntry(p.uint(node-remora.Addr(f.rbNode.off), f.entry))
		switch {
		case at == off:
			return true
		case at > off:
			node = remora.Addr(p.uint(node, f.rbLeft))
		default:
			node = remora.Addr(p.uint(node, f.rbRight))
		}
	}
	p.err = remora.ErrCorrupt
	return false
}
