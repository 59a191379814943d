// SPDX-License-Identifier: Apache-2.0

//go:build linux

package target_test

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"slices"
	"strings"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/vmlab"
	"github.com/remora-go/remora/kernel"
	"github.com/remora-go/remora/paging"
	"github.com/remora-go/remora/vmcore"
)

// lossy is an image of which some pages are lost.
type lossy struct {
	*vmcore.Image
	pages map[remora.Addr]bool
}

func (l *lossy) Transfer(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
	_, _ = l.Image.Transfer(ctx, op, segs) // it is in the segments
	var first error
	var total int64
	for i := range segs {
		s := &segs[i]
		for a := s.Addr &^ (page - 1); a < s.Addr+remora.Addr(s.N); a += page {
			if l.pages[a] {
				s.N, s.Err = int(max(a, s.Addr)-s.Addr), remora.ErrTruncated
				break
			}
		}
		if total += int64(s.N); first == nil {
			first = s.Err
		}
	}
	return total, first
}

func (l *lossy) Regions(ctx context.Context) iter.Seq2[remora.Region, error] {
	return l.Image.Regions(ctx)
}

// TestRealLinear loses page tables of each kernel: what they led to is found by formula.
func TestRealLinear(t *testing.T) {
	for _, machine := range vmlab.Machines() {
		t.Run(machine.String(), func(t *testing.T) {
			m := openMoment(t, machine)
			img := m.image(t, vmlab.ELF)
			whole, _ := m.kernel(t, vmlab.ELF)
			found, err := whole.Tables(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			l, err := whole.Layout(t.Context())
			if err != nil || !l.Direct {
				t.Fatalf("%+v, %v", l, err)
			}
			tables := whole.TablesAt(found.Format, found.Root, paging.Whole)
			var direct, image, behind []remora.Addr // behind a table that is lost
			own := map[remora.Addr]bool{}           // tables of the image
			text := l.Image[0]
			for i := range remora.Addr(16) {
				va := text.Virt + remora.Addr(text.Size)/17*i&^(page-1) + 0x10000
				image = append(image, va)
				for _, s := range tables.Walk(t.Context(), va) {
					own[s.Table&^(page-1)] = true
				}
			}
			low := map[remora.Addr]bool{}
			ram := m.rawRanges()
			last := ram[len(ram)-1]
			for i := range remora.Addr(16) {
				va := l.DirectBase + last.Start + remora.Addr(last.Size)/17*(i+1)&^(page-1)
				steps := tables.Walk(t.Context(), va)
				if end := steps[len(steps)-1]; end.Err != nil {
					continue
				}
				direct = append(direct, va)
				for _, s := range steps[1:] {
					if !own[s.Table&^(page-1)] {
						low[s.Table&^(page-1)] = true
						behind = append(behind, va)
					}
				}
			}
			if len(direct) < 8 || len(behind) < 8 {
				t.Fatalf("%d addresses of the direct map, %d behind tables of its own", len(direct), len(behind))
			}
			direct = slices.DeleteFunc(direct, func(va remora.Addr) bool { return low[va-l.DirectBase] })
			behind = slices.DeleteFunc(slices.Compact(behind), func(va remora.Addr) bool { return low[va-l.DirectBase] })
			image = slices.DeleteFunc(image, func(va remora.Addr) bool { return low[va+remora.Addr(found.ImageBase)] })
			// Without all its symbols a kernel does not say where its direct map is.
			known := whole.VMCoreInfo() != nil && slices.ContainsFunc(m.Truth().Symbols(), func(s vmlab.Symbol) bool { return s.Name == "vmcoreinfo_note" })
			for _, name := range []string{"top", "others"} {
				pages := low
				if name == "top" {
					pages = map[remora.Addr]bool{found.Root &^ (page - 1): true}
				}
				h := &kernel.Hints{VMCoreInfo: whole.VMCoreInfo(), Machine: img.Meta().Machine}
				k := kernel.New(&lossy{img, pages}, name, h)
				g, err := k.Tables(t.Context())
				if err != nil || g.Linear != (name == "top") || g.ImageBase != found.ImageBase {
					t.Errorf("%s: %+v, %v", name, g, err)
					k.Close()
					continue
				}
				m.testLinear(t, k, name+", image", image, remora.Addr(found.ImageBase), true, g.Linear)
				if !g.Linear {
					direct = behind
				}
				m.testLinear(t, k, name+", direct map", direct, -l.DirectBase, known, true)
				facts, err := k.Describe(t.Context())
				says := slices.ContainsFunc(facts, func(f remora.Fact) bool { return f.Key == "linear" && strings.Contains(f.Value, "image") })
				if err != nil || says != g.Linear {
					t.Errorf("%s: %v, %v", name, facts, err)
				}
				k.Close()
			}
		})
	}
}

// testLinear reads a page at each address, and wants what is in physical memory at base
// behind it; or no table.
func (m *moment) testLinear(t *testing.T, k *kernel.Kernel, name string, at []remora.Addr, base remora.Addr, known, linear bool) {
	t.Helper()
	got, want := make([]byte, page), make([]byte, page)
	for _, va := range at {
		_, err := k.Memory().ReadAt(t.Context(), got, va)
		e := k.Translate(t.Context(), va)
		if !known {
			if !errors.Is(err, remora.ErrNoTable) {
				t.Errorf("%s: %v: %v", name, va, err)
			}
			continue
		}
		m.physical(t, want, va+base)
		if err != nil || !bytes.Equal(got, want) || e.Err != nil || linear && e.Level != 0 || e.Phys+(va-e.Virt) != va+base {
			t.Errorf("%s: %v: %+v, %v", name, va, e, err)
			return
		}
	}
}
