// SPDX-License-Identifier: Apache-2.0

package paging

import (
	"fmt"

	"github.com/remora-go/remora"
)

// X86Options say what kind of tables an x86-64 kernel has.
type X86Options struct {
	Levels int // 4, or 5 where CR4.LA57 is set; 0: 4

	// SMEMask has the bit that marks encrypted memory (AMD's C-bit), or 0. It is
	// no part of an address.
	SMEMask uint64

	Kernel Version

	// Plain says that entries that are not present have their address as it is. The
	// fix for L1TF inverts it (4.18), and went into older kernels, too, so Kernel
	// does not tell. See also Options.RAM.
	Plain bool

	Special *Special // nil: SpecialOf(Kernel)
}

// The bits of an entry: Intel SDM volume 3, 4.5; arch/x86/include/asm/pgtable_types.h.
const (
	x86Present = 1 << 0
	x86Write   = 1 << 1
	x86User    = 1 << 2
	x86Huge    = 1 << 7 // above level 1; there it is PAT
	x86None    = 1 << 8 // when not present: _PAGE_PROTNONE
	x86HugePAT = 1 << 12
	x86NoExec  = 1 << 63

	x86Address = 0x000ffffffffff000
)

// X86 gives the tables of x86-64. Huge pages are those of 2 MiB and 1 GiB.
func X86(o X86Options) (*Format, error) {
	if o.Levels == 0 {
		o.Levels = 4
	}
	if o.Levels != 4 && o.Levels != 5 {
		return nil, fmt.Errorf("x86-64 page tables have 4 or 5 levels, not %d", o.Levels)
	}
	if o.SMEMask&^(x86Address>>steady<<steady) != 0 {
		return nil, fmt.Errorf("x86-64: SME mask 0x%x is not one of bits 40 to 51", o.SMEMask)
	}
	f := &Format{
		name:     fmt.Sprintf("x86-64, %d levels", o.Levels),
		arch:     archX86,
		split:    true,
		leaf:     1<<1 | 1<<2 | 1<<3,
		physical: x86Address &^ o.SMEMask,
		inverted: !o.Plain,
		none:     x86None,
		hugeNone: x86Huge,
		pfnBits:  46 - 12, // MAX_PHYSMEM_BITS
	}
	f.setLevels(o.Levels, uint(12+9*o.Levels), 12)
	if o.Levels == 5 {
		f.pfnBits = 52 - 12
	}
	switch {
	case !o.Plain:
		f.swap = swapLayout{typeShift: 59, typeBits: 5, offShift: 9, offBits: 50, inverted: true, zero: x86None | x86Huge}
	case !o.Kernel.before(4, 8):
		f.swap = swapLayout{typeShift: 9, typeBits: 5, offShift: 14, offBits: 50, zero: x86None}
	default:
		f.swap = swapLayout{typeShift: 1, typeBits: 5, offShift: 9, offBits: 55, zero: x86None}
	}
	if !f.setSpecial(o.Special, o.Kernel) {
		return nil, fmt.Errorf("x86-64: %+v are more swap types than there are", *o.Special)
	}
	return f, nil
}

func (f *Format) decodeX86(e *Entry) {
	raw := e.Raw
	if raw&x86Present == 0 {
		f.absentX86(e)
		return
	}
	e.rights = grant(true, raw&x86Write != 0, raw&x86NoExec == 0, raw&x86User != 0)
	switch {
	case e.Level == 1:
		f.maps(e, KindLeaf, raw&f.physical)
	case raw&x86Huge == 0:
		e.Kind, e.Phys = KindTable, remora.Addr(raw&f.physical)
	default:
		f.maps(e, KindLeaf, raw&f.physical&^x86HugePAT)
	}
}

// absentX86 decodes an entry that is not present. Linux takes a huge page with P
// clear for a mapped one (pmd_present), be it PROT_NONE or about to be split.
func (f *Format) absentX86(e *Entry) {
	raw := e.Raw
	none := f.none
	if e.Level > 1 {
		none = f.hugeNone
	}
	if raw&none == 0 {
		f.decodeSwap(e)
		return
	}
	// Of a huge page only the bits from its size up are an address, and inverted.
	if raw&f.physical&(e.Size-1)&^x86HugePAT != 0 {
		*e = e.corrupt("the address is not aligned to the size")
		return
	}
	if f.inverted {
		raw = ^raw
	}
	f.maps(e, KindProtNone, raw&f.physical&^(e.Size-1))
}

// turned gives the address in a PROT_NONE entry as a kernel writes it that does, or
// does not, invert addresses, unlike f.
func (f *Format) turned(e *Entry) remora.Addr {
	return remora.Addr(^uint64(e.Phys) & f.physical &^ (e.Size - 1))
}
