// SPDX-License-Identifier: Apache-2.0

package qmp_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/remora-go/remora/internal/qmp"
)

// pcView is what a PC with 5 GiB, of which 1 was plugged in, prints under KVM.
const pcView = `FlatView #0
 AS "I/O", root: io
 Root memory region: io
  0000000000000000-0000000000000007 (prio 0, i/o): dma-chan

FlatView #1
 AS "memory", root: system
 AS "cpu-memory-0", root: system
 Root memory region: system
  0000000000000000-000000000009ffff (prio 0, ram): pc.ram KVM
  00000000000a0000-00000000000bffff (prio 1, i/o): vga-lowmem
  00000000000c0000-00000000000cafff (prio 0, rom): pc.ram @00000000000c0000 KVM
  0000000000100000-00000000bfffffff (prio 0, ram): pc.ram @0000000000100000 KVM
  00000000c0000000-00000000c0ffffff (prio 1, ramd): 0000:01:00.0 BAR 0 mmaps[0]
  00000000fe000000-00000000fe000fff (prio 0, rom): /rom@etc/acpi/tables
  00000000ff000000-00000000ff000fff (prio 0, romd): system.flash1
  00000000fffc0000-00000000ffffffff (prio 0, rom): pc.bios KVM
  0000000100000000-000000013fffffff (prio 0, ram): pc.ram @00000000c0000000 KVM
  0000000140000000-000000017fffffff (prio 0, nv-ram): a name with blanks @0000000000000010

FlatView #2
 AS "memory", root: other
  0000000000000000-000000000009ffff (prio 0, ram): ram
`

func TestParseMemory(t *testing.T) {
	want := []qmp.Section{
		{First: 0, Last: 0x9ffff, Block: "pc.ram", Kind: "ram"},
		{First: 0xc0000, Last: 0xcafff, Offset: 0xc0000, Block: "pc.ram", Kind: "rom"},
		{First: 0x100000, Last: 0xbfffffff, Offset: 0x100000, Block: "pc.ram", Kind: "ram"},
		{First: 0xfe000000, Last: 0xfe000fff, Block: "/rom@etc/acpi/tables", Kind: "rom"},
		{First: 0xfffc0000, Last: 0xffffffff, Block: "pc.bios", Kind: "rom"},
		{First: 0x100000000, Last: 0x13fffffff, Offset: 0xc0000000, Block: "pc.ram", Kind: "ram"},
		{First: 0x140000000, Last: 0x17fffffff, Offset: 0x10, Block: "a name with blanks", Kind: "nv-ram"},
	}
	got, err := qmp.ParseMemory(strings.ReplaceAll(pcView, "\n", "\r\n"))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("sections are %+v, %v", got, err)
	}
	for _, bad := range []string{
		"", pcView[:200],
		" AS \"memory\"\n  x-y (prio 0, ram): ram",
		" AS \"memory\"\n  2-1 (prio 0, ram): ram",
		" AS \"memory\"\n  0-f (prio 0, ram): a\n  8-10 (prio 0, rom): b",
		" AS \"memory\"\n  0-ffffffffffffffff0 (prio 0, ram): a",
		" AS \"memory-2\"\n  0-f (prio 0, ram): a",
	} {
		if got, err := qmp.ParseMemory(bad); err == nil {
			t.Errorf("%q gave %v", bad, got)
		}
	}
	for i, s := range want {
		if ro := i == 1 || i == 3 || i == 4; s.ReadOnly() != ro {
			t.Errorf("%+v: read-only %v", s, s.ReadOnly())
		}
	}
}

func TestParseHostAddress(t *testing.T) {
	for text, want := range map[string]uint64{
		"Host virtual address for 0x100000 (pc.ram) is 0x7f69c7f00000\r\n": 0x7f69c7f00000,
		"Host virtual address for 0x0 (a) is 0x12) is 0x7f69c7f00000\r\n":  0x7f69c7f00000,
		"No memory is mapped at address 0xfff0000000\r\n":                  0,
		"Memory at address 0xfee00000 is not RAM\r\n":                      0,
		"Host virtual address for 0x0 (x) is 0x0\r\n":                      0,
		"Host virtual address for 0x0 (x) is 0xfffffffffffffffff\r\n":      0,
	} {
		if got, err := qmp.ParseHostAddress(text); got != want || (err == nil) != (want != 0) {
			t.Errorf("%q gave 0x%x, %v", text, got, err)
		}
	}
}

// FuzzMemory reads what the monitor may print of a guest's memory: what is taken is in
// order, and nothing overlaps.
func FuzzMemory(f *testing.F) {
	f.Add(pcView)
	f.Add("Host virtual address for 0x0 (a) is 0x12) is 0x7f69c7f00000")
	f.Fuzz(func(t *testing.T, text string) {
		qmp.ParseHostAddress(text)
		all, err := qmp.ParseMemory(text)
		if (err == nil) != (len(all) > 0) {
			t.Errorf("%d sections, %v", len(all), err)
		}
		for i, s := range all {
			if s.First > s.Last || i > 0 && all[i-1].Last >= s.First {
				t.Errorf("section %d of %+v", i, all)
			}
		}
	})
}
