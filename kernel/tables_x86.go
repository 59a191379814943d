// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"debug/elf"
	"fmt"
	"slices"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/paging"
)

// x86Image is where the kernel's image is mapped on x86-64: __START_KERNEL_map, and at
// most 1 GiB of it (Documentation/arch/x86/x86_64/mm.rst).
const (
	x86Image     = 0xffffffff80000000
	x86ImageSize = 1 << 30
)

// x86Least is how much of the image tables must map that nothing else speaks for: more
// than what the tables of user mode have of it under PTI.
const x86Least = 1 << 20

const (
	cr3Root = 0x000ffffffffff000
	cr3User = 1 << 12 // PTI: the tables of user mode are the page behind the kernel's
	cr4LA57 = 1 << 12
)

// x86 follows swapper_pg_dir from every base that is known, then CR3 of each processor.
func (f *finder) x86() {
	formats := f.x86Formats()
	bases := f.physBases()
	va, name, ok := f.symbolRoots()
	switch {
	case !ok:
		f.no("SYMBOL(swapper_pg_dir) and NUMBER(phys_base): %s", f.lacks())
	case len(bases) == 0:
		f.no("SYMBOL(%s) %s: where the kernel was loaded (phys_base) is not known", name, hex(va))
	default:
		for _, b := range bases {
			for _, format := range formats {
				if f.try(attempt{format: format, root: va - x86Image + b.N, base: b.N - x86Image, fixed: true,
					from: fmt.Sprintf("SYMBOL(%s) with phys_base %s from %s", name, hex(b.N), b.From)}) {
					return
				}
			}
		}
	}
	f.x86CR3(formats)
}

// physBases gives what phys_base may be: what VMCOREINFO says first.
func (f *finder) physBases() []Value {
	n, ok := f.number("phys_base")
	if !ok {
		return f.h.PhysBase
	}
	same := func(v Value) bool { return v.N == n.N }
	return append([]Value{n}, slices.DeleteFunc(slices.Clone(f.h.PhysBase), same)...)
}

// x86Formats gives what the tables may be: of 5 levels, of 4, or, where nothing tells,
// of either.
func (f *finder) x86Formats() []*paging.Format {
	levels := []int{4, 5}
	if n, ok := f.info.Number("pgtable_l5_enabled"); ok {
		levels = []int{4 + int(n&1)}
	} else {
		for _, c := range f.h.CPUs {
			if cr4, ok := c.Regs["cr4"]; ok {
				levels = []int{4 + int(cr4/cr4LA57&1)}
				break
			}
		}
	}
	mask, ok := f.info.Number("sme_mask")
	if !ok {
		mask = f.encrypted
	}
	var all []*paging.Format
	for _, n := range levels {
		format, err := paging.X86(paging.X86Options{Levels: n, SMEMask: mask, Kernel: f.version()})
		if err != nil {
			f.no("%v", err)
			continue
		}
		all = append(all, format)
	}
	return all
}

// x86CR3 tries the root of each processor: as it is, and as the kernel's half of a pair
// under PTI. The one that maps most of the kernel's image is taken.
func (f *finder) x86CR3(formats []*paging.Format) {
	var best Found
	var most uint64
	known := false
	for _, c := range f.h.CPUs {
		cr3, ok := c.Regs["cr3"]
		if !ok {
			continue
		}
		known = true
		roots := []uint64{cr3 & cr3Root}
		if cr3&cr3User != 0 {
			roots = append(roots, cr3&cr3Root&^cr3User)
		}
		for _, root := range roots {
			for _, format := range formats {
				from := fmt.Sprintf("CR3 %s of %s", hex(cr3), c.Name)
				if f.hasLandmark() {
					if f.try(attempt{format: format, root: root, from: from}) {
						return
					}
					continue
				}
				n, found := f.weigh(format, root, from)
				if n > most {
					most, best = n, found
				}
			}
		}
	}
	if !known {
		f.no("CR3: no processor's registers are known")
	}
	if most >= x86Least {
		f.found = &best
	}
}

// weigh counts how much of the kernel's image the tables map. An image is in one piece.
func (f *finder) weigh(format *paging.Format, root uint64, from string) (uint64, Found) {
	tables := paging.NewTables(f.phys, format, remora.Addr(root), f.use)
	s := shape{elf.EM_X86_64, format, 0, remora.Range{Start: x86Image, Size: x86ImageSize}}
	first, image := s.firstPiece(f, tables)
	if image.Size < x86Least || image.Size > maxImage {
		f.no("root %s (%s; %v): %d bytes of the kernel's image are mapped in one piece", hex(root), from, format, image.Size)
		return 0, Found{}
	}
	return image.Size, Found{Format: format, Root: remora.Addr(root), Machine: elf.EM_X86_64, How: from,
		Image: true, ImageBase: uint64(image.Start) - uint64(first), Checked: []string{
			fmt.Sprintf("%d KiB are mapped in one piece where the kernel's image is", image.Size>>10), "the lower half is that of the task that ran"}}
}
