// SPDX-License-Identifier: Apache-2.0

package paging

import (
	"fmt"

	"github.com/remora-go/remora"
)

// RISCVOptions say what kind of tables a riscv64 kernel has.
type RISCVOptions struct {
	VABits  int  // 39, 48 or 57: Sv39, Sv48, Sv57
	THead   bool // bits 63:59 are the memory types of T-Head's C9xx
	Kernel  Version
	Special *Special // nil: SpecialOf(Kernel)
}

// The bits of an entry: RISC-V privileged architecture, 12.4; and, of what is not
// valid, arch/riscv/include/asm/pgtable-bits.h.
const (
	rvValid = 1 << 0
	rvRead  = 1 << 1
	rvWrite = 1 << 2
	rvExec  = 1 << 3
	rvUser  = 1 << 4
	rvNone  = 1 << 5 // _PAGE_PROT_NONE, the global bit; until 5.16 it was rvRead
	rvLeaf  = rvRead | rvWrite | rvExec

	rvAccessedDirty = 3 << 6
	rvReserved      = 0x1f << 54 // 60:59 are for software with Svrsw60t59b
	rvMemoryType    = 3 << 61    // Svpbmt; 3 is reserved
	rvNAPOT         = 1 << 63
	rvTHeadTypes    = 0x1f << 59

	rvFrame     = 10 // the lowest bit of the frame number
	rvFrameBits = 44
	napotShift  = 16 // the one size there is, 64 KiB
)

// RISCV gives the tables of riscv64. Every level may map memory.
func RISCV(o RISCVOptions) (*Format, error) {
	if o.VABits != 39 && o.VABits != 48 && o.VABits != 57 {
		return nil, fmt.Errorf("riscv64 addresses have 39, 48 or 57 bits, not %d", o.VABits)
	}
	levels := (o.VABits - 12) / 9
	f := &Format{
		name:     fmt.Sprintf("riscv64, Sv%d", o.VABits),
		arch:     archRISCV,
		split:    true,
		leaf:     1<<(levels+1) - 2,
		none:     rvNone,
		hugeNone: rvNone | rvLeaf,
		swap:     swapLayout{typeShift: 7, typeBits: 5, offShift: 12, offBits: 52, zero: rvLeaf | rvNone},
		pfnBits:  rvFrameBits,
	}
	f.setLevels(levels, uint(o.VABits), 12)
	if o.THead {
		f.ignored = rvTHeadTypes
		f.name += ", T-Head"
	}
	switch {
	case o.Kernel.before(5, 17):
		f.none = rvRead
		f.swap = swapLayout{typeShift: 2, typeBits: 5, offShift: 7, offBits: 57, zero: rvRead}
	case o.Kernel.before(6, 3):
		f.swap = swapLayout{typeShift: 6, typeBits: 5, offShift: 11, offBits: 53, zero: rvLeaf | rvNone}
	}
	if !f.setSpecial(o.Special, o.Kernel) {
		return nil, fmt.Errorf("riscv64: %+v are more swap types than there are", *o.Special)
	}
	return f, nil
}

func (f *Format) decodeRISCV(e *Entry) {
	raw := e.Raw &^ f.ignored
	phys := raw >> rvFrame & (1<<rvFrameBits - 1) << 12
	if raw&rvValid == 0 {
		none := f.none
		if e.Level > 1 {
			none = f.hugeNone // pmd_present: a huge page being split has lost V alone
		}
		if raw&none == 0 {
			f.decodeSwap(e)
			return
		}
		f.mapsRISCV(e, KindProtNone, raw, phys)
		return
	}
	switch {
	case raw&rvReserved != 0:
		*e = e.corrupt("bits 58:54 are reserved")
	case raw&rvLeaf == 0 && raw&(rvUser|rvAccessedDirty|rvMemoryType|rvNAPOT) != 0:
		*e = e.corrupt("U, A, D, PBMT and N are reserved in what leads to a table")
	case raw&rvLeaf == 0 && e.Level == 1:
		*e = e.corrupt("leads to a table, at the lowest level")
	case raw&rvLeaf == 0:
		e.Kind, e.Phys, e.rights = KindTable, remora.Addr(phys), allRights
	case raw&(rvRead|rvWrite) == rvWrite:
		*e = e.corrupt("W without R is reserved")
	case raw&rvMemoryType == rvMemoryType:
		*e = e.corrupt("PBMT 3 is reserved")
	default:
		f.mapsRISCV(e, KindLeaf, raw, phys)
		if e.Kind == KindLeaf {
			e.rights = grant(raw&rvRead != 0, raw&rvWrite != 0, raw&rvExec != 0, raw&rvUser != 0)
		}
	}
}

// mapsRISCV makes e a mapping, which may be one of Svnapot: N is set, and the low
// bits of the frame number hold the size in place of the address.
func (f *Format) mapsRISCV(e *Entry, kind Kind, raw, phys uint64) {
	if raw&rvNAPOT == 0 {
		f.maps(e, kind, phys)
		return
	}
	const low = 1<<napotShift - 1
	if e.Level != 1 || phys&low != (low+1)/2 {
		*e = e.corrupt("a NAPOT size that is reserved")
		return
	}
	e.Size = low + 1
	f.maps(e, kind, phys&^low)
}
