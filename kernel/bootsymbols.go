// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"debug/elf"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/paging"
)

// nearImage is how far from the tables of kallsyms other parts of the kernel's image may
// be, in bytes.
const nearImage = 96 << 20

// around gives the memory around kallsyms that may be the kernel's image.
func (k *kallsyms) around() remora.Range {
	return remora.Between(k.tokens-min(k.tokens, nearImage), k.tokens+nearImage)
}

// byKallsyms follows the symbols that kallsyms has of the kernel.
func (f *finder) byKallsyms(k *kallsyms) {
	found, err := k.firsts(f.ctx, bootSymbols()...)
	if _, ok := found["_stext"]; err != nil || !ok {
		f.no("kallsyms at %v, %d symbols: there is no _stext (%v)", k.tokens, k.count, err)
		return
	}
	switch _, ok := found["linux_banner"]; {
	case k.encoding == encPlace:
		f.byPlace(k, found)
	case ok:
		f.byBanner(k, found)
	default:
		f.byPages(k, found)
	}
}

// bootSymbols are the symbols that are looked up.
func bootSymbols() []string {
	return append(landmarks[:], "vmcoreinfo_note", "_text", "_end", "sme_me_mask")
}

// encryption reads sme_me_mask of an x86-64 kernel, whose image lies at a base.
func (f *finder) encryption(symbols map[string]uint64, base uint64) {
	f.encrypted = 0
	at, ok := symbols["sme_me_mask"]
	var b [8]byte
	if ok && readPhys(f.ctx, f.phys, remora.Addr(at+base), b[:]) {
		if n := binary.LittleEndian.Uint64(b[:]); n&(n-1) == 0 && n&(1<<52-1)>>32<<32 == n {
			f.encrypted = n
		}
	}
}

// rootSymbol gives the address of the top table.
func rootSymbol(symbols map[string]uint64) (a uint64, name string, ok bool) {
	for _, name := range []string{"init_top_pgt", "swapper_pg_dir"} {
		if a, ok := symbols[name]; ok {
			return a, name, true
		}
	}
	return 0, "", false
}

// tryKallsyms tries a root with the symbols at their virtual addresses.
func (f *finder) tryKallsyms(k *kallsyms, s shape, root, base uint64, symbols map[string]uint64, from string) bool {
	f.symbols = symbols
	defer func() { f.symbols = nil }()
	if f.found != nil || !f.try(attempt{format: s.format, root: root, base: base, fixed: true, from: from}) || f.found == nil {
		return f.over()
	}
	g := f.found
	g.Machine, g.Release, g.kallsyms, g.symbols = s.machine, f.release, k, symbols
	if at, ok := symbols["vmcoreinfo_note"]; ok {
		g.Info, g.InfoFrom = f.noteBySymbol(remora.Addr(at))
	}
	return true
}

// noteBySymbol follows vmcoreinfo_note, the pointer to the note that the kernel keeps.
func (f *finder) noteBySymbol(at remora.Addr) (*VMCoreInfo, string) {
	g := f.found
	var b [8]byte
	if !readPhys(f.ctx, f.phys, at+remora.Addr(g.ImageBase), b[:]) {
		return nil, ""
	}
	va := remora.Addr(binary.LittleEndian.Uint64(b[:]))
	tables := paging.NewTables(f.phys, g.Format, g.Root, f.use)
	e := tables.Translate(f.ctx, va)
	if e.Err != nil {
		return nil, ""
	}
	pa := e.Phys + (va - e.Virt)
	info := readNote(f.ctx, f.phys, pa)
	if info == nil {
		return nil, ""
	}
	return info, fmt.Sprintf("the note at %v, by the symbol vmcoreinfo_note", pa)
}

