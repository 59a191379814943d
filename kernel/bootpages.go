// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/paging"
)

// byPages looks for the top table among the pages near kallsyms, where no symbol tells of
// it (CONFIG_KALLSYMS_ALL=n): it must map _stext, and kallsyms where it lies. Of several the
// one counts that has the most entries: the early tables of a kernel have less.
func (f *finder) byPages(k *kallsyms, found map[string]uint64) {
	stext := remora.Addr(found["_stext"])
	var best attempt
	var shaped shape
	most, pages := 0, 0
	shapes := slices.DeleteFunc(f.shapes(), func(s shape) bool { return !s.image.Contains(stext) })
	type page struct {
		shape
		at remora.Addr
	}
	look := func(at remora.Addr, b []byte, own int) (all []page) {
		for _, s := range shapes {
			size := s.format.PageSize()
			entry := 8 * s.topIndex(stext)
			for i := int(-at & remora.Addr(size-1)); i < own && i+entry+8 <= len(b); i += int(size) {
				if s.format.Decode(s.format.Levels(), binary.LittleEndian.Uint64(b[i+entry:])).Kind == paging.KindTable {
					all = append(all, page{s, at + remora.Addr(i)})
				}
			}
		}
		return all
	}
	_, err := sweep(f.ctx, f.phys, k.around(), look, func(p page) bool {
		tables := paging.NewTables(f.phys, p.format, p.at, f.use)
		pages++
		e := tables.Translate(f.ctx, stext)
		base := uint64(e.Phys) - uint64(e.Virt)
		if e.Err != nil || base%notePage != 0 || !leads(f, tables, k.tokens-remora.Addr(base), k.tokens) {
			return f.ctx.Err() == nil
		}
		if n := f.used(p.shape, p.at) + p.format.Levels()<<20; n > most {
			most, shaped = n, p.shape
			best = attempt{root: uint64(p.at), base: base}
		}
		return true
	})
	if err != nil {
		f.no("a search for the top page table near kallsyms: %v", err)
		return
	}
	if most == 0 {
		f.no("kallsyms at %v: of %d pages near it none is a top table that maps it and _stext", k.tokens, pages)
		return
	}
	if f.tryKallsyms(k, shaped, best.root, best.base, found, fmt.Sprintf("a search of the pages near kallsyms at %v", k.tokens)) && f.found != nil {
		f.found.Checked = append(f.found.Checked, "kallsyms is mapped where it lies")
	}
}

// topIndex is the place of an address in the top table.
func (s shape) topIndex(va remora.Addr) int {
	page := bits.TrailingZeros64(s.format.PageSize())
	return int(uint64(va) & (1<<s.bits - 1) >> (page + (s.format.Levels()-1)*(page-3)))
}

// leads says whether va is at pa.
func leads(f *finder, tables *paging.Tables, va, pa remora.Addr) bool {
	e := tables.Translate(f.ctx, va)
	return e.Err == nil && e.Phys+(va-e.Virt) == pa
}

// used counts the entries of a top table.
func (f *finder) used(s shape, root remora.Addr) (n int) {
	b := windowAt(f.ctx, f.phys, root, s.format.PageSize()).b
	for i := 0; i+8 <= len(b); i += 8 {
		k := s.format.Decode(s.format.Levels(), binary.LittleEndian.Uint64(b[i:])).Kind
		if k == paging.KindTable || k == paging.KindLeaf {
			n++
		}
	}
	return n
}
