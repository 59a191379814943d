// SPDX-License-Identifier: Apache-2.0

package vmcore_test

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/testimage"
	"github.com/remora-go/remora/vmcore"
)

// directMap is where x86-64 maps physical memory.
func directMap(a uint64) uint64 { return 0xffff888000000000 + a }

// memory is random memory with all classes of pages.
func memory(seed uint64) *testimage.Physical {
	mem := testimage.Random(seed, page, 300)
	pfns := mem.PFNs()
	mem.Mark(pfns[20], 3, testimage.Lost)
	mem.Mark(pfns[len(pfns)/2], 1, testimage.Excluded)
	mem.Mark(pfns[len(pfns)-1]+1, 5, testimage.Lost)
	return mem
}

// info is a note VMCOREINFO.
func info() testimage.Note {
	return testimage.VMCoreInfoNote(testimage.VMCoreInfo("OSRELEASE", "6.1.0-remora", "PAGESIZE", "4096",
		"SYMBOL(_stext)", "ffffffff81000000", "NUMBER(phys_base)", "-16777216", "CRASHTIME", "1700000000"))
}

// variants are the ways in which an ELF image can be written.
func variants(mem *testimage.Physical) map[string]*testimage.VMCore {
	return map[string]*testimage.VMCore{
		"proc":         {Mem: mem, Vaddr: directMap, Notes: []testimage.Note{info()}},
		"32-bit":       {Mem: mem, Narrow: true, Machine: elf.EM_386, Notes: []testimage.Note{info()}},
		"big-endian":   {Mem: mem, BigEndian: true, Machine: elf.EM_PPC64},
		"32-bit BE":    {Mem: mem, BigEndian: true, Narrow: true, Machine: elf.EM_PPC, Extended: true},
		"extended":     {Mem: mem, Extended: true},
		"QEMU":         {Mem: mem, Extended: true, ShdrFirst: true, Skew: 0x4dc, Notes: []testimage.Note{(&testimage.QEMUState{}).Note()}},
		"headers last": {Mem: mem, PhOff: ^uint64(0), Skew: 1},
		"headers far":  {Mem: mem, PhOff: 0x23459},
		"shuffled":     {Mem: mem, Shuffle: 7, NoteEach: true, Notes: []testimage.Note{info(), testimage.EraseNote("x")}},
	}
}

func TestELF(t *testing.T) {
	for name, v := range variants(memory(1)) {
		t.Run(name, func(t *testing.T) {
			if name == "headers far" {
				v.Mem = testimage.Random(2, page, 20)
				v.PhOff = 0x4001
			}
			b := v.Bytes()
			for _, m := range []*vmcore.Image{openImage(t, b, nil), newImage(t, b, nil), openImage(t, b, &vmcore.Options{NoMap: true, Format: vmcore.ELF})} {
				compare(t, m, v.Mem)
			}
		})
	}
}

// TestELFRandom compares many images.
func TestELFRandom(t *testing.T) {
	for seed := range uint64(12) {
		mem := testimage.Random(seed+100, page, 150)
		v := testimage.VMCore{Mem: mem, Skew: seed * 331 % page, Shuffle: seed, Narrow: seed%3 == 0, BigEndian: seed%2 == 0}
		m := openImage(t, v.Bytes(), nil)
		compare(t, m, mem)
		if bad := damages(t, m); bad != nil {
			t.Errorf("seed %d: a sound image has %v", seed, bad)
		}
	}
}

// at gives the byte at a, or the cause.
func at(m *vmcore.Image, a remora.Addr) (byte, error) {
	return m.Memory().Uint8(context.Background(), a)
}

// TestELFOverlap has segments over one address: bytes beat what is not there, and of two
// that have bytes the larger one is read and written.
func TestELFOverlap(t *testing.T) {
	fill := func(v byte, n int) []byte { return bytes.Repeat([]byte{v}, n) }
	v := testimage.VMCore{Mem: &testimage.Physical{}, Notes: []testimage.Note{info()}, Extra: []testimage.Segment{
		{Paddr: 0x1000, Data: fill(1, 0x1000)},
		{Paddr: 0x1800, Data: fill(2, 0x2000)},
		{Paddr: 0x3000, Data: fill(3, 0x100), Memsz: 0x9000},
		{Paddr: 0x5000, Data: fill(4, 0x800)},
		{Paddr: 0x4800, Data: fill(5, 0x800), Memsz: 0x1000},
		{Paddr: 0x20000, Filesz: 0x1000, Memsz: 0x1000, Off: 1 << 40},
		{Paddr: 0x20800, Data: fill(6, 0x100)},
		{Paddr: 0x30000, Data: fill(7, 0x100)},
		{Paddr: 0x30000, Data: fill(8, 0x100)},
	}}
	b := v.Bytes()
	path := saveFile(t, b)
	m, err := vmcore.Open(path, &vmcore.Options{Write: true})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	for a, want := range map[remora.Addr]any{
		0xfff: remora.ErrHole, 0x1000: 1, 0x17ff: 1, 0x1800: 2, 0x1fff: 2, 0x2000: 2, 0x2fff: 2, 0x3000: 3, 0x30ff: 3, 0x3100: 2, 0x37ff: 2,
		0x3800: remora.ErrNotSaved, 0x4800: 5, 0x4fff: 5, 0x5000: 4, 0x57ff: 4, 0x5800: remora.ErrNotSaved, 0xbfff: remora.ErrNotSaved,
		0xc000: remora.ErrHole, 0x20000: remora.ErrTruncated, 0x207ff: remora.ErrTruncated, 0x20800: 6, 0x20900: remora.ErrTruncated,
		0x20fff: remora.ErrTruncated, 0x21000: remora.ErrHole, 0x30000: 7,
	} {
		got, err := at(m, a)
		if cause, ok := want.(remora.Cause); ok && !errors.Is(err, cause) || !ok && (err != nil || int(got) != want) {
			t.Errorf("%v: %d, %v, want %v", a, got, err, want)
		}
	}
	var differ []string
	for _, bad := range damages(t, m) {
		if _, place, ok := strings.Cut(bad.Want, "read for "); ok {
			differ = append(differ, place)
		}
	}
	if got := strings.Join(differ, ", "); got != "0x1800 too, 0x3000 too, 0x30000 too" {
		t.Errorf("overlaps %q", got)
	}
	if _, err := m.Memory().WriteAt(context.Background(), []byte{9, 9}, 0x17ff); err != nil {
		t.Fatal(err)
	}
	for a, want := range map[remora.Addr]byte{0x17ff: 9, 0x1800: 9, 0x1801: 2} {
		if got, err := at(m, a); got != want || err != nil {
			t.Errorf("%v after a write: %d, %v", a, got, err)
		}
	}
}

