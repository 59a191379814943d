// SPDX-License-Identifier: Apache-2.0

package vmcore_test

import (
	"bytes"
	"debug/elf"
	"os"
	"path/filepath"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/testimage"
	"github.com/remora-go/remora/memtest"
	"github.com/remora-go/remora/vmcore"
)

// The longest run of an image: enough for the rule that asks for chunks, or less, where
// there is nothing new to learn from it.
const (
	large = 3<<20 + 2*page
	small = 8 * page
)

// layout is memory with every class of pages, and its areas.
func layout(longest uint64, narrow bool) (*testimage.Physical, []memtest.Area) {
	top := uint64(1 << 40)
	if narrow {
		top = 1<<20 - 2 // the last page of a 32-bit file would end where no address is left
	}
	mem := &testimage.Physical{Pages: map[uint64]testimage.Page{}}
	var areas []memtest.Area
	put := func(first, count uint64, class testimage.Class, seed byte) {
		area := memtest.Area{Range: remora.Range{Start: remora.Addr(first * page), Size: count * page}}
		for pfn := first; pfn < first+count; pfn++ {
			p := testimage.Page{Class: class, Data: make([]byte, page)}
			for i := range p.Data {
				p.Data[i] = byte(pfn*31) + byte(i)*seed + byte(i>>8)
			}
			if class == testimage.Saved {
				area.Data = append(area.Data, p.Data...)
			}
			if class != testimage.Hole {
				mem.Pages[pfn] = p
			}
		}
		if class != testimage.Saved {
			area.Fault = memtest.Always(causes[class])
		}
		areas = append(areas, area)
	}
	put(0, 1, testimage.Saved, 1)
	put(1, 2, testimage.Hole, 0)
	put(16, longest/page, testimage.Saved, 3)
	put(16+longest/page, 2, testimage.Excluded, 0)
	put(4096, 1, testimage.Saved, 5)
	put(4097, 1, testimage.Hole, 0)
	put(5000, 2, testimage.Lost, 0)
	put(5002, 1, testimage.Saved, 7)
	put(top, 1, testimage.Saved, 9)
	return mem, areas
}

// present makes pages that were not saved into holes, for formats that do not know them.
func present(mem *testimage.Physical, areas []memtest.Area) {
	for _, a := range areas {
		if a.Data == nil {
			mem.Mark(uint64(a.Start)/page, a.Size/page, testimage.Hole)
		}
	}
	for i := range areas {
		if areas[i].Data == nil {
			areas[i].Fault = memtest.Always(remora.ErrHole)
		}
	}
}

// claims are what all images say of themselves.
func claims(writable bool, longest uint64) memtest.Want {
	want := memtest.Want{
		Info: remora.Info{
			Ops:      remora.StopAtFault | remora.Force | remora.Resident,
			Granule:  page,
			Last:     remora.MaxAddr,
			Writable: writable,
		},
		Lacks: memtest.Lacks{
			Forced: "an image has no protection",
			Absent: "an image has no paging",
			Top:    "no machine has memory there",
		},
	}
	if longest < large {
		want.Lacks.Large = "the same reads as in the test that has it"
	}
	return want
}

// shape is an image to be held against the contract.
type shape struct {
	file  []byte
	areas []memtest.Area
	place func(a remora.Addr) int64 // where in the file a byte of an area lies
	opts  vmcore.Options
	want  memtest.Want
}

