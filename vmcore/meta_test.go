// SPDX-License-Identifier: Apache-2.0

package vmcore_test

import (
	"context"
	"debug/elf"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/testimage"
	"github.com/remora-go/remora/vmcore"
)

// TestMaker guesses who made an image.
func TestMaker(t *testing.T) {
	mem := testimage.Random(1, page, 10)
	whole := scattered()
	cpu := (&testimage.Core{}).PRStatus(1, 0, make([]uint64, 27)...)
	for name, tc := range map[string]struct {
		image testimage.VMCore
		want  string
	}{
		"kernel":           {testimage.VMCore{Mem: wholly(whole), Vaddr: directMap, Notes: []testimage.Note{cpu, info()}}, "the kernel (/proc/vmcore)"},
		"makedumpfile":     {testimage.VMCore{Mem: mem, Vaddr: directMap, Notes: []testimage.Note{cpu, info()}}, "makedumpfile"},
		"erased":           {testimage.VMCore{Mem: wholly(whole), Vaddr: directMap, Notes: []testimage.Note{cpu, info(), testimage.EraseNote("x")}}, "makedumpfile"},
		"filtered QEMU":    {testimage.VMCore{Mem: memory(3), Vaddr: directMap, Notes: []testimage.Note{cpu, (&testimage.QEMUState{}).Note(), info()}}, "makedumpfile"},
		"QEMU":             {testimage.VMCore{Mem: wholly(whole), Notes: []testimage.Note{cpu, (&testimage.QEMUState{}).Note(), info()}}, "QEMU"},
		"QEMU, no note":    {testimage.VMCore{Mem: wholly(whole), Machine: elf.EM_AARCH64, Vaddr: func(a uint64) uint64 { return a }, Notes: []testimage.Note{(&testimage.Core{}).PRStatus(1, 0, make([]uint64, 34)...), info()}}, "QEMU"},
		"nothing to go by": {testimage.VMCore{Mem: wholly(whole), Vaddr: directMap}, ""},
	} {
		if got := newImage(t, tc.image.Bytes(), nil).Meta().Maker; got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}

// wholly is mem with nothing left out.
func wholly(mem *testimage.Physical) *testimage.Physical { return asLiME(mem) }

// TestMeta wants what the notes say.
func TestMeta(t *testing.T) {
	m := newImage(t, (&testimage.VMCore{Mem: wholly(scattered()), Vaddr: func(a uint64) uint64 { return 0xffffffff80000000 + a - 0x1000 }, Notes: []testimage.Note{info()}}).Bytes(), nil)
	meta := m.Meta()
	if meta.Machine != elf.EM_X86_64 || meta.WordSize != 8 || meta.BigEndian || meta.PageSize != 4096 || meta.Version != -1 || meta.Level != -1 ||
		meta.Uname[0] != "Linux" || meta.Uname[2] != "6.1.0-remora" || !meta.Time.Equal(time.Unix(1700000000, 0)) || meta.PhysBase != 1<<64-16777216 || !meta.HasBase {
		t.Errorf("%+v", meta)
	}
	if len(meta.Notes) != 1 || meta.Notes[0].Owner != "VMCOREINFO" || !strings.HasPrefix(string(meta.VMCoreInfo), "OSRELEASE=6.1.0-remora\n") {
		t.Errorf("%+v", meta.Notes)
	}
	m = newImage(t, (&testimage.VMCore{Mem: wholly(scattered()), Vaddr: func(a uint64) uint64 { return 0xffffffff80000000 + a - 0x1000 }}).Bytes(), nil)
	if meta := m.Meta(); meta.PhysBase != 0x1000 || !meta.HasBase {
		t.Errorf("%x", meta.PhysBase)
	}
	m = newImage(t, (&testimage.VMCore{Mem: wholly(scattered()), BigEndian: true, Machine: elf.EM_386, Notes: []testimage.Note{testimage.VMCoreInfoNote([]byte("PAGESIZE=3\nCRASHTIME=x\nNUMBER(phys_base)=\n"))}}).Bytes(), nil)
	if meta := m.Meta(); meta.WordSize != 4 || !meta.BigEndian || meta.PageSize != 0 || meta.HasBase || !meta.Time.IsZero() {
		t.Errorf("%+v", meta)
	}
}

// TestCPUs wants the registers of each machine by name. A processor that did not answer
// has an empty note.
func TestCPUs(t *testing.T) {
	regs := func(n int) (all []uint64) {
		for i := range n {
			all = append(all, 0x1000+uint64(i))
		}
		return all
	}
	state := testimage.QEMUState{RIP: 7, CR: [5]uint64{1, 0, 2, 3, 4}, KernelGS: 9}
	state.Segments[3].Selector, state.Segments[4].Base = 0x10, 8
	for _, tc := range []struct {
		machine elf.Machine
		count   int
		want    map[string]uint64
	}{
		{elf.EM_X86_64, 27, map[string]uint64{"r15": 0x1000, "rip": 0x1010, "rsp": 0x1013, "fs_base": 0x1015, "gs": 0x101a}},
		{elf.EM_AARCH64, 34, map[string]uint64{"x0": 0x1000, "x30": 0x101e, "sp": 0x101f, "pc": 0x1020, "cpsr": 0x1021}},
		{elf.EM_RISCV, 32, map[string]uint64{"pc": 0x1000, "ra": 0x1001, "sp": 0x1002, "fp": 0x1008, "a0": 0x100a, "t6": 0x101f}},
	} {
		core := testimage.Core{}
		empty := testimage.Note{Name: "CORE", Type: 1}
		v := testimage.VMCore{Mem: scattered(), Machine: tc.machine, NoteEach: true,
			Notes: []testimage.Note{core.PRStatus(1, 0, regs(tc.count)...), empty, core.PRStatus(77, 0, regs(tc.count)...), state.Note()}}
		cpus := newImage(t, v.Bytes(), nil).Meta().CPUs
		if len(cpus) != 3 || cpus[0].Index != 0 || cpus[1].Index != 2 || cpus[1].PID != 77 || cpus[1].Source != "NT_PRSTATUS" || cpus[2].Index != 0 || cpus[2].Source != "QEMU" {
			t.Fatalf("%v: %+v", tc.machine, cpus)
		}
		if len(cpus[1].Regs) != tc.count {
			t.Errorf("%v: %d registers", tc.machine, len(cpus[1].Regs))
		}
		for name, v := range tc.want {
			if cpus[1].Regs[name] != v {
				t.Errorf("%v: %s = 0x%x", tc.machine, name, cpus[1].Regs[name])
			}
		}
		for name, v := range map[string]uint64{"rip": 7, "cr0": 1, "cr2": 2, "cr3": 3, "cr4": 4, "k_gs_base": 9, "gs_base": 8, "fs": 0x10} {
			if cpus[2].Regs[name] != v {
				t.Errorf("QEMU: %s = 0x%x, want 0x%x: %v", name, cpus[2].Regs[name], v, slices.Sorted(maps.Keys(cpus[2].Regs)))
			}
		}
	}
}

// TestLargeNote has a note that is not kept in memory.
func TestLargeNote(t *testing.T) {
	v := testimage.VMCore{Mem: scattered(), Notes: []testimage.Note{testimage.DeviceDump("eth0", make([]byte, 2<<20)), info()}}
	notes := newImage(t, v.Bytes(), nil).Meta().Notes
	if len(notes) != 2 || notes[0].Size != 44+(2<<20) || notes[0].Desc != nil || notes[0].Offset == 0 || len(notes[1].Desc) == 0 {
		t.Errorf("%d notes, %d bytes", len(notes), notes[0].Size)
	}
}

// TestDescribe wants the facts and the regions of an image.
func TestDescribe(t *testing.T) {
	mem := &testimage.Physical{}
	mem.Set(0, nil)
	mem.Mark(1, 2, testimage.Excluded)
	mem.Set(16, nil)
	mem.Mark(17, 1, testimage.Lost)
	state := testimage.QEMUState{}
	v := testimage.VMCore{Mem: mem, Vaddr: directMap, Notes: []testimage.Note{info(), (&testimage.Core{}).PRStatus(1, 0, make([]uint64, 27)...), state.Note()}}
	m := newImage(t, v.Bytes(), nil)
	describer, ok := remora.As[remora.Describer](m.Memory())
	if !ok {
		t.Fatal("no Describer behind Memory")
	}
	facts, err := describer.Describe(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for _, f := range facts {
		fmt.Fprintf(&text, "%s: %s\n", f.Key, f.Value)
	}
	for _, want := range []string{
		"kind: kernel image (physical memory)\n", "format: elf, words of 8 bytes, little-endian\n", "made by: makedumpfile\n", "arch: amd64\n", "page size: 4096\n",
		"kernel: Linux 6.1.0-remora\n", "time: 2023-11-14 22:13:20 UTC\n", "addresses: 0x0-0x10fff\n", "saved: 8192 bytes\n", "not saved: 8192 bytes\n", "lost: 4096 bytes\n",
		"processors: 1 with registers\n", "VMCOREINFO: ", "problem: image: offset 0x",
	} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %q in\n%s", want, &text)
		}
	}
	var regions []string
	mapper, _ := remora.As[remora.Mapper](m)
	for r, err := range mapper.Regions(context.Background()) {
		if err != nil {
			t.Fatal(err)
		}
		regions = append(regions, fmt.Sprintf("%v %v %s", r.Range, r.Perm, r.Name))
	}
	want := "0x0+0x1000 r-- System RAM; 0x1000+0x2000 --- System RAM (not saved in this dump); " +
		"0x10000+0x1000 r-- System RAM; 0x11000+0x1000 --- System RAM (lost: the dump is cut off)"
	if got := strings.Join(regions, "; "); got != want {
		t.Errorf("%s", got)
	}
}

// TestClosed wants an image that is closed to say so.
func TestClosed(t *testing.T) {
	m := openImage(t, (&testimage.VMCore{Mem: scattered()}).Bytes(), nil)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for _, err := range m.Regions(ctx) {
		if err != context.Canceled {
			t.Error(err)
		}
	}
	if _, err := m.Describe(ctx); err != context.Canceled {
		t.Error(err)
	}
	if err := m.Check(ctx, func(bad *remora.FormatError) { t.Error(bad) }); err != context.Canceled {
		t.Error(err)
	}
	for range 2 {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}
	for r, err := range m.Runs(context.Background()) {
		if err != fs.ErrClosed {
			t.Error(r, err)
		}
	}
	if err := m.Check(context.Background(), nil); err != fs.ErrClosed {
		t.Error(err)
	}
	if err := m.Explain(context.Background(), remora.Read, 0, remora.ErrHole); err != remora.ErrHole {
		t.Error(err)
	}
	if _, err := at(m, 0); err == nil {
		t.Error("read after Close")
	}
	if m.Meta().Format != vmcore.ELF {
		t.Error("what was decoded is gone")
	}
}
