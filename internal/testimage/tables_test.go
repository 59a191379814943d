// SPDX-License-Identifier: Apache-2.0

package testimage_test

import (
	"encoding/binary"
	"testing"

	"github.com/remora-go/remora/internal/testimage"
)

// walk translates as the machine's manual says. ok is false when nothing is mapped.
func walk(mem *testimage.Physical, m testimage.TableMode, root, virt uint64) (phys uint64, ok bool) {
	bitsAt := func(v uint64, high, low uint) uint64 { return v >> low & (1<<(high-low+1) - 1) }
	read := func(at uint64) uint64 {
		page, _ := mem.Page(at / uint64(mem.Size()))
		if page == nil {
			return 0
		}
		return binary.LittleEndian.Uint64(page[at%uint64(mem.Size()):])
	}
	per := m.PageShift - 3
	for shift := m.PageShift + per*uint(m.Levels-1); ; shift -= per {
		index := bitsAt(virt, min(shift+per, m.VABits)-1, shift)
		entry := read(root + 8*index)
		var next uint64
		leaf := shift == m.PageShift
		if entry&1 == 0 {
			return 0, false
		}
		switch m.Arch {
		case "x86-64":
			leaf = leaf || entry>>7&1 == 1
			next = entry & 0x000ffffffffff000
		case "riscv64":
			leaf = entry&0xe != 0
			next = bitsAt(entry, 53, 10) << 12
		default:
			if leaf && entry&3 != 3 {
				return 0, false
			}
			leaf = leaf || entry&2 == 0
			next = bitsAt(entry, 47, m.PageShift) << m.PageShift
			switch {
			case m.Wide && m.PageShift == 16:
				next |= bitsAt(entry, 15, 12) << 48
			case m.Wide:
				next |= bitsAt(entry, 49, 48)<<48 | bitsAt(entry, 9, 8)<<50
			}
		}
		if leaf {
			offset := bitsAt(virt, shift-1, 0)
			return next&^(1<<shift-1) | offset, true
		}
		root = next
	}
}

func TestTables(t *testing.T) {
	for _, m := range testimage.TableModes() {
		t.Run(m.String(), func(t *testing.T) {
			mem := &testimage.Physical{PageSize: 1 << m.PageShift}
			high := uint64(0)
			if m.Wide {
				high = 0xb << 48
			}
			tables := testimage.NewTables(mem, m, 5<<30|high)
			type mapping struct{ virt, phys, size uint64 }
			var all []mapping
			for i, size := range m.LeafSizes() {
				kernel := -size * uint64(3+2*i) // below 2^64
				user := size * uint64(7+5*i) & (1<<(m.VABits-1) - 1)
				all = append(all, mapping{kernel, size*3 | high, size}, mapping{user, size * 2, size})
			}
			all = append(all, mapping{-uint64(1 << m.PageShift), 1 << m.PageShift, 1 << m.PageShift})
			for _, a := range all {
				tables.Map(a.virt, a.phys, a.size)
			}
			for _, a := range all {
				for _, off := range []uint64{0, 8, a.size / 2, a.size - 1} {
					if phys, ok := walk(mem, m, tables.Root, a.virt+off); !ok || phys != a.phys+off {
						t.Errorf("%#x is at %#x, %v, want %#x", a.virt+off, phys, ok, a.phys+off)
					}
				}
			}
			if phys, ok := walk(mem, m, tables.Root, 0); ok {
				t.Errorf("0 is at %#x", phys)
			}
			tables.Set(all[0].virt, 1, 0x104)
			if _, ok := walk(mem, m, tables.Root, all[0].virt); ok {
				t.Error("an entry that was set is not")
			}
		})
	}
}

// TestAbsent holds entries against ones that kernels were seen to write, but for
// their flags, and against what the format says.
func TestAbsent(t *testing.T) {
	for _, m := range testimage.TableModes() {
		swapped, flags, none := uint64(0x7fffffffffffc0a), uint64(0xa), ^uint64(0x123456000)&0xffffffffff000|0x160
		switch m.Arch {
		case "arm64":
			swapped, flags, none = 0x1004, 4, 0
			if entry := m.ProtNone(1 << 30); entry&1 != 0 || entry>>11&1 != 1 || entry&(1<<30) == 0 {
				t.Errorf("%v: no access is %#x", m, entry)
			}
		case "riscv64":
			swapped, flags, none = 0x1040, 0x40, 0x123456<<10|0xe0
		}
		if got := m.Swapped(0, 1) | flags; got != swapped {
			t.Errorf("%v: swapped is %#x, want %#x", m, got, swapped)
		}
		if got := m.ProtNone(0x123456000); none != 0 && got != none {
			t.Errorf("%v: no access is %#x, want %#x", m, got, none)
		}
		if m.Swapped(3, 0x345) == m.Swapped(2, 0x345) {
			t.Errorf("%v: the area does not matter", m)
		}
	}
}
