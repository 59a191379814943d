// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"debug/elf"

	"github.com/remora-go/remora"
)

// Layout is where a kernel has physical memory mapped that lies in one piece. What is
// not known is left out.
type Layout struct {
	// Direct says that physical address 0 is, or would be, at DirectBase, and all other
	// memory behind it.
	Direct     bool
	DirectBase remora.Addr
	// Image is the kernel's own image.
	Image []Piece
}

// Piece is a run of physical addresses, and where it is mapped.
type Piece struct {
	remora.Range
	Virt remora.Addr
}

// imageAlign is what the kernel's image is aligned to at least: what lies before _stext
// up to there is a part of it.
const imageAlign = 2 << 20

// Layout finds out the layout by the page tables.
func (k *Kernel) Layout(ctx context.Context) (*Layout, error) {
	found, err := k.Tables(ctx)
	if err != nil {
		return nil, err
	}
	l := &Layout{}
	stext, ok := found.symbol("_stext")
	if found.Image && ok {
		l.Image = k.imageAt(ctx, stext)
	}
	if len(l.Image) == 0 {
		return l, ctx.Err()
	}
	// The kernel's image is in the direct map as well, which proves a base.
	text := l.Image[0].Start
	for _, base := range k.directBases(ctx, text) {
		if e := k.Translate(ctx, base+text); e.Err == nil && e.Phys+(base+text-e.Virt) == text {
			l.Direct, l.DirectBase = true, base
			break
		}
	}
	return l, ctx.Err()
}

// imageGap is how much of the kernel's image may be unmapped in one piece: with PTI the
// kernel takes back what lies between its parts (free_kernel_image_pages).
const imageGap = 64 << 20

// imageAt follows the kernel's image up from _stext, as long as all of it that is mapped
// lies in one piece in physical memory.
func (k *Kernel) imageAt(ctx context.Context, stext remora.Addr) (all []Piece) {
	first := stext &^ (imageAlign - 1)
	e := k.Translate(ctx, first)
	if e.Err != nil {
		first = stext
		e = k.Translate(ctx, first)
	}
	if e.Err != nil {
		return nil
	}
	base, end, mapped := e.Virt-e.Phys, first, first
	for ; end-first < x86ImageSize && end-mapped <= imageGap && ctx.Err() == nil; e = k.Translate(ctx, end) {
		if e.Err == nil && e.Virt-e.Phys != base {
			break
		}
		from := end
		if end = e.Virt + remora.Addr(e.Size); end < from {
			break // the last address
		}
		if e.Err != nil {
			continue
		}
		mapped = end
		if n := len(all); n > 0 && all[n-1].Virt+remora.Addr(all[n-1].Size) == from {
			all[n-1].Size += uint64(end - from)
		} else {
			all = append(all, Piece{remora.Range{Start: from - base, Size: uint64(end - from)}, from})
		}
	}
	return all
}

// formulaBases gives where the direct map begins, as the numbers of arm64 and riscv64 have
// it.
func formulaBases(info *VMCoreInfo) (all []remora.Addr) {
	if offset, ok := info.Number("PHYS_OFFSET"); ok {
		if bits, ok := info.Number("VA_BITS"); ok && bits > 32 && bits < 64 {
			all = append(all, remora.Addr(-(uint64(1)<<bits)-offset), remora.Addr(-(uint64(1)<<(bits-1))-offset))
		}
	}
	if offset, ok := info.Number("PAGE_OFFSET"); ok {
		if base, ok := info.Number("phys_ram_base"); ok {
			all = append(all, remora.Addr(offset-base))
		}
	}
	return all
}

// directBases gives where the direct map may begin: as the kernel has it, or, on x86-64,
// as the lowest mapping of its half.
func (k *Kernel) directBases(ctx context.Context, text remora.Addr) []remora.Addr {
	all := formulaBases(k.VMCoreInfo())
	if k.found.Machine != elf.EM_X86_64 {
		return all
	}
	// The direct map is aligned to what an entry of the third level maps.
	const align = 1 << 30
	a, tries := remora.Addr(1)<<63, 0
	for ; a != 0 && a < x86Image && tries < 1<<16 && ctx.Err() == nil; tries++ {
		e := k.Translate(ctx, a)
		if base := e.Virt - e.Phys; e.Err == nil && base%align == 0 && base+text > base {
			return append(all, base)
		}
		a = e.Virt + remora.Addr(e.Size)
	}
	return all
}
