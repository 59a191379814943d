// SPDX-License-Identifier: Apache-2.0

package paging

import (
	"fmt"

	"github.com/remora-go/remora"
)

// Kind is what an entry of a page table is.
type Kind uint8

// The kinds. What is there in memory is KindLeaf, KindProtNone and KindMigration.
const (
	KindNone      Kind = iota // empty
	KindTable                 // leads to a table of the level below
	KindLeaf                  // maps memory
	KindProtNone              // maps memory, with no access: PROT_NONE, NUMA hinting, a huge page being split
	KindSwap                  // in a swap area
	KindMigration             // the page is being moved, and still in memory
	KindPoison                // the hardware reported the page as bad
	KindDevice                // in the memory of a device
	KindMarker                // no page, but a note: see Entry.Offset
	KindInvalid               // not present, where the kernel has no pages to swap out
	KindCorrupt               // against the rules of the format
)

func (k Kind) String() string {
	names := [...]string{"none", "table", "leaf", "protnone", "swap", "migration", "hwpoison", "device", "marker", "invalid", "corrupt"}
	if int(k) < len(names) {
		return names[k]
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// The bits of Entry.Offset in a marker (PTE_MARKER_* in include/linux/swapops.h).
const (
	markerUffdWP = 1 << iota // userfaultfd write protection, 5.19
	markerPoison             // 6.2
	markerGuard              // 6.13
)

// Entry is a decoded entry.
type Entry struct {
	Kind   Kind
	Level  int
	Name   string // of the level: "PTE"
	Raw    uint64
	Phys   remora.Addr // the table or the memory that it leads to; also of poison and device
	Size   uint64      // bytes of address space that share it: more than one page for NAPOT
	Perm   remora.Perm // what it allows; of a table: what it does not forbid
	Type   uint8       // of all that is neither present nor PROT_NONE: the swap type
	Offset uint64      // and the swap offset
	Why    string      // KindCorrupt: the rule

	rights rights
}

// Err gives the cause for which what e governs cannot be read, or nil if it can be,
// or leads to a table.
func (e *Entry) Err() error {
	switch e.Kind {
	case KindTable, KindLeaf, KindProtNone, KindMigration:
		return nil
	case KindNone, KindInvalid:
		return remora.ErrUnmapped
	case KindPoison:
		return remora.ErrPoisoned
	case KindDevice:
		return remora.ErrDevice
	case KindCorrupt:
		return remora.ErrCorrupt
	case KindMarker:
		switch {
		case e.Offset&markerGuard != 0:
			return remora.ErrGuard
		case e.Offset&markerPoison != 0:
			return remora.ErrPoisoned
		}
	}
	return remora.ErrNotPresent
}

// String says what e is in words: "swap: type 0, offset 0x1".
func (e Entry) String() string {
	switch e.Kind {
	case KindTable:
		return "table at " + e.Phys.String()
	case KindLeaf:
		return fmt.Sprintf("%s of %s", e.Phys, e.rightsText())
	case KindProtNone:
		return e.Phys.String() + ", no access allowed"
	case KindSwap:
		return fmt.Sprintf("swap: type %d, offset 0x%x", e.Type, e.Offset)
	case KindMigration:
		return fmt.Sprintf("being moved from %s (type %d)", e.Phys, e.Type)
	case KindPoison, KindDevice:
		return fmt.Sprintf("%s: frame at %s (type %d)", e.Kind, e.Phys, e.Type)
	case KindMarker:
		return "marker: " + e.markerText()
	case KindInvalid:
		return "not present, in the half of the kernel"
	case KindCorrupt:
		return "damaged: " + e.Why
	}
	return "empty"
}

// rightsText is Perm with a fourth letter: u for the user's, k for the kernel's.
func (e *Entry) rightsText() string {
	if e.Perm&remora.PermUser != 0 {
		return e.Perm.String() + "u"
	}
	return e.Perm.String() + "k"
}

func (e *Entry) markerText() string {
	switch {
	case e.Offset&markerGuard != 0:
		return "guard"
	case e.Offset&markerPoison != 0:
		return "poison"
	case e.Offset&markerUffdWP != 0:
		return "userfaultfd write protection"
	}
	return fmt.Sprintf("0x%x", e.Offset)
}

func (e Entry) corrupt(why string) Entry {
	return Entry{Kind: KindCorrupt, Level: e.Level, Name: e.Name, Raw: e.Raw, Size: e.Size, Why: why}
}

// at is the address of the part of e that the entry number i of its table governs.
func (e *Entry) at(i int, shift uint) remora.Addr {
	return e.Phys + remora.Addr(uint64(i)<<shift&(e.Size-1))
}

// rights are those of an entry by themselves; those of a path are what all its
// entries have.
type rights uint8

const (
	mayRead rights = 1 << iota
	mayWrite
	kernelExec
	userExec
	userMode
	allRights = mayRead | mayWrite | kernelExec | userExec | userMode
)

// perm puts rights as a Perm: what the user may do with what is the user's, and the
// kernel with the rest.
func (r rights) perm() remora.Perm {
	var p remora.Perm
	exec := kernelExec
	if r&userMode != 0 {
		p, exec = remora.PermUser, userExec
	}
	if r&mayRead != 0 {
		p |= remora.PermRead
	}
	if r&mayWrite != 0 {
		p |= remora.PermWrite
	}
	if r&exec != 0 {
		p |= remora.PermExec
	}
	return p
}

// grant gives the rights that are set, each by its condition.
func grant(read, write, exec, user bool) rights {
	var r rights
	if read {
		r |= mayRead
	}
	if write {
		r |= mayWrite
	}
	if exec {
		r |= kernelExec | userExec
	}
	if user {
		r |= userMode
	}
	return r
}
