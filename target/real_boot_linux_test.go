// SPDX-License-Identifier: Apache-2.0

//go:build linux

package target_test

import (
	"context"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/vmlab"
	"github.com/remora-go/remora/kernel"
	"github.com/remora-go/remora/vmcore"
)

// placed is where a kernel was, as the guest had it.
type placed struct {
	root remora.Addr
	base uint64
	info map[string]string

	symbols map[string][]remora.Addr // of the kernel itself
}

// placed takes it from the guest's VMCOREINFO.
func (m *moment) placed(t *testing.T) (p placed) {
	t.Helper()
	p.info = m.Truth().VMCOREINFO()
	var text strings.Builder
	for key, value := range p.info {
		text.WriteString(key + "=" + value + "\n")
	}
	v := kernel.ParseVMCoreInfo([]byte(text.String()))
	const x86Image = 0xffffffff80000000
	if n, ok := v.Number("phys_base"); ok {
		p.base = n - x86Image
	} else if n, ok := v.Number("kimage_voffset"); ok {
		p.base = -n
	} else if n, ok := v.Number("va_kernel_pa_offset"); ok {
		p.base = -n
	} else {
		t.Fatal("VMCOREINFO does not say where the kernel is")
	}
	root, ok := v.Symbol("swapper_pg_dir")
	if !ok {
		t.Fatal("no swapper_pg_dir")
	}
	p.root = root + remora.Addr(p.base)
	p.symbols = map[string][]remora.Addr{}
	for _, s := range m.Truth().Symbols() {
		if s.Module == "" {
			p.symbols[s.Name] = append(p.symbols[s.Name], remora.Addr(s.Addr))
		}
	}
	return p
}

// hidden is an image whose notes of VMCOREINFO in memory are zeros.
type hidden struct {
	*vmcore.Image
	notes []remora.Addr
}

func (h *hidden) Transfer(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
	n, err := h.Image.Transfer(ctx, op, segs)
	for i := range segs {
		s := &segs[i]
		for _, at := range h.notes {
			for a := range remora.Addr(24) {
				if off := at + a - s.Addr; off < remora.Addr(s.N) {
					s.Buf[off] = 0
				}
			}
		}
	}
	return n, err
}

func (h *hidden) Regions(ctx context.Context) iter.Seq2[remora.Region, error] {
	return h.Image.Regions(ctx)
}

// notes gives where in an image the note of VMCOREINFO is at the beginning of a page.
func notes(t *testing.T, img *vmcore.Image) (all []remora.Addr) {
	t.Helper()
	b := make([]byte, 24)
	for r, err := range img.Regions(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		for a := r.Start; r.Perm != 0 && a < r.Start+remora.Addr(r.Size); a += page {
			if _, err := img.Memory().ReadAt(t.Context(), b, a); err == nil && string(b[12:23]) == "VMCOREINFO\x00" {
				all = append(all, a)
			}
		}
	}
	return all
}

// TestRealBoot finds each kernel in memory alone: with the note of VMCOREINFO in memory and
// without, with registers and without.
func TestRealBoot(t *testing.T) {
	for _, machine := range vmlab.Machines() {
		t.Run(machine.String(), func(t *testing.T) {
			m := openMoment(t, machine)
			want := m.placed(t)
			raw, err := vmcore.Open(m.Dump(vmlab.RAM), &vmcore.Options{Format: vmcore.Raw, Segments: m.rawRanges()})
			if err != nil {
				t.Fatal(err)
			}
			defer raw.Close()
			at := notes(t, raw)
			if len(at) != 1 {
				t.Fatalf("VMCOREINFO is at %v", at)
			}
			m.testBoot(t, "raw", raw, raw, want, true)
			m.testBoot(t, "raw, no note", raw, &hidden{raw, at}, want, true)
			if machine.MiB <= vmlab.DefaultMiB {
				lime := openImage(t, m.lime(t), nil)
				if meta := lime.Meta(); meta.Format != vmcore.LiME || meta.VMCoreInfo != nil {
					t.Fatalf("%+v", meta)
				}
				m.testBoot(t, "lime", lime, lime, want, true)
			}
			for _, f := range []vmlab.Format{vmlab.ELF, vmlab.KdumpZlib} {
				img := m.image(t, f)
				m.testBoot(t, string(f), img, img, want, false)
				m.testBoot(t, string(f)+", no note", img, &hidden{img, at}, want, false)
			}
		})
	}
}

// testBoot finds the kernel in an image of which memory and registers count alone.
func (m *moment) testBoot(t *testing.T, name string, img *vmcore.Image, phys remora.Space, want placed, bare bool) {
	t.Helper()
	h := &kernel.Hints{Machine: img.Meta().Machine}
	for _, c := range img.Meta().CPUs {
		if !bare {
			h.CPUs = append(h.CPUs, kernel.CPU{Name: "a processor", Regs: c.Regs})
		}
	}
	k := kernel.New(phys, name, h)
	defer k.Close()
	start := time.Now()
	found, err := k.Tables(t.Context())
	if err != nil {
		t.Errorf("%s: %v (%v)", name, err, time.Since(start))
		return
	}
	t.Logf("%s: %v: %v, root %v, by %s; %s; VMCOREINFO from %s", name, time.Since(start), found.Format, found.Root, found.How, strings.Join(found.Checked, "; "), found.InfoFrom)
	if found.Root != want.root || found.ImageBase != want.base {
		t.Errorf("%s: root %v, base %#x, want %v, %#x", name, found.Root, found.ImageBase, want.root, want.base)
	}
	if v := found.Info; v != nil {
		for _, l := range v.Lines {
			if w := want.info[l.Key]; w != l.Value {
				t.Errorf("%s: %s is %q, the guest has %q", name, l.Key, l.Value, w)
			}
		}
	} else if _, masked := phys.(*hidden); !masked {
		t.Errorf("%s: VMCOREINFO was not found", name)
	}
	symbols, err := k.Symbols(t.Context())
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	seen := map[string]bool{}
	for s, err := range symbols.All(t.Context()) {
		if err != nil { // of modules
			t.Logf("%s: %v", name, err)
			break
		}
		if w := want.symbols[s.Name]; s.Module == "" && !slices.Contains(w, s.Addr) {
			t.Errorf("%s: %s is at %v, the guest has it at %v", name, s.Name, s.Addr, w)
			break
		}
		seen[s.Name] = true
	}
	if len(seen) < len(want.symbols)*99/100 {
		t.Errorf("%s: %d symbols, the guest has %d", name, len(seen), len(want.symbols))
	}
}
