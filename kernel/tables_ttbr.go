// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"debug/elf"
	"fmt"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/paging"
)

// arm64TTBR tries the root of each processor. Where no symbol is there to check it by, it
// must map a piece of code that is as large as the kernel's.
func (f *finder) arm64TTBR() {
	if len(f.h.CPUs) == 0 {
		return
	}
	known := false
	for i := range f.h.CPUs {
		for _, r := range f.h.CPUs[i].Roots(elf.EM_AARCH64) {
			known = true
			if f.hasLandmark() {
				if f.try(attempt{format: r.Format, root: uint64(r.Table), from: r.From}) {
					return
				}
				continue
			}
			g := &Found{Format: r.Format, Root: r.Table, Machine: elf.EM_AARCH64, How: r.From}
			s := f.imageShape(g)
			first, image := s.firstPiece(f, paging.NewTables(f.phys, r.Format, r.Table, f.use))
			if image.Size < x86Least || image.Size > maxImage {
				f.no("root %v (%s; %v): no code as large as the kernel's is mapped", r.Table, r.From, r.Format)
				continue
			}
			g.Image, g.ImageBase = true, uint64(image.Start)-uint64(first)
			g.Checked = []string{fmt.Sprintf("%d KiB are mapped in one piece from code at %v on", image.Size>>10, first)}
			f.found = g
			return
		}
	}
	if !known {
		f.no("TTBR1_EL1: no processor's registers tell of tables")
	}
}

// imageShape says where the tables that a register leads to may have the kernel's image. On
// arm64 that is from the largest piece of code on that is mapped.
func (f *finder) imageShape(g *Found) shape {
	s := shape{g.Machine, g.Format, 0, remora.Range{Start: x86Image, Size: x86ImageSize}}
	if g.Machine != elf.EM_AARCH64 {
		s.machine = elf.EM_X86_64
		return s
	}
	s.image = remora.Range{}
	var code remora.Range
	for r, err := range paging.NewTables(f.phys, g.Format, g.Root, f.use).Regions(f.ctx) {
		if err != nil || r.Perm&remora.PermExec == 0 {
			continue
		}
		if r.Size > code.Size {
			code = r.Range
		}
	}
	if !code.Empty() {
		s.image = remora.Range{Start: code.Start, Size: min(maxImage, uint64(-code.Start))}
	}
	return s
}
