// SPDX-License-Identifier: Apache-2.0

package paging

import (
	"fmt"

	"github.com/remora-go/remora"
)

// Format is the geometry of one kind of page tables, and how their entries are
// read. It is not changed once it is made.
//
// Levels are counted from the bottom: level 1 holds the entries for single pages.
type Format struct {
	name   string
	arch   arch
	levels int
	va     uint                // bits of an address that are translated
	split  bool                // one root serves both halves of the address space
	shift  [maxLevels + 1]uint // of what one entry of a level maps
	width  [maxLevels + 1]uint // bits of the index into a table of a level
	names  [maxLevels + 1]string
	leaf   uint // levels that may map memory, a bit each

	ignored  uint64 // riscv: bits that do not count, T-Head's memory types
	physical uint64 // x86: bits of an entry that hold an address
	lpa2     bool   // arm64: descriptors with 52 bits of address, 4 and 16 KiB pages
	inverted bool   // x86: entries that are not present have their address inverted
	none     uint64 // bits of a PROT_NONE page, at level 1
	hugeNone uint64 // bits of which one says so, at the levels above
	swap     swapLayout
	kinds    [64]Kind // by swap type
	writable [64]bool // of migration: the page was
	pfnBits  uint     // of a frame number in a swap offset
}

const (
	maxLevels = 5
	mostHuge  = 3 // the highest level at which Linux has huge pages of processes
)

// arch is what Format.Decode goes by.
type arch uint8

const (
	archX86 arch = iota + 1
	archARM64
	archRISCV
)

// Version is that of a Linux kernel: what is written in entries that are not present
// has changed over time. The zero Version is that of the newest kernel known here.
type Version struct{ Major, Minor int }

// before says whether v is older than major.minor.
func (v Version) before(major, minor int) bool {
	return v != Version{} && (v.Major < major || v.Major == major && v.Minor < minor)
}

// String says what the tables are: "x86-64, 5 levels".
func (f *Format) String() string { return f.name }

// Levels is the number of levels.
func (f *Format) Levels() int { return f.levels }

// PageSize is the size of a page in bytes.
func (f *Format) PageSize() uint64 { return 1 << f.shift[1] }

// LevelName gives the name that Linux has for the entries of a level: "PTE" for
// level 1, "PGD" for the highest.
func (f *Format) LevelName(level int) string {
	if level < 1 || level > f.levels {
		return fmt.Sprintf("level %d", level)
	}
	return f.names[level]
}

// setLevels lays out n levels for addresses of va bits and pages of 1<<page bytes:
// each table is a page of 8-byte entries, and the top one takes what bits remain.
func (f *Format) setLevels(n int, va, page uint) {
	f.levels, f.va = n, va
	f.names = [...]string{"", "PTE", "PMD", "PUD", "P4D", ""}
	f.names[n] = "PGD"
	at := page
	for l := 1; l <= n; l++ {
		f.shift[l], f.width[l] = at, min(page-3, va-at)
		at += page - 3
	}
}

// entries is the number of entries in a table of a level.
func (f *Format) entries(level int) int { return 1 << f.width[level] }

// entrySize is how many bytes one entry of a level governs.
func (f *Format) entrySize(level int) uint64 { return 1 << f.shift[level] }

// halfBits is the number of bits that address one half of the space.
func (f *Format) halfBits() uint {
	if f.split {
		return f.va - 1
	}
	return f.va
}

func (f *Format) mayMap(level int) bool { return f.leaf&(1<<level) != 0 }

// Decode says what an entry of a level means. Only Tables know what lies around
// it: which half of the space it is in, and where memory is.
func (f *Format) Decode(level int, raw uint64) Entry {
	var e Entry
	if level < 1 || level > f.levels {
		e.Level, e.Raw = level, raw
		return e.corrupt("there is no such level")
	}
	f.decode(&e, level, raw)
	return e
}

// decode makes e the entry raw of a level that there is.
func (f *Format) decode(e *Entry, level int, raw uint64) {
	*e = Entry{Level: level, Raw: raw, Name: f.names[level], Size: f.entrySize(level)}
	if raw == 0 {
		return
	}
	switch f.arch {
	case archX86:
		f.decodeX86(e)
	case archARM64:
		f.decodeARM64(e)
	default:
		f.decodeRISCV(e)
	}
	e.Perm = e.rights.perm()
}

// maps makes e a mapping of the memory at phys, if it may be one at its level.
func (f *Format) maps(e *Entry, kind Kind, phys uint64) {
	switch {
	case !f.mayMap(e.Level):
		*e = e.corrupt("no entry of this level maps memory")
	case kind != KindLeaf && e.Level > mostHuge:
		*e = e.corrupt("Linux has no huge page of this size")
	case phys&(e.Size-1) != 0:
		*e = e.corrupt("the address is not aligned to the size")
	default:
		e.Kind, e.Phys = kind, remora.Addr(phys)
	}
}