// testSpace holds the image against the contract, read-only or not as want says. Part 0
// tries everything: see memtest.Want.
func testSpace(t *testing.T, s shape, part uint64) {
	s.want.Part = part
	s.opts.Write = s.want.Info.Writable
	if !s.opts.Write {
		for i := range s.areas {
			if s.areas[i].Fault == nil {
				s.areas[i].Fault = memtest.OnWrite(remora.ErrReadOnly)
			}
		}
	}
	path := saveFile(t, s.file)
	memtest.TestSpace(t, func(t testing.TB) memtest.Fixture {
		name := path
		if s.opts.Write {
			name = filepath.Join(t.TempDir(), "copy")
			if err := os.WriteFile(name, s.file, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		m, err := vmcore.Open(name, &s.opts)
		if err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		fix := memtest.Fixture{Space: m, Areas: s.areas, Close: m.Close}
		if !s.opts.Write {
			return fix
		}
		fix.Peek = func(p []byte, a remora.Addr) error {
			off := s.place(a)
			if off < 0 {
				clear(p) // left out, and read as zeros
				return nil
			}
			_, err := f.ReadAt(p, off)
			return err
		}
		return fix
	}, s.want)
}

// elfShape is an ELF image.
func elfShape(t *testing.T, v testimage.VMCore, writable bool, longest uint64) shape {
	var areas []memtest.Area
	v.Mem, areas = layout(longest, v.Narrow)
	var file testimage.Sparse
	segs, err := v.WriteTo(&file)
	if err != nil {
		t.Fatal(err)
	}
	s := shape{file: file.Bytes(), areas: areas, want: claims(writable, longest)}
	s.want.Info.PtrSize, s.want.Info.BigEndian = 8, v.BigEndian
	if v.Narrow {
		s.want.Info.PtrSize = 4
	}
	s.place = func(a remora.Addr) int64 {
		for _, g := range segs {
			if uint64(a)-g.Paddr < g.Filesz {
				return int64(g.Off + uint64(a) - g.Paddr)
			}
		}
		return -1
	}
	return s
}

// TestSpaceELF has the large runs. Under the race detector, TestSpaceELFWrite tries all else
// to the full.
func TestSpaceELF(t *testing.T) {
	part := uint64(0)
	if vmcore.RaceEnabled {
		part = 11
	}
	testSpace(t, elfShape(t, testimage.VMCore{Skew: 0x4dc, Notes: []testimage.Note{info()}}, false, large), part)
}

func TestSpaceELFWrite(t *testing.T) {
	testSpace(t, elfShape(t, testimage.VMCore{Shuffle: 3}, true, small), 0)
}

func TestSpaceELFWriteUnmapped(t *testing.T) {
	s := elfShape(t, testimage.VMCore{Narrow: true, BigEndian: true, Machine: elf.EM_PPC, Shuffle: 3}, true, small)
	s.opts.NoMap = true
	testSpace(t, s, 1)
}

func TestSpaceZeroExcluded(t *testing.T) {
	s := elfShape(t, testimage.VMCore{Skew: 1, Vaddr: directMap, Notes: []testimage.Note{info()}}, false, small)
	s.opts.ZeroExcluded = true
	for i := range s.areas {
		if a := &s.areas[i]; a.Fault != nil && a.Fault(remora.Read)[0] == remora.ErrNotSaved {
			a.Data, a.Fault = make([]byte, a.Size), nil
		}
	}
	testSpace(t, s, 2)
}

// limeShape is a LiME image, cut off in its last range if lost is not zero.
func limeShape(writable bool, longest, lost uint64) shape {
	mem, areas := layout(longest, false)
	present(mem, areas)
	s := shape{file: mem.LiME(testimage.LiMEOptions{}), want: claims(writable, longest)}
	s.file = s.file[:uint64(len(s.file))-lost]
	at := int64(0)
	place := map[remora.Addr]int64{}
	for i := range areas {
		if a := &areas[i]; a.Data != nil {
			place[a.Start] = at + 32
			at += 32 + int64(a.Size)
		}
	}
	if lost > 0 {
		s.want.Info.Granule = 1
		last := &areas[len(areas)-1]
		last.Size -= lost
		last.Data = last.Data[:last.Size]
		areas = append(areas, memtest.Area{Range: remora.Range{Start: last.Last() + 1, Size: lost + page}, Fault: memtest.Always(remora.ErrTruncated)})
	}
	s.areas = areas
	s.place = func(a remora.Addr) int64 {
		for start, off := range place {
			for _, area := range s.areas {
				if area.Start == start && area.Contains(a) {
					return off + int64(a-start)
				}
			}
		}
		return -1
	}
	return s
}

func TestSpaceLiME(t *testing.T)      { testSpace(t, limeShape(false, small, 0), 8) }
func TestSpaceLiMEWrite(t *testing.T) { testSpace(t, limeShape(true, small, 0), 3) }
func TestSpaceLiMECut(t *testing.T)   { testSpace(t, limeShape(true, small, 777), 4) }

// rawShape is raw memory with a hole.
func rawShape(writable bool, longest uint64, o vmcore.Options) shape {
	s := shape{opts: o, want: claims(writable, longest)}
	for i := range longest + 3*page {
		s.file = append(s.file, byte(i>>8)+byte(i)*7)
	}
	low := uint64(o.Hole.Start - o.Base)
	s.areas = []memtest.Area{
		{Range: remora.Range{Start: o.Base, Size: low}, Data: bytes.Clone(s.file[:low])},
		{Range: o.Hole, Fault: memtest.Always(remora.ErrHole)},
		{Range: remora.Range{Start: o.Hole.Last() + 1, Size: uint64(len(s.file)) - low}, Data: bytes.Clone(s.file[low:])},
		{Range: remora.Range{Start: o.Hole.Last() + 1 + remora.Addr(uint64(len(s.file))-low), Size: page}, Fault: memtest.Always(remora.ErrHole)},
	}
	s.place = func(a remora.Addr) int64 {
		if a < o.Hole.Start {
			return int64(a - o.Base)
		}
		return int64(low + uint64(a-o.Hole.Last()-1))
	}
	return s
}

func TestSpaceRaw(t *testing.T) {
	testSpace(t, rawShape(false, small, vmcore.Options{Base: 0x40000000, Hole: remora.Range{Start: 0x40002000, Size: 3 * page}}), 7)
}

func TestSpaceRawWrite(t *testing.T) {
	testSpace(t, rawShape(true, small, vmcore.Options{Hole: remora.Range{Start: 0x3000, Size: 0x1000}}), 5)
}

// TestSpaceRawTop reaches up to the last address.
func TestSpaceRawTop(t *testing.T) {
	s := rawShape(true, small, vmcore.Options{Base: 0x1000, Hole: remora.Range{Start: 0x2000, Size: 1<<64 - small - 2*page - 0x2000}})
	s.areas = s.areas[:3]
	s.areas[1].Size = page
	s.want.Lacks.Top = ""
	testSpace(t, s, 6)
}