// TestELFNoPhys has segments without a physical address, and one in ROM.
func TestELFNoPhys(t *testing.T) {
	v := testimage.VMCore{Mem: &testimage.Physical{}, Notes: []testimage.Note{info()}, Extra: []testimage.Segment{
		{Paddr: testimage.NoPaddr, Vaddr: 0xffffc90000000000, Data: make([]byte, 100)},
		{Paddr: 0xfffc0000, Data: []byte{1, 2, 3}},
		{Paddr: 0xfee00000, Memsz: page}, // as of QEMU, with paging
		{Paddr: 1<<64 - page, Data: bytes.Repeat([]byte{5}, page)},
	}}
	b := v.Bytes()
	for i, f := range testimage.ELFFields(b) {
		if f.Value == 0xfee00000 {
			b = testimage.ELFFields(b)[i-2].Set(b, ^uint64(0)) // p_offset
		}
	}
	m := newImage(t, b, nil)
	for a, want := range map[remora.Addr]byte{0xfffc0001: 2, remora.MaxAddr: 5} {
		if got, err := at(m, a); got != want || err != nil {
			t.Errorf("%v: %d, %v", a, got, err)
		}
	}
	if _, err := at(m, 0xfee00000); !errors.Is(err, remora.ErrHole) {
		t.Error(err)
	}
	n := 0
	for range m.Runs(context.Background()) {
		n++
	}
	if n != 2 {
		t.Errorf("%d runs", n)
	}
}

// TestELFIncomplete has makedumpfile's mark, and headers that were never written: what
// they would have named may have been memory.
func TestELFIncomplete(t *testing.T) {
	mem := testimage.Random(3, page, 10)
	v := testimage.VMCore{Mem: mem, Flags: 1, ZeroProgs: 5, Notes: []testimage.Note{info()}}
	m := newImage(t, v.Bytes(), nil)
	end := remora.Addr(mem.End() * page)
	for a, want := range map[remora.Addr]error{end: remora.ErrTruncated, 1<<56 - 1: remora.ErrTruncated, 1 << 56: remora.ErrHole} {
		if _, err := at(m, a); !errors.Is(err, want) {
			t.Errorf("%v: %v, want %v", a, err, want)
		}
	}
	if _, err := at(m, end); !strings.Contains(err.Error(), "5 of its") {
		t.Error(err)
	}
	meta := m.Meta()
	if meta.Maker != "makedumpfile" || strings.Join(meta.Flags, " ") != "incomplete" || len(meta.Problems) != 1 {
		t.Errorf("%+v", meta)
	}
	v.ZeroProgs = 0
	m = newImage(t, v.Bytes(), nil)
	if _, err := at(m, end); !errors.Is(err, remora.ErrHole) {
		t.Error(err)
	}
}

// TestELFExplain wants the place in the file in what is said of a missing byte.
func TestELFExplain(t *testing.T) {
	v := testimage.VMCore{Mem: &testimage.Physical{}, Notes: []testimage.Note{info()}, Extra: []testimage.Segment{
		{Paddr: 0x1000, Filesz: 0x1000, Memsz: 0x3000, Off: 1 << 40},
	}}
	b := v.Bytes()
	m := newImage(t, b, nil)
	for a, want := range map[remora.Addr]string{
		0x1234: fmt.Sprintf("in segment 0x1000+0x3000: would be at 0x10000000234 of image, beyond the end of the file at 0x%x", len(b)),
		0x2fff: "in segment 0x1000+0x3000, of which 0x1000 bytes are in the file",
		0x9000: "read image@phys:0x9000: no memory",
	} {
		if _, err := at(m, a); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v", a, err)
		}
	}
}

// TestZeroExcluded reads what was left out as zeros, and nothing else.
func TestZeroExcluded(t *testing.T) {
	mem := memory(5)
	m := newImage(t, (&testimage.VMCore{Mem: mem, Skew: 5}).Bytes(), &vmcore.Options{ZeroExcluded: true})
	buf := make([]byte, page)
	for pfn := range mem.End() + 2 {
		want, class := mem.Page(pfn)
		if class == testimage.Excluded {
			want = make([]byte, page)
		}
		n, err := m.Memory().ReadAt(context.Background(), buf, remora.Addr(pfn*page))
		if want != nil && (err != nil || !bytes.Equal(buf, want)) || want == nil && (n > 0 || !errors.Is(err, causes[class])) {
			t.Fatalf("page %d, %v: %d, %v", pfn, class, n, err)
		}
	}
}
