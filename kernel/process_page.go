// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/paging"
)

// pager is the Translator of a process: the page tables, and behind them all places where
// the kernel keeps what they have no memory for.
type pager struct {
	k      *Kernel
	tables *paging.Tables
	format *paging.Format
	shift  uint
	xarray xarrayFields
	files  *[swapTypes]*swapSpace

	mm   remora.Addr
	kept atomic.Pointer[mappings]
	turn atomic.Uint64 // counts the calls that want mappings of their own time
	mu   sync.Mutex    // of listing them

	zeros  *standIn // what was never written
	cached *standIn // memory that the page tables do not lead to
}

var (
	_ remora.Translator = (*pager)(nil)
	_ remora.Explainer  = (*pager)(nil)
)

// Unwrap gives the page tables.
func (t *pager) Unwrap() any { return t.tables }

// whereabouts is where a page is.
type whereabouts uint8

const (
	nowhere     whereabouts = iota // nothing is mapped
	inTables                       // the page tables have it, or say what it is
	inSwapCache                    // swapped out, and still or again in memory
	inSwapZero                     // swapped out as zeros
	inZswap
	inZram
	inArea      // in a swap area
	inPageCache // of the file
	inFileHole  // of a file in memory: zeros
	untouched   // of an anonymous mapping: zeros
	notInCache  // of a file
	beyondFile
	notMade  // of a mapping whose pages are made by a driver, or by the kernel
	notKnown // what there is to know is missing: see the error
)

// pagePlace is all that was found out about a page.
type pagePlace struct {
	where whereabouts
	area  int // of what was swapped out
	off   uint64
	vma   *VMA
	err   error // notKnown
}

// Translate gives the run of addresses around va that share one fate, as the page tables
// have it, or where else the page is: one page then.
func (t *pager) Translate(ctx context.Context, va remora.Addr) remora.Extent {
	e, _ := t.page(ctx, va)
	return e
}

// page is Translate, and says where the page is.
func (t *pager) page(ctx context.Context, va remora.Addr) (remora.Extent, pagePlace) {
	e := t.tables.Translate(ctx, va)
	if e.Err != remora.ErrUnmapped && e.Err != remora.ErrNotPresent {
		return e, pagePlace{where: inTables}
	}
	return t.behind(ctx, va, e)
}

// behind looks for a page that the page tables do not have.
func (t *pager) behind(ctx context.Context, va remora.Addr, e remora.Extent) (remora.Extent, pagePlace) {
	m := t.mappings(ctx)
	v, gap := m.at(va)
	if v == nil {
		if e = clip(e, gap); m.bad != nil && e.Err == remora.ErrUnmapped {
			return t.fail(e, pagePlace{}, m.bad)
		}
		return e, pagePlace{where: nowhere}
	}
	base := e.Virt // what Raw is of
	e = clip(e, v.Range)
	at := pagePlace{where: inTables, vma: v}
	if e.Err == remora.ErrNotPresent {
		entry := t.format.Decode(int(e.Level), e.Raw)
		switch entry.Kind {
		case paging.KindSwap:
			off := entry.Offset + uint64(va-base)>>t.shift
			return t.swapped(ctx, t.one(e, va), int(entry.Type), off, at)
		case paging.KindMarker: // no page, but a note of userfaultfd's
		default:
			return e, at
		}
	}
	return t.fresh(ctx, va, e, at)
}

// fresh is for what the page tables have nothing of, in a mapping.
func (t *pager) fresh(ctx context.Context, va remora.Addr, e remora.Extent, at pagePlace) (remora.Extent, pagePlace) {
	v := at.vma
	switch {
	case v.Anonymous():
		at.where = untouched
		return t.zero(e, v), at
	case v.file == nil || v.Flags&(vmIO|vmPFNMap) != 0:
		at.where = notMade
		e.Err = remora.ErrNotPresent
		return e, at
	}
	return t.inFile(ctx, va, t.one(e, va), at)
}

// zero makes e a run of zeros.
func (t *pager) zero(e remora.Extent, v *VMA) remora.Extent {
	e.Err, e.In, e.Phys, e.Perm = nil, t.zeros, e.Virt, v.Perm|remora.PermUser
	return e
}

// memory makes e the page at phys. Where the page tables do not lead to it the process has
// no share in it that could be written, unless it is of a shared mapping.
func (t *pager) memory(e remora.Extent, phys remora.Addr, v *VMA) remora.Extent {
	e.Err, e.Phys, e.Perm = nil, phys, v.Perm|remora.PermUser
	if !v.Shared {
		e.In = t.cached
	}
	return e
}

// fail makes e a hole. What is no cause of a fault is one of the process's memory all the
// same: that it is not there.
func (t *pager) fail(e remora.Extent, at pagePlace, err error) (remora.Extent, pagePlace) {
	at.where, at.err = notKnown, err
	if e.Err = err; !isCause(err) {
		e.Err = remora.ErrNotPresent
	}
	return e, at
}

