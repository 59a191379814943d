// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"cmp"
	"context"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/paging"
)

// byFormula takes a kernel without its page tables: where the release is found at the
// address that VMCOREINFO's numbers give, the image is there.
func (f *finder) byFormula(t told) {
	info := t.info
	f.info = info
	defer func() { f.info = nil }()
	machine := f.h.machine(info)
	var bases []Value // less the virtual address
	var formats []*paging.Format
	switch machine {
	case elf.EM_X86_64:
		for _, b := range f.physBases() {
			bases = append(bases, Value{b.N - x86Image, fmt.Sprintf("phys_base %s from %s", hex(b.N), b.From)})
		}
		formats = f.x86Formats()
	case elf.EM_AARCH64:
		if n, ok := f.number("kimage_voffset"); ok {
			bases = append(bases, Value{-n.N, n.From + " " + hex(n.N)})
		}
		formats = f.arm64Formats()
	case elf.EM_RISCV:
		if n, ok := f.number("va_kernel_pa_offset"); ok {
			bases = append(bases, Value{-n.N, n.From + " " + hex(n.N)})
		}
		formats = f.riscvFormats()
	}
	root, _, ok := f.symbolRoots()
	if len(formats) == 0 || !ok {
		return
	}
	for _, b := range bases {
		checked, why := f.says(b.N)
		if len(checked) == 0 {
			f.no("the kernel's image by %s, without tables: %s", b.From, cmp.Or(why, "the release there cannot be read"))
			continue
		}
		f.found = &Found{Machine: machine, Format: formats[0], Root: remora.Addr(root + b.N), How: b.From, Checked: checked,
			Image: true, ImageBase: b.N, Linear: true, Info: info, InfoFrom: t.from, Release: info.Release()}
		return
	}
}

// fallback is page tables that may lack some: addresses of the kernel's image and of the
// direct map are then translated by formula. Such an Extent has Level 0.
type fallback struct {
	k      *Kernel
	tables *paging.Tables
}

func (t *fallback) Unwrap() any { return t.tables }

// Translate asks the tables first.
func (t *fallback) Translate(ctx context.Context, va remora.Addr) remora.Extent {
	e := t.tables.Translate(ctx, va)
	if e.Err == nil || !errors.Is(e.Err, remora.ErrNoTable) {
		return e
	}
	all := t.k.pieces(ctx)
	i, ok := slices.BinarySearchFunc(all, va, func(p Piece, va remora.Addr) int {
		if va-p.Virt < remora.Addr(p.Size) {
			return 0
		}
		return cmp.Compare(p.Virt, va)
	})
	if !ok {
		return e
	}
	p := all[i]
	part := remora.Range{Start: p.Virt, Size: p.Size}.Intersect(remora.Range{Start: e.Virt, Size: e.Size})
	return remora.Extent{Virt: part.Start, Phys: p.Start + (part.Start - p.Virt), Size: part.Size, Perm: remora.PermRead | remora.PermWrite}
}

// pieces gives what is mapped by formula: the image, and the direct map where it is known.
// They are found out when they are first needed.
func (k *Kernel) pieces(ctx context.Context) []Piece {
	if p := k.linear.Load(); p != nil {
		return *p
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	p := k.findPieces(ctx)
	if ctx.Err() == nil {
		k.linear.Store(&p)
	}
	return p
}

// maxImage is how large the image of a kernel is thought to be where nothing tells.
const maxImage = 256 << 20

func (k *Kernel) findPieces(ctx context.Context) (all []Piece) {
	g := k.found
	if g == nil || !g.Image {
		return nil
	}
	f := &finder{ctx: ctx, phys: k.phys, h: &k.hints, info: g.Info, symbols: g.symbols}
	stext, ok := f.symbol("_stext")
	if !ok {
		return nil
	}
	var symbols map[string]uint64
	if s := f.inImageAt(g, stext); s != nil {
		if symbols, _ = s.firsts(ctx, "_end", "page_offset_base", "vmcoreinfo_note"); s.encoding == encPlace {
			for name := range symbols {
				symbols[name] -= g.ImageBase
			}
		}
	}
	end := remora.Addr(symbols["_end"])
	if end <= stext || end-stext > maxImage {
		end = lastSymbol(g.Info, stext)
	}
	if end <= stext {
		return nil
	}
	base := remora.Addr(g.ImageBase)
	all = []Piece{{remora.Range{Start: stext + base, Size: uint64(end - stext)}, stext}}
	if direct, ok := f.directByNote(g, symbols); ok {
		// From the first to the last address that is saved: what is between and is not has a
		// cause of its own.
		var memory remora.Range
		for r, err := range saved(ctx, k.phys, remora.Range{Size: 1 << 52}) {
			if err != nil {
				break
			}
			if memory.Empty() {
				memory = r
			}
			memory = remora.Between(memory.Start, r.Start+remora.Addr(r.Size))
		}
		if !memory.Empty() {
			all = append(all, Piece{memory, direct + memory.Start})
		}
	}
	slices.SortFunc(all, func(a, b Piece) int { return cmp.Compare(a.Virt, b.Virt) })
	return all
}

// lastSymbol gives the end of the page that the last symbol of the image is in which
// VMCOREINFO names.
func lastSymbol(info *VMCoreInfo, stext remora.Addr) (end remora.Addr) {
	if info == nil {
		return 0
	}
	for _, l := range info.Lines {
		if n, ok := info.Value(l.Key); ok && classOf(l.Key) == classHex && remora.Addr(n)-stext < maxImage {
			end = max(end, remora.Addr(n)&^(notePage-1)+notePage)
		}
	}
	return end
}

// directByNote finds where the direct map begins: the pointer vmcoreinfo_note is into it,
// and must lead to the note.
func (f *finder) directByNote(g *Found, symbols map[string]uint64) (base remora.Addr, ok bool) {
	word := func(name string) (uint64, bool) {
		var b [8]byte
		at, ok := symbols[name]
		ok = ok && readPhys(f.ctx, f.phys, remora.Addr(at+g.ImageBase), b[:])
		return binary.LittleEndian.Uint64(b[:]), ok
	}
	note, ok := word("vmcoreinfo_note")
	if !ok {
		return 0, false
	}
	bases := formulaBases(g.Info)
	if n, ok := word("page_offset_base"); ok && g.Machine == elf.EM_X86_64 {
		bases = append(bases, remora.Addr(n))
	}
	i := slices.IndexFunc(bases, func(b remora.Addr) bool {
		info := readNote(f.ctx, f.phys, remora.Addr(note)-b)
		return info != nil && (g.Info == nil || info.Release() == g.Info.Release())
	})
	if i < 0 {
		return 0, false
	}
	return bases[i], true
}
