// SPDX-License-Identifier: Apache-2.0

//go:build linux

package target_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/vmlab"
	"github.com/remora-go/remora/internal/vmlab/witness"
	"github.com/remora-go/remora/paging"
)

// TestRealPaging walks the page tables of every machine.
func TestRealPaging(t *testing.T) {
	for _, machine := range vmlab.Machines() {
		t.Run(machine.String(), func(t *testing.T) {
			m := openMoment(t, machine)
			user := m.user(t, vmlab.ELF)
			t.Logf("a processor was in the witness at stop %d; its root is %v", m.About.Tries, user.Root())
			t.Run("QEMU", func(t *testing.T) { m.testTranslations(t, user) })
			t.Run("witness", func(t *testing.T) { m.testWitness(t, user) })
			t.Run("kernel", m.testKernel)
			t.Run("memory", m.testMemory)
		})
	}
}

// testTranslations holds translations against those of QEMU, which knows no page that is
// there without access.
func (m *moment) testTranslations(t *testing.T, user *paging.Tables) {
	k, _ := m.kernel(t, vmlab.ELF)
	none, _ := m.Truth().Witness(witness.RoleMain).Find(witness.None)
	count := map[string]int{}
	for _, a := range m.Translations() {
		half, tables := "user", remora.Translator(user)
		if a.VA>>63 != 0 {
			half, tables = "kernel", k
		}
		e := tables.Translate(t.Context(), remora.Addr(a.VA))
		pa := uint64(e.Phys) + a.VA - uint64(e.Virt)
		switch {
		case a.Mapped && e.Err == nil && pa == a.PA:
			count[half]++
		case !a.Mapped && e.Err != nil:
			count["not "+half]++
		case !a.Mapped && a.VA >= none.Start && a.VA < none.End && e.Perm == 0:
			count["no access"]++
		default:
			t.Errorf("0x%x: QEMU says 0x%x (%v), the tables say 0x%x (%v)", a.VA, a.PA, a.Mapped, pa, e.Err)
		}
		if t.Failed() {
			break
		}
	}
	t.Log(count)
	for _, kind := range []string{"user", "not user", "kernel", "not kernel", "no access"} {
		if count[kind] < 30 {
			t.Errorf("too few addresses of the kind %q: %v", kind, count)
		}
	}
}

// testWitness reads each region of the witness through its page tables.
func (m *moment) testWitness(t *testing.T, user *paging.Tables) {
	img := m.image(t, vmlab.ELF)
	tables := paging.NewTables(img, user.Format(), user.Root(), &paging.Options{Half: paging.Lower})
	memory := remora.New(paging.New(img, tables, nil))
	main := m.Truth().Witness(witness.RoleMain)
	pages := map[uint64]vmlab.Page{}
	for _, p := range m.Truth().Pages(main.Pid) {
		pages[p.Addr] = p
	}
	for _, g := range main.Regions {
		contents := make([]byte, g.End-g.Start)
		n, err := memory.ReadAt(t.Context(), contents, remora.Addr(g.Start))
		switch g.Kind {
		case witness.Untouched, witness.Dropped, witness.FileUnread, witness.DiskUnread:
			m.absent(t, memory, g, remora.ErrUnmapped)
			continue
		case witness.Guard:
			m.absent(t, memory, g, remora.ErrGuard)
			continue
		case witness.Swapped:
			m.testSwapped(t, memory, tables, g, pages)
			continue
		}
		if err != nil {
			t.Errorf("%s: %d bytes, %v", g.Name, n, err)
			continue
		}
		if sum := sha256.Sum256(contents); g.Sum != "" && hex.EncodeToString(sum[:]) != g.Sum {
			t.Errorf("%s: read through the page tables, it is not what the witness had", g.Name)
		}
		want := make([]byte, len(contents))
		if g.Seed != 0 {
			witness.Fill(want, g.Seed)
		}
		if g.Kind == witness.Anon {
			copy(want, witness.Marker)
		}
		if !bytes.Equal(contents, want) {
			t.Errorf("%s: read through the page tables, it is not what was written there", g.Name)
		}
		for at := g.Start; at < g.End; at += page {
			e := tables.Translate(t.Context(), remora.Addr(at))
			if pa := uint64(e.Phys) + at - uint64(e.Virt); pa != pages[at].Frame*page || (g.Kind == witness.None) != (e.Perm&remora.PermRead == 0) {
				t.Fatalf("%s: 0x%x is at 0x%x (%v), and was in frame 0x%x", g.Name, at, pa, e.Perm, pages[at].Frame)
			}
		}
	}
}

