// SPDX-License-Identifier: Apache-2.0

package testimage_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/remora-go/remora/internal/testimage"
)

func TestGuest(t *testing.T) {
	for _, m := range testimage.TableModes() {
		t.Run(m.String(), func(t *testing.T) {
			g := testimage.NewGuest(1, m)
			for _, a := range g.Maps {
				roots := []uint64{g.Kernel.Root, g.User.Root}
				if a.User {
					roots = roots[1:]
				} else if m.Arch == "arm64" {
					roots = roots[:1]
				}
				for _, root := range roots {
					for off := uint64(0); off < a.Size; off += 1 << m.PageShift {
						if phys, ok := walk(g.Mem, m, root, a.Virt+off+5); !ok || phys != a.Phys+off+5 {
							t.Fatalf("%#x is at %#x, %v, want %#x", a.Virt+off+5, phys, ok, a.Phys+off+5)
						}
					}
				}
				if a.User && m.Arch != "arm64" { // whose tables do not say which half they are for
					if phys, ok := walk(g.Mem, m, g.Kernel.Root, a.Virt); ok {
						t.Errorf("the kernel has the process's %#x at %#x", a.Virt, phys)
					}
				}
			}
			for _, virt := range []uint64{g.NoneVirt, g.SwapVirt} {
				if phys, ok := walk(g.Mem, m, g.User.Root, virt); ok {
					t.Errorf("%#x is at %#x", virt, phys)
				}
			}
			size := uint64(1) << m.PageShift
			image, _ := g.Mem.Page(g.ImagePhys / size)
			if !strings.HasPrefix(string(image), g.Banner) {
				t.Errorf("the image begins with %q", image[:40])
			}
			note, _ := g.Mem.Page(g.ImagePhys/size + 8)
			if info := g.Info(); !bytes.HasPrefix(note, []byte("\x0b\x00\x00\x00")) || !bytes.HasPrefix(note[24:], info) || !bytes.HasPrefix(info, []byte("OSRELEASE=")) {
				t.Errorf("VMCOREINFO in memory: %q", note[:80])
			}
			if g.Kernel.Next > g.User.Root || g.User.Next > g.ImagePhys+64*size {
				t.Errorf("tables up to %#x and %#x", g.Kernel.Next, g.User.Next)
			}
			if m.PageShift != 12 {
				return // as before, with more bytes
			}
			checkBig(t, g.Kdump())
			if b := g.VMCore().Bytes(); !bytes.Contains(b[:4096], g.Info()) {
				t.Error("no VMCOREINFO in the ELF file")
			}
		})
	}
}

// checkBig holds some pages of a file with blocks of any size against the memory.
func checkBig(t *testing.T, k *testimage.Kdump) {
	t.Helper()
	k.Compress = testimage.Snappy
	b, l := k.Bytes(), k.Layout()
	for _, pfn := range k.Mem.PFNs()[:50] {
		d := b[l.DescOff(pfn):]
		want, _ := k.Mem.Page(pfn)
		if got := unpack(t, nil, le.Uint32(d[12:]), b[le.Uint64(d):][:le.Uint32(d[8:])], k.Mem.Size()); !bytes.Equal(got, want) {
			t.Fatalf("page %d differs", pfn)
		}
	}
}
