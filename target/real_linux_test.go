// SPDX-License-Identifier: Apache-2.0

//go:build linux

package target_test

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/vmlab"
	"github.com/remora-go/remora/internal/vmlab/witness"
	"github.com/remora-go/remora/kernel"
	"github.com/remora-go/remora/paging"
	"github.com/remora-go/remora/target"
	"github.com/remora-go/remora/vmcore"
)

// The tests called TestReal* hold what Remora makes of images of real kernels against
// the memory that the guest had, against what the guest said of itself, and against what
// QEMU and makedumpfile say. They take the kernels of vmlab.Machines.

const page = 4096 // of every machine here

// everything says whether the tests go over all kernels, and use other programs besides.
func everything() bool { return os.Getenv("REMORA_IMAGES") == "all" }

// moment is a lab, with the memory that its guest had.
type moment struct {
	*vmlab.Lab
	ram   *os.File
	bytes []byte // all of it, once memory was called
}

func openMoment(t *testing.T, m vmlab.Machine) *moment {
	t.Helper()
	return withRAM(t, vmlab.Open(t, m))
}

func withRAM(t *testing.T, lab *vmlab.Lab) *moment {
	t.Helper()
	f, err := os.Open(lab.Dump(vmlab.RAM))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return &moment{Lab: lab, ram: f}
}

// at gives where in the file of the guest's memory a physical address is, and how many
// bytes from there on lie in one piece.
func (m *moment) at(a remora.Addr) (off int64, size uint64, ok bool) {
	for _, s := range m.About.Memory() {
		if uint64(a) >= s.Start && uint64(a) < s.End {
			return int64(s.Offset + uint64(a) - s.Start), s.End - uint64(a), true
		}
	}
	return 0, 0, false
}

// rawRanges gives the memory in the order of the file of it.
func (m *moment) rawRanges() (all []remora.Range) {
	for _, s := range m.About.Memory() {
		all = append(all, remora.Range{Start: remora.Addr(s.Start), Size: s.End - s.Start})
	}
	return all
}

// physical reads the guest's memory.
func (m *moment) physical(t testing.TB, p []byte, a remora.Addr) {
	t.Helper()
	for len(p) > 0 {
		off, size, ok := m.at(a)
		n := min(size, uint64(len(p)))
		if !ok {
			t.Fatalf("the guest has no memory at %v", a)
		}
		if _, err := m.ram.ReadAt(p[:n], off); err != nil {
			t.Fatal(err)
		}
		p, a = p[n:], a+remora.Addr(n)
	}
}

// end is the first address behind all memory.
func (m *moment) end() uint64 { return m.About.RAM[len(m.About.RAM)-1].End }

// image opens an image of the moment as physical memory.
func (m *moment) image(t testing.TB, f vmlab.Format) *vmcore.Image {
	t.Helper()
	return openImage(t, strings.Join(m.Parts(f), ","), nil)
}

// openImage opens files, separated by commas, as physical memory.
func openImage(t testing.TB, files string, o *target.Options) *vmcore.Image {
	t.Helper()
	tgt, err := target.Open(context.Background(), "vmcore:"+files+"@phys", o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tgt.Close() })
	return tgt.(*vmcore.Image)
}

// kernel opens the kernel in an image as a command does.
func (m *moment) kernel(t testing.TB, f vmlab.Format) (*kernel.Kernel, *vmcore.Image) {
	t.Helper()
	tgt, err := target.Open(context.Background(), "vmcore:"+strings.Join(m.Parts(f), ","), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tgt.Close() })
	k := tgt.(*target.Kernel)
	return k.Kernel, k.Phys.(*vmcore.Image)
}

// user gives the page tables of the processor that was stopped in the witness of role
// main: with the format of the kernel's, and the root that the processor had.
func (m *moment) user(t testing.TB, f vmlab.Format) *paging.Tables {
	t.Helper()
	k, img := m.kernel(t, f)
	found, err := k.Tables(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	root := m.root(t, img, found.Format)
	return paging.NewTables(img, found.Format, root, &paging.Options{Half: paging.Lower})
}

// root gives the root of that processor: CR3 of the image itself, or satp as QEMU printed
// it. QEMU does not print TTBR0; it is found as what leads to the marker.
func (m *moment) root(t testing.TB, img *vmcore.Image, f *paging.Format) remora.Addr {
	t.Helper()
	switch arch, _, _ := strings.Cut(m.Machine.Kernel, "-"); arch {
	case "amd64":
		for _, c := range img.Meta().CPUs {
			if cr3, ok := c.Regs["cr3"]; ok && c.Index == m.About.CPU {
				return remora.Addr(cr3)
			}
		}
		t.Fatalf("no CR3 of processor %d", m.About.CPU)
	case "riscv64":
		b, err := os.ReadFile(m.Dir + "/registers." + strconv.Itoa(m.About.CPU))
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(b), " satp ")
		if words := strings.Fields(rest); len(words) > 0 {
			satp, err := strconv.ParseUint(words[0], 16, 64)
			if err != nil {
				t.Fatal(err)
			}
			return remora.Addr(satp & (1<<44 - 1) << 12)
		}
		t.Fatalf("no satp in %q", b)
	}
	return m.searchRoot(t, img, f)
}

// searchRoot finds the page tables of arm64 that map the marker page, from the bottom up:
// the entries that lead there, the entries that lead to the tables these are in, and so
// on. Of the roots the one counts from which all of the witness's pages are where the
// guest said that they were.
func (m *moment) searchRoot(t testing.TB, img *vmcore.Image, f *paging.Format) remora.Addr {
	t.Helper()
	first := m.About.RAM[0].Start
	memory := make([]byte, m.end()-first)
	m.physical(t, memory, remora.Addr(first))
	frames := map[uint64]uint64{}
	for _, p := range m.Truth().Pages(m.Truth().Witness(witness.RoleMain).Pid) {
		if p.Present() {
			frames[p.Addr] = p.Frame * page
		}
	}
	to := map[uint64]bool{frames[witness.Base]: true}
	for level := 1; level <= f.Levels(); level++ {
		index := uint64(witness.Base) >> (12 + 9*(level-1)) & 511 * 8
		tables := map[uint64]bool{}
		for i := 0; i < len(memory); i += 8 {
			const valid, address = 3, 0x0000_ffff_ffff_f000
			raw := binary.LittleEndian.Uint64(memory[i:])
			// A top table of few entries can be anywhere in a page.
			if raw&valid == valid && to[raw&address] && (uint64(i)%page == index || level == f.Levels()) {
				tables[first+uint64(i)-index] = true
			}
		}
		to = tables
	}
	var roots []remora.Addr
	for root := range to {
		tables := paging.NewTables(img, f, remora.Addr(root), &paging.Options{Half: paging.Lower})
		same := true
		for va, pa := range frames {
			e := tables.Translate(t.Context(), remora.Addr(va))
			same = same && e.Err == nil && e.Phys+(remora.Addr(va)-e.Virt) == remora.Addr(pa)
		}
		if same {
			roots = append(roots, remora.Addr(root))
		}
	}
	if len(roots) != 1 {
		t.Fatalf("%d roots lead to the witness's pages: %v", len(roots), roots)
	}
	return roots[0]
}

// cause gives the cause of a fault, nil for no error.
func cause(err error) error {
	var c remora.Cause
	if errors.As(err, &c) {
		return c
	}
	return err
}