// absent wants the same cause at each page of a region.
func (m *moment) absent(t *testing.T, memory *remora.Memory, g witness.Region, want error) {
	t.Helper()
	for at := g.Start; at < g.End; at += page {
		if _, err := memory.Uint8(t.Context(), remora.Addr(at)); cause(err) != want {
			t.Errorf("%s: 0x%x: %v, want %v", g.Name, at, err, want)
			return
		}
	}
}

// testSwapped holds the pages of a region that was pushed out against what the guest said
// of each: where in which swap area it was, or in which frame it still was.
func (m *moment) testSwapped(t *testing.T, memory *remora.Memory, tables *paging.Tables, g witness.Region, pages map[uint64]vmlab.Page) {
	out := 0
	for at := g.Start; at < g.End; at += page {
		steps := tables.Walk(t.Context(), remora.Addr(at))
		last := steps[len(steps)-1].Entry
		area, slot, ok := pages[at].Swap()
		_, err := memory.Uint8(t.Context(), remora.Addr(at))
		switch {
		case !ok && err == nil && last.Kind == paging.KindLeaf:
		case ok && cause(err) == remora.ErrNotPresent && last.Kind == paging.KindSwap && int(last.Type) == area && last.Offset == slot &&
			strings.Contains(err.Error(), "swap"):
			out++
		default:
			t.Fatalf("0x%x: %v, %v; the guest said area %d, slot 0x%x (%v)", at, last, err, area, slot, ok)
		}
	}
	if out < 100 {
		t.Errorf("only %d pages were out", out)
	}
}

// testKernel reads what the kernel says of itself in each image that QEMU made.
func (m *moment) testKernel(t *testing.T) {
	for _, f := range []vmlab.Format{vmlab.ELF, vmlab.ELFPaging, vmlab.KdumpZlib} {
		if m.Has(f) {
			m.testSelf(t, f)
		}
	}
	high := 0
	for _, a := range m.Translations() {
		if a.Mapped && a.PA >= 4<<30 {
			high++
		}
	}
	if m.Machine.MiB > 4<<10 && high < 1000 {
		t.Errorf("only %d addresses lie above 4 GiB", high)
	}
}

// testMemory holds all that the images of QEMU have against the guest's memory, of which
// they must have all. They may have the firmware's ROM besides.
func (m *moment) testMemory(t *testing.T) {
	for _, f := range []vmlab.Format{vmlab.ELF, vmlab.KdumpZlib} {
		p := m.compare(t, m.image(t, f))
		for i, why := range p {
			_, _, has := m.at(remora.Addr(i) * page)
			if why != nil && (has || why != remora.ErrHole) {
				t.Fatalf("%s: page 0x%x: %v; it is memory: %v", f, i, why, has)
			}
		}
	}
}

// testSelf reads what the kernel says of itself, at its own addresses.
func (m *moment) testSelf(t *testing.T, f vmlab.Format) {
	t.Helper()
	symbols := map[string]remora.Addr{}
	for _, s := range m.Truth().Symbols() {
		if s.Module == "" {
			symbols[s.Name] = remora.Addr(s.Addr)
		}
	}
	k, _ := m.kernel(t, f)
	found, err := k.Tables(t.Context())
	if err != nil {
		t.Fatalf("%s: %v", f, err)
	}
	t.Logf("%s: %v, root %v, found by %s", f, found.Format, found.Root, found.How)
	if va, ok := symbols["linux_banner"]; ok { // not every kernel lists its data
		want := strings.TrimSpace(string(m.Truth().File("proc/version")))
		if banner, err := k.Memory().CString(t.Context(), va, 512); err != nil || strings.TrimSpace(banner) != want {
			t.Errorf("%s: linux_banner is %q (%v), want %q", f, banner, err, want)
		}
	}
	if k.VMCoreInfo() == nil {
		return
	}
	release := strings.TrimSpace(string(m.Truth().File("proc/sys/kernel/osrelease")))
	if names, err := k.Uname(t.Context()); err != nil || names[2] != release || k.VMCoreInfo().Release() != release {
		t.Errorf("%s: uname %q (%v), OSRELEASE %q, want %q", f, names, err, k.VMCoreInfo().Release(), release)
	}
	high := m.About.RAM[len(m.About.RAM)-1].Start
	va, ok := m.Truth().DirectMap(high)
	if l, err := k.Layout(t.Context()); err != nil || !ok || !l.Direct || uint64(l.DirectBase)+high != va {
		t.Errorf("%s: memory is mapped from %v on (%v); by /proc/kcore 0x%x is at 0x%x", f, l.DirectBase, err, high, va)
	}
	for key, want := range m.Truth().VMCOREINFO() {
		if got, _ := k.VMCoreInfo().Text(key); got != want {
			t.Errorf("%s: %s is %q, the guest has %q", f, key, got, want)
		}
	}
}
