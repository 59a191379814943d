// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"fmt"

	"github.com/remora-go/remora"
)

// pageFrames tells where the memory is that a struct page stands for. The kernel has its
// struct pages in one array (CONFIG_SPARSEMEM_VMEMMAP): that of frame 0 would be at base.
type pageFrames struct {
	base  remora.Addr
	size  uint64 // of a struct page
	shift uint   // of a page
	limit uint64 // frames; there are none beyond
	how   string

	mapping, index, private field // of a struct page, or of a folio
	bytes                   int   // of a struct page that have them
}

// phys gives the memory of a struct page, and how many pages further on. ok is false for
// what is no struct page.
func (f *pageFrames) phys(page remora.Addr, further uint64) (remora.Addr, bool) {
	off := uint64(page - f.base)
	if off%f.size != 0 || page < f.base || off/f.size >= f.limit || further >= f.limit {
		return 0, false
	}
	return remora.Addr((off/f.size + further) << f.shift), true
}

// head reads what a struct page says of itself.
func (f *pageFrames) head(p *peek, page remora.Addr) (mapping remora.Addr, index, private uint64) {
	b := p.bytes(page, f.bytes)
	return remora.Addr(f.mapping.in(b)), f.index.in(b), f.private.in(b)
}

// page is the struct page of a frame.
func (f *pageFrames) page(frame uint64) remora.Addr { return f.base + remora.Addr(frame*f.size) }

// pageFrames finds the array.
func (k *Kernel) pageFrames(ctx context.Context) (*pageFrames, error) {
	return k.processAnswers.page.do(ctx, k.findPageFrames)
}

