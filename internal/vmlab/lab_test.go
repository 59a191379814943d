// SPDX-License-Identifier: Apache-2.0

//go:build linux

package vmlab_test

import (
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"encoding/binary"
	"encoding/hex"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/remora-go/remora/internal/vmlab"
	"github.com/remora-go/remora/internal/vmlab/witness"
)

// Bits of /proc/kpageflags.
const (
	kpfAnon    = 1 << 12
	kpfHuge    = 1 << 17
	kpfTHP     = 1 << 22
	kpfZero    = 1 << 24
	kpfBacked  = 1 << 14 // by swap
	kpfMapped  = 1 << 11
	halfOfThem = 2
)

// moment is a lab with what the tests here look at.
type moment struct {
	*vmlab.Lab
	ram   *os.File
	main  *witness.Report
	pages map[uint64]vmlab.Page // of the main witness, by address
}

func open(t *testing.T, m vmlab.Machine) *moment {
	t.Helper()
	lab := vmlab.Open(t, m)
	main := lab.Truth().Witness(witness.RoleMain)
	pages := map[uint64]vmlab.Page{}
	for _, p := range lab.Truth().Pages(main.Pid) {
		pages[p.Addr] = p
	}
	return &moment{lab, openFile(t, lab.Dump(vmlab.RAM)), main, pages}
}

