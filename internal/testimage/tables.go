// SPDX-License-Identifier: Apache-2.0

package testimage

import (
	"encoding/binary"
	"fmt"
)

// TableMode is a shape of page tables. Levels count from 1, whose entries map
// pages, up to Levels, that of the root.
type TableMode struct {
	Arch      string // "x86-64", "arm64" or "riscv64"
	PageShift uint
	VABits    uint
	Levels    int
	Wide      bool // arm64: output addresses of 52 bits (LPA with 64 KiB pages, LPA2 with others)
}

// TableModes gives all modes.
func TableModes() []TableMode {
	return []TableMode{
		{"x86-64", 12, 48, 4, false},
		{"x86-64", 12, 57, 5, false},
		{"arm64", 12, 39, 3, false},
		{"arm64", 12, 48, 4, false},
		{"arm64", 12, 52, 5, true},
		{"arm64", 14, 36, 2, false},
		{"arm64", 14, 47, 3, false},
		{"arm64", 14, 48, 4, false},
		{"arm64", 14, 52, 4, true},
		{"arm64", 16, 42, 2, false},
		{"arm64", 16, 48, 3, false},
		{"arm64", 16, 52, 3, true},
		{"riscv64", 12, 39, 3, false},
		{"riscv64", 12, 48, 4, false},
		{"riscv64", 12, 57, 5, false},
	}
}

func (m TableMode) String() string {
	return fmt.Sprintf("%s, pages of %d KiB, %d bits, %d levels", m.Arch, 1<<m.PageShift>>10, m.VABits, m.Levels)
}

// Shift says how many bits of an address are below those that a level looks at.
func (m TableMode) Shift(level int) uint { return m.PageShift + uint(level-1)*(m.PageShift-3) }

// LeafSizes gives what leaves can map, in bytes, by level from 1.
func (m TableMode) LeafSizes() []uint64 {
	most := 2
	switch {
	case m.Arch == "riscv64":
		most = m.Levels
	case m.Arch == "x86-64", m.PageShift == 12 && !m.Wide:
		most = 3
	case m.PageShift == 12:
		most = 4
	case m.Wide:
		most = 3
	}
	var sizes []uint64
	for level := 1; level <= min(most, m.Levels); level++ {
		sizes = append(sizes, 1<<m.Shift(level))
	}
	return sizes
}

// Table gives the entry that leads to the table at phys.
func (m TableMode) Table(phys uint64) uint64 {
	switch m.Arch {
	case "x86-64":
		return phys | 0x67 // present, writable, user, accessed, dirty
	case "riscv64":
		return phys>>12<<10 | 1
	}
	return m.output(phys) | 3
}

// Leaf gives the entry of a level that maps what begins at phys.
func (m TableMode) Leaf(phys uint64, level int) uint64 {
	switch m.Arch {
	case "x86-64":
		if level > 1 {
			phys |= 1 << 7
		}
		return phys | 0x67
	case "riscv64":
		return phys>>12<<10 | 0xcf // valid, read, write, execute, accessed, dirty
	}
	const accessed, inner = 1 << 10, 3 << 8
	entry := m.output(phys) | accessed | 1
	if level == 1 {
		entry |= 2
	}
	if !m.Wide || m.PageShift == 16 {
		entry |= inner
	}
	return entry
}

// ProtNone gives the entry of level 1 for a page that is there, and that the
// process may not touch, as kernel 6.12 writes it.
func (m TableMode) ProtNone(phys uint64) uint64 {
	switch m.Arch {
	case "x86-64":
		return ^phys&0x000ffffffffff000 | 0x160 // the address inverted; accessed, dirty, no access
	case "riscv64":
		return phys>>12<<10 | 0xe0 // accessed, dirty, no access
	}
	return m.Leaf(phys, 1)&^1 | 1<<11
}

// Swapped gives the entry of level 1 for a page that is in a swap area, as kernel
// 6.12 writes it.
func (m TableMode) Swapped(area, offset uint64) uint64 {
	switch m.Arch {
	case "x86-64":
		return area<<59 | ^offset<<14>>5
	case "riscv64":
		return offset<<12 | area<<7
	}
	return offset<<12 | area<<6
}

// output is an output address in an arm64 descriptor.
func (m TableMode) output(phys uint64) uint64 {
	switch {
	case !m.Wide:
		return phys
	case m.PageShift == 16:
		return phys&(1<<48-1) | phys>>48&0xf<<12
	}
	return phys&(1<<50-1) | phys>>50&3<<8
}

// Tables are page tables that are being built in a Physical.
type Tables struct {
	Mem  *Physical
	Mode TableMode
	Root uint64 // physical address of the top table
	Next uint64 // physical address of the page that becomes the next table

	made map[uint64]uint64 // the tables by the entries that lead to them
}

// NewTables gives empty tables whose root is the page at the physical address at.
// The pages behind it become the other tables.
func NewTables(mem *Physical, mode TableMode, at uint64) *Tables {
	t := &Tables{Mem: mem, Mode: mode, Next: at, made: make(map[uint64]uint64)}
	t.Root = t.table()
	return t
}

// table makes an empty table.
func (t *Tables) table() uint64 {
	at := t.Next
	t.Next += 1 << t.Mode.PageShift
	t.Mem.Write(at, make([]byte, 1<<t.Mode.PageShift))
	t.made[t.Mode.Table(at)] = at
	return at
}

// Map maps size bytes, which must be one of LeafSizes, from virt to phys.
func (t *Tables) Map(virt, phys, size uint64) {
	for i, s := range t.Mode.LeafSizes() {
		if s == size {
			t.Set(virt, i+1, t.Mode.Leaf(phys, i+1))
			return
		}
	}
	panic(fmt.Sprintf("testimage: %v: no leaf maps %#x bytes", t.Mode, size))
}

// Set makes entry, as it is, that of virt at a level. The tables above it are made
// if need be.
func (t *Tables) Set(virt uint64, level int, entry uint64) {
	t.Mem.Put64(t.EntryAt(virt, level), entry, binary.LittleEndian)
}

// EntryAt is the physical address of the entry of virt at a level. The tables down
// to it are made if need be.
func (t *Tables) EntryAt(virt uint64, level int) uint64 {
	at := t.Root
	for l := t.Mode.Levels; ; l-- {
		at += 8 * t.index(virt, l)
		if l == level {
			return at
		}
		next := t.below(at)
		if next == 0 {
			next = t.table()
			t.Mem.Put64(at, t.Mode.Table(next), binary.LittleEndian)
		}
		at = next
	}
}

// index is the place of virt in a table of a level.
func (t *Tables) index(virt uint64, level int) uint64 {
	m := t.Mode
	return virt & (1<<m.VABits - 1) >> m.Shift(level) & (1<<(m.PageShift-3) - 1)
}

// below is the table that the entry at a physical address leads to, 0 for none.
func (t *Tables) below(at uint64) uint64 {
	size := uint64(t.Mem.Size())
	page, _ := t.Mem.Page(at / size)
	entry := binary.LittleEndian.Uint64(page[at%size:])
	if entry == 0 {
		return 0
	}
	if next, ok := t.made[entry]; ok {
		return next
	}
	panic(fmt.Sprintf("testimage: the entry %#x at %#x leads to no table", entry, at))
}