func (k *Kernel) findPageFrames(ctx context.Context) (*pageFrames, error) {
	found, err := k.Tables(ctx)
	if err != nil {
		return nil, err
	}
	t, err := k.Types(ctx)
	if err != nil {
		return nil, err
	}
	f := &pageFrames{shift: k.pageShift()}
	f.limit = 1 << (52 - f.shift)
	if f.size, err = t.size(ctx, "page"); err != nil {
		return nil, err
	}
	if f.size < 8 || f.size > 1<<12 {
		return nil, damaged("a struct page of %d bytes", f.size)
	}
	err = t.fields(ctx,
		wanted{into: &f.mapping, member: "page.mapping"}, wanted{into: &f.private, member: "page.private"},
		wanted{into: &f.index, member: "page.__folio_index"})
	if err != nil {
		return nil, err
	}
	if f.bytes = reach(f.mapping, f.private, f.index); f.bytes > int(f.size) {
		return nil, fmt.Errorf("struct page does not have what is looked for: %w", remora.ErrUnrecognized)
	}
	var tried []string
	for _, way := range k.vmemmaps(ctx, f) {
		if way.err == nil && k.provesPages(ctx, f, way.base, uint64(found.Root)>>f.shift) {
			f.base, f.how = way.base, way.how
			return f, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		tried = append(tried, way.String())
	}
	return nil, fmt.Errorf("the array of struct page was not found; tried: %v: %w", tried, remora.ErrUnrecognized)
}

// vmemmap is where the array may be.
type vmemmap struct {
	base remora.Addr
	how  string
	err  error
}

func (v vmemmap) String() string {
	if v.err != nil {
		return fmt.Sprintf("%s: %v", v.how, v.err)
	}
	return fmt.Sprintf("%s: %v", v.how, v.base)
}

// vmemmaps gives what there is to try, in the order of its worth.
func (k *Kernel) vmemmaps(ctx context.Context, f *pageFrames) (all []vmemmap) {
	info := k.VMCoreInfo()
	if v, ok := info.Symbol("vmemmap"); ok { // the value, 6.12 on arm64
		all = append(all, vmemmap{base: v, how: "SYMBOL(vmemmap)"})
	}
	if start, ok := info.Number("VMEMMAP_START"); ok {
		if off, ok := info.Number("PHYS_OFFSET"); ok { // arm64: a signed number
			all = append(all, vmemmap{base: remora.Addr(start - uint64(int64(off)>>f.shift)*f.size), how: "VMEMMAP_START and PHYS_OFFSET"})
		}
		if off, ok := info.Number("phys_ram_base"); ok { // riscv64
			all = append(all, vmemmap{base: remora.Addr(start - off>>f.shift*f.size), how: "VMEMMAP_START and phys_ram_base"})
		}
	}
	if _, ok := info.Number("kimage_voffset"); !ok {
		at, err := k.symbol(ctx, "vmemmap_base") // x86-64
		v := vmemmap{how: "vmemmap_base", err: err}
		if err == nil {
			p := peekInto(ctx, k)
			v.base, v.err = remora.Addr(p.word(at)), p.err
			p.done()
		}
		all = append(all, v)
	}
	v := vmemmap{how: "mem_section"}
	v.base, v.err = k.sectionPages(ctx, f)
	return append(all, v)
}

// sectionPages takes the array out of the section that the kernel's page tables are in:
// each has it, as if it began at frame 0 (sparse_encode_mem_map).
func (k *Kernel) sectionPages(ctx context.Context, f *pageFrames) (remora.Addr, error) {
	s, err := k.findSections(ctx, f.shift)
	if err != nil {
		return 0, err
	}
	if s.size == 0 || s.size > 1<<12 || s.off > s.size || s.bits < uint64(f.shift) || s.bits > 40 {
		return 0, damaged("sections of 1<<%d bytes, described in %d bytes", s.bits, s.size)
	}
	number := uint64(k.found.Root) >> s.bits
	each := uint64(1) << f.shift / s.size // sections of a root (SECTIONS_PER_ROOT)
	const present, flags = 1, 1<<6 - 1
	p := peekInto(ctx, k)
	defer p.done()
	root := remora.Addr(p.word(s.roots + remora.Addr(number/each*8)))
	if root == 0 && p.err == nil {
		return 0, damaged("there is no section for frame 0x%x", number<<(s.bits-uint64(f.shift)))
	}
	v := p.word(root + remora.Addr(number%each*s.size+s.off))
	if p.err == nil && v&present == 0 {
		return 0, damaged("the section of frame 0x%x is not present", number<<(s.bits-uint64(f.shift)))
	}
	return remora.Addr(v &^ flags), p.err
}

// sections is where the kernel has its array of arrays of struct mem_section.
type sections struct {
	roots           remora.Addr
	size, off, bits uint64 // of a structure, of section_mem_map in it; the size of a section
}

// findSections takes it from VMCOREINFO, or from symbols and types: what these do not tell
// is the size of a section (SECTION_SIZE_BITS), which all kernels of a machine share.
func (k *Kernel) findSections(ctx context.Context, shift uint) (s sections, err error) {
	info := k.VMCoreInfo()
	roots, ok := info.Symbol("mem_section") // the value of the pointer
	size, okSize := info.Value("SIZE(mem_section)")
	off, okOff := info.Value("OFFSET(mem_section.section_mem_map)")
	bits, okBits := info.Number("SECTION_SIZE_BITS")
	if ok && okSize && okOff && okBits {
		return sections{roots, size, off, bits}, nil
	}
	at, err := k.symbol(ctx, "mem_section")
	if err != nil {
		return s, err
	}
	t, err := k.Types(ctx)
	if err != nil {
		return s, err
	}
	m, err := t.field(ctx, "mem_section", "section_mem_map")
	if err != nil {
		return s, err
	}
	if s.size, err = t.size(ctx, "mem_section"); err != nil {
		return s, err
	}
	const usual, largePages = 27, 29
	if s.off, s.bits = m.off, usual; shift == 16 {
		s.bits = largePages
	}
	p := peekInto(ctx, k)
	defer p.done()
	s.roots = remora.Addr(p.word(at))
	return s, p.err
}

// provesPages says whether the array is at base: the struct page of a frame that is in
// use can be read there.
func (k *Kernel) provesPages(ctx context.Context, f *pageFrames, base remora.Addr, frame uint64) bool {
	if base < middleOfSpace {
		return false
	}
	p := peekInto(ctx, k)
	defer p.done()
	p.bytes(base+remora.Addr(frame*f.size), 8)
	return p.err == nil
}

// middleOfSpace is where the kernel's half begins.
const middleOfSpace = 1 << 63