// physical reads the guest's memory by physical address.
func (m *moment) physical(t *testing.T, p []byte, at uint64) {
	t.Helper()
	for _, s := range m.About.RAM {
		if at >= s.Start && at+uint64(len(p)) <= s.End {
			if _, err := m.ram.ReadAt(p, int64(at-s.Start+s.Offset)); err != nil {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatalf("no RAM at 0x%x", at)
}

// region gives a region's contents by its pages' frames; ok is false if one has none.
func (m *moment) region(t *testing.T, g witness.Region) (contents []byte, ok bool) {
	t.Helper()
	size := uint64(m.main.Page)
	contents = make([]byte, g.End-g.Start)
	for at := g.Start; at < g.End; at += size {
		p := m.pages[at]
		if !p.Present() {
			return nil, false
		}
		m.physical(t, contents[at-g.Start:][:size], p.Frame*size)
	}
	return contents, true
}

func TestKernelMoments(t *testing.T) {
	for _, machine := range vmlab.Machines() {
		t.Run(machine.String(), func(t *testing.T) {
			m := open(t, machine)
			t.Logf("%v, QEMU %s: the witness was found at stop %d", m.About.Packages, m.About.QEMU, m.About.Tries)
			t.Run("regions", m.testRegions)
			t.Run("swap", m.testSwap)
			t.Run("translations", m.testTranslations)
			t.Run("processes", m.testProcesses)
			t.Run("kernel", m.testKernel)
			t.Run("ELF", m.testELF)
		})
	}
}

// testRegions holds what the guest said of each region against the memory at the frames
// that it said the region had.
func (m *moment) testRegions(t *testing.T) {
	kinds := map[witness.Kind]bool{}
	for _, g := range m.main.Regions {
		kinds[g.Kind] = true
		contents, present := m.region(t, g)
		if present && g.Sum != "" {
			if sum := sha256.Sum256(contents); hex.EncodeToString(sum[:]) != g.Sum {
				t.Errorf("%s: its frames do not hold what the witness had", g.Name)
			}
		}
		wantFlags, wantNot := uint64(0), uint64(0)
		absent := false
		switch g.Kind {
		case witness.Anon, witness.High, witness.None, witness.BesideIt, witness.FileCopy:
			wantFlags, wantNot = kpfAnon|kpfMapped, kpfHuge|kpfZero
		case witness.Zero:
			wantFlags = kpfZero
		case witness.File, witness.Shared:
			wantFlags, wantNot = kpfMapped|kpfBacked, kpfAnon
		case witness.Disk:
			wantFlags, wantNot = kpfMapped, kpfAnon|kpfBacked
		case witness.Huge:
			wantFlags = kpfTHP
		case witness.HugeTLB:
			wantFlags = kpfHuge
		case witness.Untouched, witness.Dropped, witness.FileUnread, witness.DiskUnread, witness.Guard:
			absent = true
		case witness.Swapped:
			continue
		default:
			t.Errorf("%s: of an unknown kind %s", g.Name, g.Kind)
		}
		if present == absent {
			t.Errorf("%s: present %v", g.Name, present)
		}
		for at := g.Start; at < g.End && !absent; at += uint64(m.main.Page) {
			if f := m.pages[at].Flags; f&wantFlags != wantFlags || f&wantNot != 0 {
				t.Errorf("%s: page 0x%x has flags %x, want %x and none of %x", g.Name, at, f, wantFlags, wantNot)
				break
			}
		}
	}
	if len(kinds) < 16 {
		t.Errorf("only the kinds %v", kinds)
	}
	anon, _ := m.main.Find(witness.Anon)
	if contents, _ := m.region(t, anon); !bytes.HasPrefix(contents, []byte(witness.Marker)) || anon.Start != witness.Base {
		t.Errorf("no marker at 0x%x", anon.Start)
	}
}

// testSwap finds the swapped region's contents on the swap disk.
func (m *moment) testSwap(t *testing.T) {
	g, _ := m.main.Find(witness.Swapped)
	want := make([]byte, g.End-g.Start)
	witness.Fill(want, g.Seed)
	swap := openFile(t, m.Dump(vmlab.Swap))
	size := m.main.Page
	got, out := make([]byte, size), 0
	for i := 0; i < len(want); i += size {
		p := m.pages[g.Start+uint64(i)]
		area, slot, ok := p.Swap()
		if !ok {
			continue
		}
		out++
		if bytes.Count(want[i:i+size], []byte{0}) == size {
			continue // some kernels only note that a page was of zeros
		}
		if _, err := swap.ReadAt(got, int64(slot)*int64(size)); err != nil || area != 0 || !bytes.Equal(got, want[i:i+size]) {
			t.Fatalf("page 0x%x is not in slot %d of area %d (%v)", p.Addr, slot, area, err)
		}
	}
	if out < len(want)/size/halfOfThem {
		t.Errorf("only %d of %d pages were pushed out", out, len(want)/size)
	}
}

// testTranslations holds QEMU's word against the guest's, where the guest gave one.
func (m *moment) testTranslations(t *testing.T) {
	size := uint64(m.main.Page)
	agreed := map[string]int{}
	for _, a := range m.Translations() {
		page := m.pages[a.VA&^(size-1)]
		switch {
		case page.Present() && a.Mapped:
			if want := page.Frame*size + a.VA&(size-1); a.PA != want {
				t.Fatalf("0x%x: QEMU says 0x%x, the guest 0x%x", a.VA, a.PA, want)
			}
			agreed["user"]++
		case page.Addr != 0 && !page.Present() && a.Mapped:
			t.Fatalf("0x%x: QEMU says 0x%x, the guest that it is not there", a.VA, a.PA)
		case a.VA>>63 != 0 && a.Mapped:
			if va, ok := m.Truth().DirectMap(a.PA); ok && va == a.VA {
				agreed["direct map"]++
			} else {
				agreed["kernel"]++
			}
		case !a.Mapped:
			agreed["unmapped"]++
		}
	}
	for _, kind := range []string{"user", "direct map", "kernel", "unmapped"} {
		if agreed[kind] < 400 {
			t.Errorf("too few answers of the kind %s: %v", kind, agreed)
		}
	}
}

func (m *moment) testProcesses(t *testing.T) {
	file := func(w *witness.Report, name string) string {
		return string(m.Truth().File("proc/%d/%s", w.Pid, name))
	}
	areas := m.Truth().Witness(witness.RoleAreas)
	if n := strings.Count(file(areas, "maps"), "\n"); n < 2000 {
		t.Errorf("%d areas", n)
	}
	threads := m.Truth().Witness(witness.RoleThreads)
	for i, tid := range threads.Threads {
		if name := strings.TrimSpace(string(m.Truth().File("proc/%d/task/%d/comm", threads.Pid, tid))); name != "thread-"+string("0123456789abcdef"[i]) && i < 10 {
			t.Errorf("thread %d is called %q", i, name)
		}
	}
	if env, line := file(threads, "environ"), file(threads, "cmdline"); len(threads.Threads) != 16 ||
		!strings.Contains(env, "VARIABLE_299=v") || len(env) < 40_000 || !strings.Contains(line, "argument-119") {
		t.Errorf("%d threads, %d bytes of environment, %d of arguments", len(threads.Threads), len(env), len(line))
	}
	if !strings.Contains(file(m.main, "status"), "State:") || !strings.Contains(file(m.main, "smaps"), "VmFlags:") {
		t.Error("no status or no smaps")
	}
}

func (m *moment) testKernel(t *testing.T) {
	info := m.Truth().VMCOREINFO()
	var stext string
	for _, s := range m.Truth().Symbols() {
		if s.Name == "_stext" {
			stext = hex.EncodeToString(binary.BigEndian.AppendUint64(nil, s.Addr))
		}
	}
	if stext == "" || info["SYMBOL(_stext)"] != strings.TrimLeft(stext, "0") {
		t.Errorf("_stext is at %s for kallsyms, at %s for VMCOREINFO", stext, info["SYMBOL(_stext)"])
	}
	if btf := m.Truth().File("sys/kernel/btf/vmlinux"); !bytes.HasPrefix(btf, []byte{0x9f, 0xeb}) {
		t.Errorf("%d bytes of BTF", len(btf))
	}
	for _, name := range []string{"kmsg", "dmesg", "proc/iomem", "proc/modules", "proc/swaps"} {
		if len(m.Truth().File("%s", name)) == 0 {
			t.Errorf("no %s", name)
		}
	}
}

// testELF holds every byte of QEMU's ELF image against the guest's memory: the image is
// of the same moment.
func (m *moment) testELF(t *testing.T) {
	f, err := elf.Open(m.Dump(vmlab.ELF))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if n := m.holds(t, f); n < uint64(vmlab.DefaultMiB-1)<<20 {
		t.Errorf("only %d bytes are in both", n)
	}
}

// holds compares every byte of an ELF image that is RAM, and gives how many there are.
func (m *moment) holds(t *testing.T, f *elf.File) (checked uint64) {
	t.Helper()
	got, want := make([]byte, 1<<20), make([]byte, 1<<20)
	for _, p := range f.Progs {
		if p.Type != elf.PT_LOAD {
			continue
		}
		for _, s := range m.About.RAM {
			lo, hi := max(s.Start, p.Paddr), min(s.End, p.Paddr+p.Filesz)
			for lo < hi {
				n := min(hi-lo, uint64(len(got)))
				m.physical(t, want[:n], lo)
				if _, err := p.ReadAt(got[:n], int64(lo-p.Paddr)); err != nil && err != io.EOF {
					t.Fatal(err)
				}
				if !bytes.Equal(got[:n], want[:n]) {
					t.Fatalf("the image differs within 1 MiB of 0x%x", lo)
				}
				lo += n
				checked += n
			}
		}
	}
	return checked
}
