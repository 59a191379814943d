// SPDX-License-Identifier: Apache-2.0

package paging

import (
	"cmp"
	"fmt"

	"github.com/remora-go/remora"
)

// ARM64Options say what kind of tables an arm64 kernel has.
type ARM64Options struct {
	PageShift int // 12, 14 or 16: pages of 4, 16 or 64 KiB

	// VABits is the number of address bits at run time: 64 - TCR_EL1.T1SZ with 4
	// and 16 KiB pages, where a kernel built for 52 bits makes do with 48 or 47 on
	// hardware without LPA2. With 64 KiB pages it is the VA_BITS that the kernel
	// was built for, as the tables keep their shape.
	VABits int

	// LPA2 says that descriptors have 52 bits of address with 4 or 16 KiB pages. It
	// follows from VABits 52; TCR_EL1.DS tells.
	LPA2 bool

	// PhysBits is what the kernel calls MAX_PHYSMEM_BITS; VMCOREINFO has it. It
	// bounds the frame numbers of pages that are being moved. 0: 52 with LPA2 and
	// with 64 KiB pages, else 48.
	PhysBits int

	Kernel  Version
	Special *Special // nil: SpecialOf(Kernel)
}

// The bits of a descriptor: Arm ARM, D8.3; arch/arm64/include/asm/pgtable-hwdef.h
// and pgtable-prot.h.
const (
	armValid    = 1 << 0
	armTable    = 1 << 1 // a table, or at level 1 a page; else a block
	armUser     = 1 << 6 // AP[1]
	armReadOnly = 1 << 7 // AP[2]
	armDBM      = 1 << 51
	armPXN      = 1 << 53
	armUXN      = 1 << 54

	armTablePXN      = 1 << 59
	armTableUXN      = 1 << 60
	armTableNoUser   = 1 << 61 // APTable[0]
	armTableReadOnly = 1 << 62 // APTable[1]

	// Of what is not valid: PTE_PRESENT_INVALID from 6.10 on; before that
	// PTE_PROT_NONE, and PMD_PRESENT_INVALID for huge pages (5.10).
	armPresentInvalid = 1 << 11
	armProtNone       = 1 << 58
	armHugeInvalid    = 1 << 59

	armBlockMin = 17 // bits 16 and below of a block's descriptor have other uses
)

// ARM64 gives the tables of arm64 with the stage 1 formats VMSAv8-64, of pages of 4,
// 16 and 64 KiB. One root serves one half of the address space: see Half.
func ARM64(o ARM64Options) (*Format, error) {
	if o.PageShift != 12 && o.PageShift != 14 && o.PageShift != 16 {
		return nil, fmt.Errorf("arm64 pages are 1<<12, 1<<14 or 1<<16 bytes, not 1<<%d", o.PageShift)
	}
	if o.PhysBits != 0 && (o.PhysBits < 32 || o.PhysBits > 52) {
		return nil, fmt.Errorf("arm64 physical addresses have at most 52 bits, not %d", o.PhysBits)
	}
	levels := (o.VABits - 4) / (o.PageShift - 3)
	if o.VABits < 36 || o.VABits > 52 || levels > maxLevels {
		return nil, fmt.Errorf("arm64 addresses have 36 to 52 bits, not %d", o.VABits)
	}
	lpa2 := o.PageShift != 16 && (o.LPA2 || o.VABits == 52)
	if !lpa2 && levels == maxLevels {
		return nil, fmt.Errorf("arm64: %d bits with 4 KiB pages need LPA2", o.VABits)
	}
	f := &Format{
		name:     fmt.Sprintf("arm64, %d KiB pages, %d-bit addresses, %d levels", 1<<o.PageShift>>10, o.VABits, levels),
		arch:     archARM64,
		leaf:     1<<1 | 1<<2,
		lpa2:     lpa2,
		none:     armPresentInvalid,
		hugeNone: armPresentInvalid,
		swap:     swapLayout{typeShift: 6, typeBits: 5, offShift: 12, offBits: 50, zero: armValid | armTable | armPresentInvalid},
	}
	f.setLevels(levels, uint(o.VABits), uint(o.PageShift))
	if lpa2 {
		f.name += ", LPA2"
	}
	phys := 48
	if lpa2 || o.PageShift == 16 {
		phys = 52
	}
	f.pfnBits = uint(cmp.Or(o.PhysBits, phys) - o.PageShift)
	switch { // blocks: Arm ARM, table D8-20 and those after it
	case o.PageShift == 12 && lpa2:
		f.leaf |= 1<<3 | 1<<4
	case o.PageShift != 14 || lpa2:
		f.leaf |= 1 << 3
	}
	if o.Kernel.before(6, 10) {
		f.none, f.hugeNone = armProtNone, armProtNone|armHugeInvalid
		f.swap = swapLayout{typeShift: 3, typeBits: 5, offShift: 8, offBits: 50, zero: armValid | armTable | armProtNone}
	}
	if o.Kernel.before(5, 19) {
		f.swap.typeShift, f.swap.typeBits = 2, 6
	}
	if !f.setSpecial(o.Special, o.Kernel) {
		return nil, fmt.Errorf("arm64: %+v are more swap types than there are", *o.Special)
	}
	return f, nil
}

