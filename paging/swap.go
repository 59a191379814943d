// SPDX-License-Identifier: Apache-2.0

package paging

import "github.com/remora-go/remora"

// swapLayout says where the type and the offset of a swap entry are.
type swapLayout struct {
	typeShift, typeBits uint
	offShift, offBits   uint
	inverted            bool   // the offset is
	zero                uint64 // bits that are never set
}

// Special says how many swap types are no swap areas, and what they are: the last
// ones of swapTypes, in the order of these fields (include/linux/swap.h). The
// numbers depend on the kernel's configuration, which nothing in an image tells;
// one check is that the types below are areas that the kernel has.
type Special struct {
	Poison    int // CONFIG_MEMORY_FAILURE: 1
	Migration int // CONFIG_MIGRATION: 3, before 5.19 2
	Device    int // CONFIG_DEVICE_PRIVATE: 3, before 6.15 4, before 5.14 2
	Marker    int // from 5.19: 1; before 6.2 with CONFIG_PTE_MARKER
	Failed    int // pages that could not be swapped in, 5.19 to 6.1: 1
}

// swapTypes is the number of swap types (1 << MAX_SWAPFILES_SHIFT).
const swapTypes = 32

// SpecialOf gives the Special of a kernel in which all of it is configured, as it is
// in those of the distributions.
func SpecialOf(v Version) Special {
	s := Special{Poison: 1, Migration: 3, Device: 3, Marker: 1}
	if v.before(6, 2) {
		s.Failed = 1
	}
	if v.before(6, 15) {
		s.Device = 4
	}
	if v.before(5, 19) {
		s.Migration, s.Marker, s.Failed = 2, 0, 0
	}
	if v.before(5, 14) {
		s.Device = 2
	}
	return s
}

// setSpecial lays the special types out; it gives false if they do not fit.
func (f *Format) setSpecial(given *Special, v Version) bool {
	s := SpecialOf(v)
	if given != nil {
		s = *given
	}
	runs := []struct {
		n    int
		kind Kind
	}{{s.Poison, KindPoison}, {s.Migration, KindMigration}, {s.Device, KindDevice}, {s.Marker, KindMarker}, {s.Failed, KindPoison}}
	sum := 0
	for _, r := range runs {
		if r.n < 0 || r.n > swapTypes {
			return false
		}
		sum += r.n
	}
	if sum > swapTypes {
		return false
	}
	for i := range f.kinds {
		f.kinds[i] = KindSwap
		if i >= swapTypes {
			f.kinds[i] = KindCorrupt
		}
	}
	at := swapTypes - sum
	for _, r := range runs {
		for range r.n {
			f.kinds[at] = r.kind
			at++
		}
		if r.kind == KindMigration && r.n > 0 {
			f.writable[at-1] = true
		}
	}
	return true
}

// decodeSwap makes e what a non-empty entry is that is neither present nor PROT_NONE.
// Areas and markers are of single pages; the others are of huge pages, too
// (hugetlbfs has all of them at its levels).
func (f *Format) decodeSwap(e *Entry) {
	s := &f.swap
	off := e.Raw
	if s.inverted {
		off = ^off
	}
	e.Type = uint8(e.Raw >> s.typeShift & (1<<s.typeBits - 1))
	e.Offset = off >> s.offShift & (1<<s.offBits - 1)
	kind := f.kinds[e.Type]
	switch {
	case e.Raw&s.zero != 0:
		*e = e.corrupt("neither present, nor PROT_NONE, nor swap")
	case !f.mayMap(e.Level) || e.Level > mostHuge:
		*e = e.corrupt("not empty and not present, at a level that maps no memory")
	case kind == KindCorrupt:
		*e = e.corrupt("there is no such swap type")
	case kind == KindMigration:
		f.maps(e, kind, e.Offset&(1<<f.pfnBits-1)<<f.shift[1])
		e.rights = grant(true, f.writable[e.Type], false, true)
	case kind == KindPoison || kind == KindDevice:
		e.Kind = kind
		e.Phys = remora.Addr(e.Offset & (1<<f.pfnBits - 1) << f.shift[1])
	default:
		e.Kind = kind
	}
}