// byPlace follows symbols whose addresses are relative to where they are: their physical
// ones are known, and the tables tell of the virtual ones.
func (f *finder) byPlace(k *kallsyms, found map[string]uint64) {
	root, name, ok := rootSymbol(found)
	if !ok {
		f.no("kallsyms at %v: it lists no symbols of data, as init_top_pgt or swapper_pg_dir", k.tokens)
		return
	}
	if at, ok := found["linux_banner"]; ok {
		text, read := f.banner(remora.Addr(at))
		if f.release, ok = bannerRelease(text); read && !ok {
			f.no("kallsyms at %v: there is no banner at %s", k.tokens, hex(at))
			return
		}
	}
	stext := remora.Addr(found["_stext"])
	f.encryption(found, 0)
	for _, s := range f.shapes() {
		tables := paging.NewTables(f.phys, s.format, remora.Addr(root), f.use)
		for va := range s.mappings(f, tables, stext) {
			base := uint64(stext - va)
			virtual := make(map[string]uint64, len(found))
			for n, pa := range found {
				virtual[n] = pa - base
			}
			if f.tryKallsyms(k, s, root, base, virtual, fmt.Sprintf("%s by kallsyms at %v", name, k.tokens)) {
				return
			}
		}
	}
	f.no("kallsyms at %v: no tables at %s map _stext, which lies at %v", k.tokens, hex(root), stext)
}

// byBanner follows symbols whose virtual addresses are known: the image lies in physical
// memory where the banner is at its place.
func (f *finder) byBanner(k *kallsyms, found map[string]uint64) {
	root, name, ok := rootSymbol(found)
	if !ok {
		f.byPages(k, found)
		return
	}
	type place struct {
		at      remora.Addr
		release string
	}
	look := func(at remora.Addr, b []byte, own int) (all []place) {
		for i := range matches(b, own, bannerStart) {
			if release, ok := bannerRelease(string(b[i:min(len(b), i+len(bannerStart)+unameLen)])); ok {
				all = append(all, place{at + remora.Addr(i), release})
			}
		}
		return all
	}
	n := 0
	_, err := sweep(f.ctx, f.phys, k.around(), look, func(p place) bool {
		base := uint64(p.at) - found["linux_banner"]
		if base%notePage != 0 {
			return true
		}
		n++
		f.release = p.release
		f.encryption(found, base)
		for _, s := range f.shapes() {
			if !s.image.Contains(remora.Addr(found["_stext"])) {
				continue // the tables of another machine may be read as these
			}
			if f.tryKallsyms(k, s, root+base, base, found, fmt.Sprintf("%s by kallsyms at %v, with the banner at %v", name, k.tokens, p.at)) {
				return false
			}
		}
		return n < maxNotes
	})
	if f.found == nil {
		trouble := ""
		if err != nil {
			trouble = ": " + err.Error()
		}
		f.no("kallsyms at %v: %d banners near it may be that of the kernel%s", k.tokens, n, trouble)
	}
}

// shape is a form of page tables, and where in it a kernel's image may be.
type shape struct {
	machine elf.Machine
	format  *paging.Format
	bits    int // of an address
	image   remora.Range
}

// shapes gives those that the tables may have.
func (f *finder) shapes() (all []shape) {
	machines := []elf.Machine{elf.EM_X86_64, elf.EM_AARCH64, elf.EM_RISCV}
	if f.h.Machine != elf.EM_NONE {
		machines = []elf.Machine{f.h.Machine}
	} else if slices.ContainsFunc(f.h.CPUs, func(c CPU) bool { return c.Regs["cr3"] != 0 }) {
		machines = machines[:1]
	}
	high := remora.Range{Start: x86Image, Size: 1 << 31}
	for _, m := range machines {
		switch m {
		case elf.EM_X86_64:
			for _, format := range f.x86Formats() {
				all = append(all, shape{m, format, 39 + 9*(format.Levels()-3), high})
			}
		case elf.EM_AARCH64:
			for _, c := range [][2]int{{12, 48}, {12, 52}, {12, 39}, {14, 47}, {14, 48}, {14, 52}, {14, 36}, {16, 48}, {16, 52}, {16, 42}} {
				format, err := paging.ARM64(paging.ARM64Options{PageShift: c[0], VABits: c[1], LPA2: c[1] == 52 && c[0] != 16, Kernel: f.version()})
				if err == nil { // the linear map is in the lower half of the kernel's half
					half := uint64(1) << (c[1] - 1)
					all = append(all, shape{m, format, c[1], remora.Range{Start: remora.Addr(-half), Size: half}})
				}
			}
		case elf.EM_RISCV:
			for _, bits := range []int{48, 57, 39} {
				if format, err := paging.RISCV(paging.RISCVOptions{VABits: bits, Kernel: f.version()}); err == nil {
					all = append(all, shape{m, format, bits, high})
				}
			}
		}
	}
	return all
}

