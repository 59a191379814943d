// SPDX-License-Identifier: Apache-2.0

package target

import (
	"context"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/kernel"
	"github.com/remora-go/remora/paging"
)

// Limits of a walk: page tables of 4 KiB that are read, and ranges that are kept.
const (
	maxWalkTables = 1 << 15
	maxWalkRanges = 1 << 20
)

// walk goes through the kernel's half of page tables, and keeps what they map as memory
// that caches may hold: what devices have is never mapped so.
type walk struct {
	ctx    context.Context
	whole  remora.Space
	root   kernel.Root
	mair   uint64 // arm64: what the kinds of memory are
	arm    bool
	tables int
	seen   map[tableAt]bool
	found  []remora.Range
	image  uint64 // bytes of code that are mapped
	err    error
}

// tableAt is a table at a level.
type tableAt struct {
	level int
	at    remora.Addr
}

// mappedMemory gives what the page tables of processors map as memory.
func mappedMemory(ctx context.Context, whole remora.Space, h *kernel.Hints) ([]remora.Range, error) {
	var all []remora.Range
	why := fmt.Errorf("no processor's registers lead to page tables of a kernel of %v", h.Machine)
	seen := map[tableAt]bool{}
	for i := range h.CPUs {
		c := &h.CPUs[i]
		for _, root := range c.Roots(h.Machine) {
			w := &walk{ctx: ctx, whole: whole, root: root, mair: c.Regs["MAIR_EL1"], arm: h.Machine == elf.EM_AARCH64, seen: seen}
			w.kernelHalf()
			if w.err == nil && w.image < leastCode && !w.arm && c.Regs["cr3"]&ptiUser != 0 { // in user mode under PTI
				w.root.Table &^= ptiUser
				w.kernelHalf()
			}
			switch {
			case ctx.Err() != nil:
				return nil, ctx.Err()
			case w.err != nil:
				why = fmt.Errorf("%s: %w", root.From, w.err)
			case w.image < leastCode:
				why = fmt.Errorf("%s: the page tables at %v map no kernel", root.From, root.Table)
			default:
				all = append(all, w.found...)
			}
		}
	}
	return all, why
}

const (
	ptiUser   = 1 << 12
	leastCode = 1 << 20 // bytes that a kernel maps to be run, at least
)

// kernelHalf goes through all of it.
func (w *walk) kernelHalf() {
	f := w.root.Format
	page := shiftOf(f.PageSize())
	level := f.Levels()
	entries := 1 << (w.root.Bits - page - (level-1)*(page-3))
	first := 0
	if !w.arm { // the lower half is a process's
		first = entries / 2
	}
	w.table(level, w.root.Table, first, entries)
}

func shiftOf(size uint64) (n int) {
	for ; size > 1; size >>= 1 {
		n++
	}
	return n
}

// table goes through the entries of one table.
func (w *walk) table(level int, at remora.Addr, first, end int) {
	if w.err == nil {
		w.err = w.ctx.Err()
	}
	if w.err != nil || w.seen[tableAt{level, at}] {
		return
	}
	if w.tables++; w.tables > maxWalkTables || len(w.found) > maxWalkRanges {
		w.err = errors.New("it has too many page tables")
		return
	}
	w.seen[tableAt{level, at}] = true
	b := make([]byte, 8*(end-first))
	seg := [1]remora.Seg{{Addr: at + remora.Addr(8*first), Buf: b}}
	if _, err := w.whole.Transfer(w.ctx, remora.Read, seg[:]); err != nil {
		w.err = fmt.Errorf("a page table at %v: %w", at, err)
		return
	}
	f := w.root.Format
	next := int(f.PageSize() / 8)
	for i := range end - first {
		raw := binary.LittleEndian.Uint64(b[8*i:])
		if raw == 0 {
			continue
		}
		switch e := f.Decode(level, raw); e.Kind {
		case paging.KindTable:
			if level > 1 {
				w.table(level-1, e.Phys, 0, next)
			}
		case paging.KindLeaf:
			if w.cached(raw) {
				w.keep(level, e)
			}
		}
	}
}

// x86 page table entries: PWT and PCD. Linux has write-back memory where both are clear.
const x86Uncached = 1<<3 | 1<<4

// cached says whether an entry maps memory that caches may hold.
func (w *walk) cached(raw uint64) bool {
	if !w.arm {
		return raw&x86Uncached == 0
	}
	kind := byte(w.mair >> (8 * (raw >> 2 & 7))) // by AttrIndx
	return kind>>4 != 0 && kind>>4 != 4
}

// legacy is where a PC has the memory of its display, and its firmware: Linux maps it with
// the memory around it.
const (
	legacyStart = 0xa0000
	legacyEnd   = 0x100000
)

// keep takes what one entry maps.
func (w *walk) keep(level int, e paging.Entry) {
	page := shiftOf(w.root.Format.PageSize())
	r := remora.Range{Start: e.Phys, Size: 1 << (page + (level-1)*(page-3))}
	if e.Perm&remora.PermExec != 0 && e.Perm&remora.PermUser == 0 {
		w.image += r.Size
	}
	if !w.arm && r.Start < legacyEnd && r.Last() >= legacyStart {
		w.found = append(w.found, remora.Between(r.Start, max(r.Start, legacyStart)))
		r = remora.Between(legacyEnd, max(r.Last()+1, legacyEnd))
	}
	if n := len(w.found); n > 0 && w.found[n-1].Last()+1 == r.Start && !w.found[n-1].Empty() {
		w.found[n-1].Size += r.Size
		return
	}
	w.found = append(w.found, r)
}