// inFile looks for a page in the page cache of the mapped file (filemap_fault,
// shmem_get_folio_gfp).
func (t *pager) inFile(ctx context.Context, va remora.Addr, e remora.Extent, at pagePlace) (remora.Extent, pagePlace) {
	v := at.vma
	m := v.file
	if m.err != nil {
		return t.fail(e, at, m.err)
	}
	frames, err := t.k.pageFrames(ctx)
	if err != nil {
		return t.fail(e, at, err)
	}
	index := v.page + uint64(va-v.Start)>>t.shift
	if index > (m.size-1)>>t.shift || m.size == 0 {
		at.where, e.Err = beyondFile, remora.ErrBeyondEOF
		return e, at
	}
	asked, apart := index, uint64(0)
	if m.inHuge && m.shift > t.shift {
		asked, apart = index>>(m.shift-t.shift), index&(1<<(m.shift-t.shift)-1)
	}
	p := peekInto(ctx, t.k)
	defer p.done()
	entry, first := t.xarray.find(p, m.pages, asked)
	switch {
	case p.err != nil:
		return t.fail(e, at, p.err)
	case entry&1 != 0 && m.magic == magicTmpfs:
		area, off := swapEntry(entry >> 1)
		return t.swapped(ctx, e, area, off+index-first, at)
	case entry&1 != 0 || entry == 0 && m.magic != magicTmpfs && m.magic != magicHuge:
		at.where, e.Err = notInCache, remora.ErrNotPresent
		return e, at
	case entry == 0:
		at.where = inFileHole
		return t.zero(e, v), at
	}
	page := remora.Addr(entry)
	mapping, head, _ := frames.head(p, page)
	if !m.inHuge {
		apart = index - head
	}
	const mostOfFolio = 1 << 20
	phys, ok := frames.phys(page, apart)
	switch {
	case p.err != nil:
		return t.fail(e, at, p.err)
	case !ok || mapping != m.mapping || apart >= mostOfFolio:
		return t.fail(e, at, remora.ErrCorrupt)
	}
	at.where = inPageCache
	return t.memory(e, phys, v), at
}

// swapped looks for a page that was swapped out.
func (t *pager) swapped(ctx context.Context, e remora.Extent, area int, off uint64, at pagePlace) (remora.Extent, pagePlace) {
	at.area, at.off = area, off
	e.Err = remora.ErrNotPresent
	known, err := t.k.swapWith(ctx, area)
	if err != nil {
		return t.fail(e, at, err)
	}
	p := peekInto(ctx, t.k)
	defer p.done()
	state, phys := known.find(p, area, off)
	if p.err != nil {
		return t.fail(e, at, p.err)
	}
	if state == swapLeft && t.files[area] == nil {
		state = swapCached
	}
	switch state {
	case swapCached:
		at.where = inSwapCache
		return t.memory(e, phys, at.vma), at
	case swapZero:
		at.where = inSwapZero
		return t.zero(e, at.vma), at
	case swapZswap:
		at.where = inZswap
	case swapZram:
		at.where = inZram
	default:
		at.where = inArea
		if f := t.files[area]; f != nil {
			e.Err, e.In, e.Phys, e.Perm = nil, f, remora.Addr(off<<t.shift), at.vma.Perm|remora.PermUser
		}
	}
	return e, at
}

// at gives the mapping that holds va, or, with nil, the gap around it.
func (m *mappings) at(va remora.Addr) (*VMA, remora.Range) {
	all := m.list
	i, _ := slices.BinarySearchFunc(all, va, func(v VMA, va remora.Addr) int { return cmp.Compare(v.Last(), va) })
	if i < len(all) && all[i].Start <= va {
		return &all[i], all[i].Range
	}
	first, last := remora.Addr(0), remora.MaxAddr
	if i > 0 {
		first = all[i-1].Last() + 1
	}
	if i < len(all) {
		last = all[i].Start - 1
	}
	return nil, remora.Range{Start: first, Size: uint64(last-first) + 1} // 0 where it is all there is
}

// clip gives the part of e that lies in r. A size of 0 stands for all addresses.
func clip(e remora.Extent, r remora.Range) remora.Extent {
	if r.Size == 0 {
		return e
	}
	in := r.Intersect(remora.Range{Start: e.Virt, Size: e.Size})
	if in.Start != e.Virt {
		e.Raw = 0 // it was of the first page
	}
	e.Phys += in.Start - e.Virt
	e.Virt, e.Size = in.Start, in.Size
	return e
}

// one gives the page of e that holds va.
func (t *pager) one(e remora.Extent, va remora.Addr) remora.Extent {
	return clip(e, remora.Range{Start: va >> t.shift << t.shift, Size: 1 << t.shift})
}