// What is looked at to find where an image is mapped. The image is mapped by huge pages, so
// that its address is as far behind a multiple of imageAlign as its place in memory.
const (
	maxImageSteps = 1 << 14
	maxImageRuns  = 1 << 16
)

// mappings gives the virtual addresses, where an image may be, that lead to a physical one.
func (s shape) mappings(f *finder, tables *paging.Tables, pa remora.Addr) func(func(remora.Addr) bool) {
	return func(yield func(remora.Addr) bool) {
		at, last := s.image.Start+pa%imageAlign, s.image.Last()
		for n := 0; n < maxImageSteps && f.ctx.Err() == nil; n++ {
			e := tables.Translate(f.ctx, at)
			if e.Err == nil && e.Phys+(at-e.Virt) == pa && !yield(at) {
				return
			}
			next := at + imageAlign
			if end := e.Virt + remora.Addr(e.Size); e.Err != nil && end > next {
				next = at + (end-at+imageAlign-1)&^(imageAlign-1)
			}
			if next <= at || next > last || e.Virt+remora.Addr(e.Size) == 0 {
				return
			}
			at = next
		}
	}
}

// inImage looks for kallsyms in the image that tables map which were found by a register.
func (f *finder) inImage(g *Found) {
	tables := paging.NewTables(f.phys, g.Format, g.Root, f.use)
	s := f.imageShape(g)
	first, image := s.firstPiece(f, tables)
	if image.Empty() {
		return
	}
	base := uint64(image.Start) - uint64(first)
	g.Machine, g.Image, g.ImageBase = s.machine, true, base
	_, err := sweep(f.ctx, f.phys, image, traces, func(t trace) bool {
		if t.note {
			return true
		}
		k, err := findKallsyms(f.ctx, f.phys, t.at)
		if err != nil {
			return f.ctx.Err() == nil
		}
		found, err := k.firsts(f.ctx, bootSymbols()...)
		if err != nil {
			return false
		}
		if k.encoding == encPlace {
			for n := range found {
				found[n] -= base
			}
		}
		root, name, ok := rootSymbol(found)
		if !ok {
			f.no("kallsyms at %v: it lists no symbols of data, as init_top_pgt", k.tokens)
			return true
		}
		return !f.tryKallsyms(k, s, root+base, base, found, fmt.Sprintf("%s by kallsyms at %v, in the image that %s maps", name, k.tokens, g.How))
	})
	if f.found == nil {
		f.no("kallsyms in the image at %v of %d MiB: there is none (%v)", image.Start, image.Size>>20, err)
	}
}

// firstPiece gives where the image begins, and its physical memory as far as it is in one
// piece.
func (s shape) firstPiece(f *finder, tables *paging.Tables) (first remora.Addr, image remora.Range) {
	gap := uint64(0)
	for at, n := s.image.Start, 0; n < maxImageRuns && f.ctx.Err() == nil; n++ {
		e := tables.Translate(f.ctx, at)
		end := e.Virt + remora.Addr(e.Size)
		switch {
		case e.Err != nil:
			gap += uint64(end - at)
		case image.Empty():
			first, image, gap = e.Virt, remora.Range{Start: e.Phys, Size: e.Size}, 0
		case e.Phys-image.Start != e.Virt-first:
			return first, image
		default:
			image.Size = uint64(end - first)
			gap = 0
		}
		if !image.Empty() && gap > imageGap || end <= at || end > s.image.Last() {
			return first, image
		}
		at = end
	}
	return first, image
}