func (f *Format) decodeARM64(e *Entry) {
	raw := e.Raw
	none := f.none
	if e.Level > 1 {
		none = f.hugeNone
	}
	switch {
	case raw&armValid == 0 && raw&none != 0:
		f.maps(e, KindProtNone, f.block(e))
	case raw&armValid == 0:
		f.decodeSwap(e)
	case raw&armTable != 0 && e.Level > 1:
		e.Kind, e.Phys = KindTable, remora.Addr(f.address(raw))
		user := raw&armTableNoUser == 0
		e.rights = grant(true, raw&armTableReadOnly == 0, false, user) | armExec(raw&armTablePXN != 0, raw&armTableUXN != 0)
	case raw&armTable == 0 && e.Level == 1:
		*e = e.corrupt("bits 1:0 are reserved at this level")
	default:
		f.maps(e, KindLeaf, f.block(e))
		if e.Kind == KindLeaf {
			e.rights = armRights(raw)
		}
	}
}

// address is the one in a descriptor.
func (f *Format) address(raw uint64) uint64 {
	page := f.shift[1]
	switch {
	case f.lpa2:
		return raw&(1<<50-1)>>page<<page | raw>>8&3<<50
	case page == 16:
		return raw&(1<<48-1)>>page<<page | raw>>12&0xf<<48
	}
	return raw & (1<<48 - 1) >> page << page
}

// block is the address in the descriptor of a page or a block. Of a block's the
// bits below its size are reserved, but for the lowest, which have other uses
// (nT, and the high part of an address). Those keep the address unaligned.
func (f *Format) block(e *Entry) uint64 {
	a := f.address(e.Raw)
	if e.Level > 1 {
		a &^= 1<<min(armBlockMin, f.shift[e.Level]) - 1
	}
	return a
}

// armRights are those of a page or a block. A clean page that hardware may make
// dirty is read-only with DBM set. Pages that the user may only execute lack AP[1]
// and UXN, and always have PXN.
func armRights(raw uint64) rights {
	user, pxn, uxn := raw&armUser != 0, raw&armPXN != 0, raw&armUXN != 0
	write := raw&armReadOnly == 0 || raw&armDBM != 0
	if !user && pxn && !uxn {
		return userExec | userMode
	}
	return grant(true, write, false, user) | armExec(pxn, uxn)
}

func armExec(pxn, uxn bool) rights {
	var r rights
	if !pxn {
		r |= kernelExec
	}
	if !uxn {
		r |= userExec
	}
	return r
}
