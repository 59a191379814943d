// SPDX-License-Identifier: Apache-2.0

package usercore_test

import (
	"bytes"
	"debug/elf"
	"os"
	"path/filepath"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/testimage"
	"github.com/remora-go/remora/memtest"
	"github.com/remora-go/remora/usercore"
)

// saved is an area that a core holds.
func saved(a remora.Addr, data []byte) memtest.Area {
	return memtest.Area{Range: remora.Range{Start: a, Size: uint64(len(data))}, Data: data, Fault: memtest.OnWrite(remora.ErrReadOnly)}
}

// missing is an area that it does not hold.
func missing(a remora.Addr, size uint64, cause error) memtest.Area {
	return memtest.Area{Range: remora.Range{Start: a, Size: size}, Fault: memtest.Always(cause)}
}

// The longest run of a core: enough for the rule that asks for chunks, or less, where
// there is nothing new to learn from it.
const (
	large = 3<<20 + 2*page
	small = 4 * page
)

// wide is a core with every kind of memory, and what is known about it. Its longest
// run lies last in the file, where it can be cut.
func wide(c testimage.Core, longest int) (testimage.Core, []memtest.Area) {
	top := uint64(1<<32 - page)
	if !c.Narrow {
		top = 1<<64 - page
	}
	regs := make([]uint64, 27)
	c.PageAlign = true
	c.Notes = []testimage.Note{
		c.PRStatus(1, 11, regs...),
		c.PRPSInfo(1, 0, "wide", "wide"),
		c.Auxv(6, page),
		c.Files(testimage.Mapping{Start: 0x20000, End: 0x21000, Name: "/lib/listed"}),
	}
	c.Loads = []testimage.Load{
		{Addr: top, Data: fill(page, 7), Flags: elf.PF_R},
		{Addr: 0x10000, Data: fill(page, 1), Flags: elf.PF_R},
		{Addr: 0x12000, Data: fill(page, 2), Mem: 2 * page, Flags: elf.PF_R | elf.PF_W}, // unsorted
		{Addr: 0x11000, Data: fill(page, 3), Flags: elf.PF_R | elf.PF_X},
		{Addr: 0x14000, Mem: page, Flags: elf.PF_R | elf.PF_X},
		{Addr: 0x1000000, Data: fill(longest, 4), Flags: elf.PF_R | elf.PF_W},
	}
	return c, []memtest.Area{
		missing(0, page, remora.ErrUnmapped),
		missing(0xf000, page, remora.ErrUnmapped),
		saved(0x10000, fill(page, 1)),
		saved(0x11000, fill(page, 3)),
		saved(0x12000, fill(page, 2)),
		missing(0x13000, 2*page, remora.ErrNotSaved),
		missing(0x15000, page, remora.ErrUnmapped),
		missing(0x20000, page, remora.ErrNotSaved),
		saved(0x1000000, fill(longest, 4)),
		missing(0x1000000+remora.Addr(longest), page, remora.ErrUnmapped),
		saved(remora.Addr(top), fill(page, 7)),
	}
}

// contract is what all cores claim.
func contract(c *testimage.Core, longest int) memtest.Want {
	want := memtest.Want{
		Info: remora.Info{
			Ops:       remora.StopAtFault | remora.Force | remora.Resident,
			PtrSize:   uint8(c.WordSize()),
			BigEndian: c.BigEndian,
			Granule:   page,
			Last:      remora.MaxAddr,
		},
		Lacks: memtest.Lacks{
			Forced: "a core keeps what was saved, whatever its protection was",
			Absent: "a core has no pages of a target to fault in",
		},
	}
	if longest < large {
		want.Lacks.Large = "the same reads as in the test that has it"
	}
	if c.Narrow {
		want.Info.Last = 1<<32 - 1
		want.Lacks.Top = "a 32-bit process has no such address"
	}
	return want
}

// testSpace holds a core, given as a file, against the contract.
func testSpace(t *testing.T, b []byte, o *usercore.Options, areas []memtest.Area, want memtest.Want) {
	path := filepath.Join(t.TempDir(), "core")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	memtest.TestSpace(t, func(t testing.TB) memtest.Fixture {
		c, err := usercore.Open(path, o)
		if err != nil {
			t.Fatal(err)
		}
		return memtest.Fixture{Space: c, Areas: areas, Close: c.Close}
	}, want)
}

func TestSpace(t *testing.T) {
	core, areas := wide(testimage.Core{}, large)
	testSpace(t, core.Bytes(), nil, areas, contract(&core, large))
}

// TestSpaceUnlisted is a 32-bit big-endian core whose maker leaves memory out
// without a trace: what it does not list is a fault, and nothing more is known.
func TestSpaceUnlisted(t *testing.T) {
	core, areas := wide(testimage.Core{Narrow: true, BigEndian: true, Machine: elf.EM_PPC, Sections: 9, NotesLast: true}, small)
	for i := range areas {
		if causes := areas[i].Fault(remora.Read); len(causes) == 1 && causes[0] == remora.ErrUnmapped {
			areas[i].Fault = memtest.Always(remora.ErrFault)
		}
	}
	testSpace(t, core.Bytes(), nil, areas, contract(&core, small))
}

// TestSpaceCut is no file, but what New was given: cut off inside the last segment,
// and at no page.
func TestSpaceCut(t *testing.T) {
	core, areas := wide(testimage.Core{BigEndian: true, Machine: elf.EM_S390}, small)
	b := core.Bytes()
	const lost = page + 1
	b = b[:len(b)-lost]
	want := contract(&core, small)
	want.Info.Granule = 1
	for i := range areas {
		if a := &areas[i]; a.Start == 0x1000000 {
			a.Size -= lost
			a.Data = a.Data[:a.Size]
			areas = append(areas, missing(a.Start+remora.Addr(a.Size), lost, remora.ErrTruncated))
			break
		}
	}
	memtest.TestSpace(t, func(t testing.TB) memtest.Fixture {
		c, err := usercore.New(bytes.NewReader(b), int64(len(b)), "memory", nil)
		if err != nil {
			t.Fatal(err)
		}
		return memtest.Fixture{Space: c, Areas: areas, Close: c.Close}
	}, want)
}

// TestSpaceFiles takes a part of its memory from a file on disk.
func TestSpaceFiles(t *testing.T) {
	v := newVictim(t)
	core, areas := wide(testimage.Core{}, small)
	v.addTo(&core)
	areas = append(areas,
		saved(v.base, v.file[:page]),
		saved(v.base+page, v.file[page:2*page]),          // from the file
		missing(v.base+2*page, page, remora.ErrNotSaved), // a writable segment
		missing(v.base+3*page, page, remora.ErrUnmapped))
	testSpace(t, core.Bytes(), &usercore.Options{Files: true, Root: v.root}, areas, contract(&core, small))
}
