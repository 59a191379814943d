// SPDX-License-Identifier: Apache-2.0

package usercore_test

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
	"github.com/remora-go/remora/usercore"
)

// Places in a 64-bit file.
const (
	ePhoff, eShoff, ePhentsize, ePhnum = 32, 40, 54, 56
	firstProg, progSize                = 64, 56
	pOffset, pVaddr, pFilesz, pMemsz   = 8, 16, 32, 40
)

// TestHostile damages one field of a core. The error must name the file and the
// place, what was wanted there and what was found.
func TestHostile(t *testing.T) {
	o := (&testimage.Core{}).Order()
	load := func(i, field int) int { return firstProg + (1+i)*progSize + field }
	put64 := func(at int, v uint64) func(b []byte) { return func(b []byte) { o.PutUint64(b[at:], v) } }
	put16 := func(at int, v uint16) func(b []byte) { return func(b []byte) { o.PutUint16(b[at:], v) } }
	both := func(f ...func(b []byte)) func(b []byte) {
		return func(b []byte) {
			for _, f := range f {
				f(b)
			}
		}
	}
	for name, tc := range map[string]struct {
		change    func(b []byte)
		off       int64
		cause     error
		want, got string
	}{
		"no headers":         {put16(ePhnum, 0), 0, remora.ErrCorrupt, "program headers", "none"},
		"e_phnum":            {put16(ePhnum, 0xfffe), firstProg, remora.ErrTruncated, "65534 program headers of 56 bytes", "the end of the file at 0x"},
		"e_phnum in shinfo":  {both(put16(ePhnum, 0xffff), put64(eShoff, 1<<62)), 1 << 62, remora.ErrTruncated, "section 0, which holds the number of program headers", "the end of the file at 0x"},
		"e_shoff":            {both(put16(ePhnum, 0xffff), put64(eShoff, 1<<64-1)), 1<<63 - 1, remora.ErrTruncated, "section 0, which holds the number of program headers", "the end of the file at 0x"},
		"e_phentsize":        {put16(ePhentsize, 32), ePhentsize, remora.ErrCorrupt, "program headers of 56 bytes", "32"},
		"e_phentsize 0":      {put16(ePhentsize, 0), ePhentsize, remora.ErrCorrupt, "program headers of 56 bytes", "0"},
		"e_phoff":            {put64(ePhoff, 1<<40), 1 << 40, remora.ErrTruncated, "7 program headers of 56 bytes", "the end of the file at 0x"},
		"e_phoff that wraps": {put64(ePhoff, 1<<64-56), 1<<63 - 1, remora.ErrTruncated, "7 program headers of 56 bytes", "the end of the file at 0x"},
		"p_filesz":           {put64(load(0, pFilesz), 1<<64-1), int64(load(0, 0)), remora.ErrCorrupt, "a segment with p_filesz <= p_memsz", "0xffffffffffffffff > 0x1000"},
		"p_memsz":            {put64(load(1, pMemsz), 1<<64-1), int64(load(1, 0)), remora.ErrCorrupt, "a segment within the address space", "0x11000+0xffffffffffffffff"},
		"p_vaddr that wraps": {put64(load(1, pVaddr), 1<<64-1), int64(load(1, 0)), remora.ErrCorrupt, "a segment within the address space", "0xffffffffffffffff+0x1000"},
		"overlap":            {put64(load(2, pVaddr), 0x10fff), int64(load(2, 0)), remora.ErrCorrupt, "segments that do not overlap", "0x10fff saved twice"},
		"the same twice":     {put64(load(2, pVaddr), 0x10000), int64(load(2, 0)), remora.ErrCorrupt, "segments that do not overlap", "0x10000 saved twice"},
	} {
		c := kernelCore(testimage.Core{})
		b := c.Bytes()
		tc.change(b)
		core, err := usercore.New(bytes.NewReader(b), int64(len(b)), "a file", nil)
		bad, ok := errors.AsType[*remora.FormatError](err)
		if core != nil || !ok || bad.File != "a file" || bad.Offset != tc.off || bad.Want != tc.want || !strings.HasPrefix(bad.Got, tc.got) || !errors.Is(err, tc.cause) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestHostileOffset has segments that would lie far past the end of the file. They
// are lost, and the rest can be read.
func TestHostileOffset(t *testing.T) {
	for _, off := range []uint64{1 << 40, 1<<63 - 1, 1 << 63, 1<<64 - page, 1<<64 - 1} {
		core := kernelCore(testimage.Core{})
		core.Loads[2].Data = nil
		core.Loads[2].Lie, core.Loads[2].Off, core.Loads[2].Filesz = true, off, page
		c := open(t, core.Bytes())
		if _, err := c.Memory().Uint8(context.Background(), 0x12000); !errors.Is(err, remora.ErrTruncated) {
			t.Errorf("%#x: %v", off, err)
		}
		if v, err := c.Memory().Uint8(context.Background(), 0x50001); err != nil || v != 4 {
			t.Errorf("%#x: %d, %v", off, v, err)
		}
	}
}

// TestHostileNotes has notes whose sizes are lies. Nothing of that size is
// allocated, memory can be read, and the damage is told.
func TestHostileNotes(t *testing.T) {
	for name, tc := range map[string]struct {
		notes   func(c *testimage.Core) []testimage.Note
		at      int // of a field of the first note
		value   uint32
		problem string
	}{
		"huge name":       {at: 0, value: 1<<32 - 1, problem: "want a note with a name of 4294967295 and a descriptor of 336 bytes, found the end of the notes at 0x"},
		"huge descriptor": {at: 4, value: 1<<32 - 1, problem: "want a note with a name of 5 and a descriptor of 4294967295 bytes, found the end of the notes at 0x"},
		"long name":       {at: 0, value: 300, problem: "want a note's name of at most 256 bytes, found 300"},
		"no head of NT_FILE": {notes: func(c *testimage.Core) []testimage.Note {
			return []testimage.Note{{Name: "CORE", Type: 0x46494c45, Desc: make([]byte, 15)}}
		}, problem: "want the head of NT_FILE, found a note of type 0x46494c45 with 15 bytes"},
		"count of NT_FILE": {notes: func(c *testimage.Core) []testimage.Note {
			return []testimage.Note{{Name: "CORE", Type: 0x46494c45, Desc: c.Put(nil, uint64(1<<60), uint64(page))}}
		}, problem: "want NT_FILE with 1152921504606846976 mappings, found a note of type 0x46494c45 with 16 bytes"},
		"NT_FILE without a name": {notes: func(c *testimage.Core) []testimage.Note {
			return []testimage.Note{{Name: "CORE", Type: 0x46494c45, Desc: c.Put(nil, uint64(1), uint64(page), uint64(0), uint64(page), uint64(0), "x")}}
		}, problem: "want a name and a range for each mapping in NT_FILE, found"},
		"NT_FILE of nothing": {notes: func(c *testimage.Core) []testimage.Note {
			return []testimage.Note{c.Files(testimage.Mapping{Start: page, End: page, Name: "x"})}
		}, problem: "want a name and a range for each mapping in NT_FILE, found"},
		"endless auxv": {notes: func(c *testimage.Core) []testimage.Note {
			return []testimage.Note{{Name: "CORE", Type: 6, Desc: c.Put(nil, uint64(6), uint64(page))}}
		}, problem: "want an NT_AUXV that ends with AT_NULL, found a note of type 0x6 with 16 bytes"},
		"short thread": {notes: func(c *testimage.Core) []testimage.Note {
			return []testimage.Note{{Name: "CORE", Type: 1, Desc: make([]byte, 10)}}
		}, problem: "want a thread of at least 36 bytes, found a note of type 0x1 with 10 bytes"},
		"short process": {notes: func(c *testimage.Core) []testimage.Note {
			return []testimage.Note{{Name: "CORE", Type: 3, Desc: make([]byte, 100)}}
		}, problem: "want NT_PRPSINFO, found a note of type 0x3 with 100 bytes"},
		"short signal": {notes: func(c *testimage.Core) []testimage.Note {
			return []testimage.Note{{Name: "CORE", Type: 0x53494749, Desc: make([]byte, 8)}}
		}, problem: "want NT_SIGINFO, found a note of type 0x53494749 with 8 bytes"},
	} {
		core := kernelCore(testimage.Core{})
		off := int64(firstProg + 7*progSize)
		if tc.notes != nil {
			core.Notes = tc.notes(&core)
			if off += 12 + 8; tc.at != 0 {
				t.Fatal("a field of notes that are replaced")
			}
		}
		b := core.Bytes()
		if tc.notes == nil {
			core.Order().PutUint32(b[off+int64(tc.at):], tc.value)
		}
		c := open(t, b)
		if s := facts(t, c); !strings.Contains(s, fmt.Sprintf("problem: test.core: offset 0x%x: %s", off, tc.problem)) {
			t.Errorf("%s: %s", name, s)
		}
		if v, err := c.Memory().Uint8(context.Background(), 0x50001); err != nil || v != 4 {
			t.Errorf("%s: %d, %v", name, v, err)
		}
		if _, err := c.Threads(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestOverlapSaved has a segment of which nothing is saved around those that are.
func TestOverlapSaved(t *testing.T) {
	core := kernelCore(testimage.Core{})
	core.Loads = append(core.Loads, testimage.Load{Addr: 0xf000, Mem: 0x10000, Flags: elf.PF_R})
	c := open(t, core.Bytes())
	for a, want := range map[remora.Addr]error{0xf000: remora.ErrNotSaved, 0x10000: nil, 0x11000: remora.ErrNotSaved, 0x13000: remora.ErrNotSaved, 0x1f000: remora.ErrUnmapped} {
		if _, err := c.Memory().Uint8(context.Background(), a); !errors.Is(err, want) {
			t.Errorf("%v: %v, want %v", a, err, want)
		}
	}
}

// TestUnsortedFiles has an NT_FILE out of order, whose last entry is damaged. What
// came before it counts, and what is saved stays readable.
func TestUnsortedFiles(t *testing.T) {
	core := kernelCore(testimage.Core{})
	files := core.Files(
		testimage.Mapping{Start: 0x90000, End: 0x91000, Name: "/b"},
		testimage.Mapping{Start: 0x70000, End: 0x71000, Name: "/a"},
		testimage.Mapping{Start: 0x80000, End: 0x80000, Name: "/nothing"})
	core.Notes = append(core.Notes[:4], files)
	c := open(t, core.Bytes())
	for a, want := range map[remora.Addr]error{0x10000: nil, 0x50000: nil, 0x60000: nil, 0x70000: remora.ErrNotSaved, 0x80000: remora.ErrUnmapped, 0x90000: remora.ErrNotSaved} {
		if _, err := c.Memory().Uint8(context.Background(), a); !errors.Is(err, want) {
			t.Errorf("%v: %v, want %v", a, err, want)
		}
	}
	var names []string
	for r := range c.Regions(context.Background()) {
		if r.Start >= 0x70000 {
			names = append(names, r.Name)
		}
	}
	if got := strings.Join(names, " "); got != "/a /b" {
		t.Errorf("files %s", got)
	}
}
