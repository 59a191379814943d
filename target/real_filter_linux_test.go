// SPDX-License-Identifier: Apache-2.0

//go:build linux

package target_test

import (
	"errors"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/vmlab"
	"github.com/remora-go/remora/internal/vmlab/witness"
	"github.com/remora-go/remora/paging"
)

// Bits of /proc/kpageflags (the kernel's include/uapi/linux/kernel-page-flags.h).
const (
	kpfLRU  = 1 << 5
	kpfAnon = 1 << 12
	kpfHuge = 1 << 17
	kpfZero = 1 << 24
)

// filters are what each bit of the level leaves out.
var filters = []struct {
	format vmlab.Format
	kind   string
}{
	{"makedumpfile-lzo-2", kindCache},
	{"makedumpfile-lzo-4", kindPrivate},
	{"makedumpfile-lzo-8", kindUser},
	{"makedumpfile-lzo-16", kindFree},
}

// TestRealFilter holds the pages that makedumpfile left out, kind by kind, against what
// it said, and against what the guest said of the pages of its witnesses.
func TestRealFilter(t *testing.T) {
	m := openMoment(t, vmlab.Machine{Kernel: vmlab.AMD64v6_1})
	zero := m.zeros(t)
	out := map[string]pages{} // what is left out, by kind
	for _, f := range filters {
		p := m.classes(t, f.format)
		report := excluded(t, m.Report(f.format))
		if n := p.count(remora.ErrNotSaved); n != report[f.kind] && n != report[kindAll] || n+p.count(nil) != len(p) {
			t.Errorf("%s: %d pages are left out, makedumpfile says %d of %d", f.format, n, report[f.kind], report[kindAll])
		}
		t.Logf("%s: %d pages are left out: %v", f.format, p.count(remora.ErrNotSaved), report)
		out[f.kind] = p
	}
	all := m.classes(t, vmlab.MakedumpfileZlib31)
	report := excluded(t, m.Report(vmlab.MakedumpfileZlib31))
	kinds := map[string]int{}
	for i, why := range all {
		kind := ""
		for _, f := range filters {
			if out[f.kind][i] != nil && kind == "" {
				kind = f.kind
			}
		}
		if kind == "" && zero[i] {
			kinds[kindZero]++
		}
		kinds[kind]++
		if (kind != "") != (why == remora.ErrNotSaved) {
			t.Fatalf("page 0x%x: %v at level 31, but %q at the levels of one bit", i, why, kind)
		}
	}
	for _, kind := range []string{kindZero, kindCache, kindPrivate, kindUser, kindFree} {
		if kinds[kind] != report[kind] {
			t.Errorf("%s: %d at level 31, makedumpfile says %d", kind, kinds[kind], report[kind])
		}
	}
	t.Run("witnesses", func(t *testing.T) { m.testStatements(t, out, all) })
	t.Run("paging", func(t *testing.T) { m.testFiltered(t, all) })
}

// classes gives what became of each page of an image.
func (m *moment) classes(t *testing.T, f vmlab.Format) pages {
	t.Helper()
	p := make(pages, m.end()/page)
	for r, err := range m.image(t, f).Runs(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		for at := uint64(r.Start) / page; at <= uint64(r.Last())/page; at++ {
			p[at] = cause(r.Err)
		}
	}
	return p
}

// testStatements holds what became of each page of the witnesses against what the guest
// said that the page was.
func (m *moment) testStatements(t *testing.T, out map[string]pages, all pages) {
	count := map[string]int{}
	for _, w := range m.Truth().Witnesses {
		for _, p := range m.Truth().Pages(w.Pid) {
			if !p.Present() {
				continue
			}
			kind := ""
			switch {
			case p.Flags&kpfZero != 0: // the kernel's own
			case p.Flags&(kpfAnon|kpfHuge) != 0:
				kind = kindUser
			case p.Flags&kpfLRU != 0:
				kind = kindCache
			}
			count[kind]++
			if kind != "" && all[p.Frame] != remora.ErrNotSaved || kind == "" && all[p.Frame] != nil {
				t.Errorf("0x%x of %s has flags 0x%x: %v", p.Addr, w.Role, p.Flags, all[p.Frame])
			}
			for _, f := range filters {
				// What is private is left out by the filter of all cache, too.
				if got := out[f.kind][p.Frame] != nil; got != (f.kind == kind) && !(f.kind == kindPrivate && kind == kindCache) {
					t.Errorf("0x%x of %s has flags 0x%x; left out as %q: %v", p.Addr, w.Role, p.Flags, f.kind, got)
				}
			}
			if t.Failed() {
				return
			}
		}
	}
	t.Logf("%v", count)
	for kind, least := range map[string]int{kindUser: 4000, kindCache: 300, "": 10} {
		if count[kind] < least {
			t.Errorf("only %d pages of the kind %q", count[kind], kind)
		}
	}
}

// testFiltered reads the witness through its page tables in a filtered image: the tables
// are there, and the pages say that they were left out.
func (m *moment) testFiltered(t *testing.T, all pages) {
	user := m.user(t, vmlab.MakedumpfileZlib31)
	img := m.image(t, vmlab.MakedumpfileZlib31)
	memory := remora.New(paging.New(img, user, nil))
	main := m.Truth().Witness(witness.RoleMain)
	missing := 0
	for _, p := range m.Truth().Pages(main.Pid) {
		if !p.Present() {
			continue
		}
		for _, s := range user.Walk(t.Context(), remora.Addr(p.Addr)) {
			if s.Err != nil || all[s.Table/page] != nil {
				t.Fatalf("0x%x: the table at %v: %v", p.Addr, s.Table, s.Err)
			}
		}
		_, err := memory.Uint8(t.Context(), remora.Addr(p.Addr))
		if why := all[p.Frame]; why == nil && err != nil || why != nil && !errors.Is(err, why) {
			t.Fatalf("0x%x: %v, and its frame: %v", p.Addr, err, why)
		}
		if err != nil {
			missing++
		}
	}
	if missing < 4000 {
		t.Errorf("only %d pages were left out", missing)
	}
}

// TestRealFilteredPages wants the page tables of each witness in an image without user
// pages to lead where the guest said, and what they lead to to be left out.
func TestRealFilteredPages(t *testing.T) {
	m := openMoment(t, vmlab.Machine{Kernel: vmlab.AMD64v6_1})
	k, _ := m.kernel(t, vmlab.MakedumpfileZlib31)
	for _, role := range []string{witness.RoleMain, witness.RoleAreas, witness.RoleThreads} {
		w := m.Truth().Witness(role)
		p := openProcess(t, k, w.Pid, nil)
		present, out, b := 0, 0, make([]byte, page)
		for _, pg := range m.Truth().Pages(w.Pid) {
			if !pg.Present() {
				continue
			}
			present++
			va := remora.Addr(pg.Addr)
			if e := p.Translate(t.Context(), va); e.Err != nil || e.Phys+(va-e.Virt) != remora.Addr(pg.Frame*page) {
				t.Fatalf("%s: %v leads to %+v, not to page 0x%x", role, va, e, pg.Frame)
			}
			_, err := p.Memory().ReadAt(t.Context(), b, va)
			if errors.Is(err, remora.ErrNotSaved) {
				out++
			} else if err != nil {
				t.Errorf("%s: %v", role, err)
			}
		}
		if t.Logf("%s: %d pages, %d left out", role, present, out); out < present*8/10 {
			t.Errorf("%s: %d of %d pages are left out", role, out, present)
		}
	}
}
