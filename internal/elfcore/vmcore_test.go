// SPDX-License-Identifier: Apache-2.0

package elfcore_test

import (
	"bytes"
	"debug/elf"
	"fmt"
	"testing"

	"github.com/remora-go/remora/internal/elfcore"
	"github.com/remora-go/remora/internal/testimage"
)

// readCore reads a file back, and holds the memory of every segment against it.
func readCore(t *testing.T, v *testimage.VMCore) *elfcore.File {
	t.Helper()
	b := v.Bytes()
	f, err := elfcore.Read(bytes.NewReader(b), int64(len(b)), "test")
	if err != nil {
		t.Fatal(err)
	}
	size := uint64(v.Mem.Size())
	for i := range f.Progs {
		p := &f.Progs[i]
		if p.Type != elf.PT_LOAD || p.Paddr == testimage.NoPaddr {
			continue
		}
		saved := f.Saved(p)
		for off := uint64(0); off < p.Memsz; off += size {
			want, class := v.Mem.Page((p.Paddr + off) / size)
			switch {
			case class == testimage.Lost:
				if off < saved || off >= p.Filesz {
					t.Errorf("lost page at %#x is in the file", p.Paddr+off)
				}
			case class != testimage.Saved:
				if off < p.Filesz {
					t.Errorf("%v page at %#x is in the file", class, p.Paddr+off)
				}
			case off >= saved:
				t.Errorf("page at %#x is not in the file", p.Paddr+off)
			case !bytes.Equal(b[p.Off+off:][:size], want):
				t.Errorf("page at %#x differs", p.Paddr+off)
			}
		}
	}
	return f
}

func TestVMCore(t *testing.T) {
	mem := testimage.Random(9, 4096, 120)
	mem.Mark(mem.End()-5, 3, testimage.Lost)
	pages := len(mem.PFNs())
	direct := func(p uint64) uint64 { return 0xffff888000000000 + p }
	for i, v := range []testimage.VMCore{
		{},
		{Vaddr: direct},
		{Extended: true, ShdrFirst: true},
		{ShdrFirst: true, Skew: 0x4dc},
		{PhOff: 1 << 16},
		{PhOff: ^uint64(0), Extended: true},
		{Shuffle: 3, Skew: 7, ZeroProgs: 4, Flags: 1},
		{NoteEach: true},
	} {
		for _, narrow := range []bool{false, true} {
			for _, big := range []bool{false, true} {
				t.Run(fmt.Sprintf("%d,narrow=%v,big=%v", i, narrow, big), func(t *testing.T) {
					v.Mem, v.Narrow, v.BigEndian = mem, narrow, big
					v.Notes = []testimage.Note{
						testimage.VMCoreInfoNote(testimage.VMCoreInfo("OSRELEASE", "6.1")),
						(&testimage.QEMUState{CR: [5]uint64{1, 2, 3, 0x1234000, 1 << 12}}).Note(),
					}
					f := readCore(t, &v)
					var ram, notes int
					for j := range f.Progs {
						p := &f.Progs[j]
						if p.Type == elf.PT_LOAD {
							ram += int(p.Memsz) / 4096
							if v.Vaddr != nil && !narrow && p.Vaddr != direct(p.Paddr) {
								t.Errorf("%#x is at %#x", p.Paddr, p.Vaddr)
							}
							continue
						}
						for n, err := range f.Notes(p) {
							if err != nil {
								t.Fatal(err)
							}
							b, err := f.Desc(n, 1000)
							if err != nil || n.Owner == "QEMU" && !bytes.Equal(b[416:427], []byte{0, 0x40, 0x23, 1, 0, 0, 0, 0, 0, 0x10, 0}) {
								t.Errorf("note of %s: %x, %v", n.Owner, b, err)
							}
							notes++
						}
					}
					if notes != 2 || ram != pages {
						t.Errorf("%d notes, %d pages", notes, ram)
					}
					if v.PhOff == 1<<16 && f.ProgOff != 1<<16 || v.ShdrFirst && f.ProgOff != 0xc0 && !narrow {
						t.Errorf("program headers at %#x", f.ProgOff)
					}
				})
			}
		}
	}
}

func TestVMCoreExtra(t *testing.T) {
	mem := testimage.Random(10, 4096, 40)
	page := bytes.Repeat([]byte("text"), 1024)
	const text = 9 << 20
	mem.Write(text, page)
	v := &testimage.VMCore{Mem: mem, Extra: []testimage.Segment{
		{Vaddr: 0xffffffff81000000, Paddr: text, Filesz: 4096, Memsz: 4096, Same: true},
		{Vaddr: 0xffffffff82000000, Paddr: text, Data: page},
		{Vaddr: 0xffffc90000000000, Paddr: testimage.NoPaddr, Memsz: 1 << 40},
	}}
	f := readCore(t, v)
	n := len(f.Progs)
	if a, b := f.Progs[n-3], f.Progs[n-2]; a.Off == b.Off || a.Paddr != text || b.Memsz != 4096 {
		t.Errorf("%+v, %+v", a, b)
	}
	if p := f.Progs[n-1]; p.Paddr != testimage.NoPaddr || p.Memsz != 1<<40 || p.Filesz != 0 {
		t.Errorf("%+v", p)
	}
	var s testimage.Sparse
	huge := &testimage.Physical{Runs: []testimage.Run{{First: 1, End: 1 << 28}}}
	huge.Set(1<<27, []byte("middle"))
	segments, err := (&testimage.VMCore{Mem: huge}).WriteTo(&s)
	if err != nil || len(segments) != 1 || s.Size() != int64(segments[0].Off)+1<<40-4096 {
		t.Fatalf("%+v, %v, %d bytes", segments, err, s.Size())
	}
	b := make([]byte, 6)
	if _, err := s.ReadAt(b, int64(segments[0].Off)+(1<<27-1)*4096); err != nil || string(b) != "middle" {
		t.Errorf("%q, %v", b, err)
	}
}
