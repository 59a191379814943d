// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/testimage"
	"github.com/remora-go/remora/memtest"
)

// facts gives what a kernel says of itself, as a line each.
func facts(t *testing.T, k *Kernel) string {
	t.Helper()
	all, err := k.Describe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, f := range all {
		fmt.Fprintf(&b, "%s: %s\n", f.Key, f.Value)
	}
	return b.String()
}

func TestDescribe(t *testing.T) {
	for _, c := range []struct {
		mode int
		load uint64
		more map[string]string
		want []string
	}{
		{0, 0x4000000, map[string]string{"KERNELOFFSET": "19000000"}, []string{"KASLR: the image is moved by 0x19000000\n", "phys_base: -369098752 (-0x16000000)\n",
			"page tables: x86-64, 4 levels, the top one at 0x4080000\n", "found by: SYMBOL(swapper_pg_dir) with phys_base 0xffffffffea000000 from NUMBER(phys_base)\n",
			"checked: _stext at 0xffffffff9a000000 lies at 0x4000000\n", "VMCOREINFO: ", "not available: types: "}},
		{1, 0x180000000, map[string]string{"KERNELOFFSET": "0"}, []string{"KASLR: the image is where it was linked to be\n", "phys_base: 6006243328 (0x166000000)\n", "x86-64, 5 levels"}},
		{3, 0x4000000, nil, []string{"kimage_voffset: 0xffffbffffc000000\n", "4 KiB pages"}},
		{13, 0x84000000, nil, []string{"va_kernel_pa_offset: 0xfffffffefc000000\n", "Sv48"}},
	} {
		m := machineAt(testimage.TableModes()[c.mode], c.load, c.more)
		k := New(m.space(t), "sample", m.hints())
		got := facts(t, k)
		for _, want := range c.want {
			if !strings.Contains(got, want) {
				t.Errorf("%v: no %q in:\n%s", m.mode, want, got)
			}
		}
		k.Close()
	}
	m := newMachine(testimage.TableModes()[0])
	m.tell("new", "base", true)
	k := New(m.space(t), "sample", &Hints{})
	if got := facts(t, k); !strings.Contains(got, "VMCOREINFO: none was found\n") || !strings.Contains(got, "KASLR: the image is moved by 0x19000000\n") ||
		!strings.Contains(got, "symbols: kallsyms") {
		t.Errorf("by kallsyms:\n%s", got)
	}
	k.Close()
	m = newMachine(testimage.TableModes()[0])
	m.tell("new", "base", false)
	k = New(m.space(t), "sample", &Hints{Machine: m.name})
	if got := facts(t, k); !strings.Contains(got, "not available: symbols of data: ") {
		t.Errorf("without symbols of data:\n%s", got)
	}
	k.Close()
}

func TestDescribeWhatWasNotFound(t *testing.T) {
	m := newMachine(testimage.TableModes()[0])
	h := m.hints()
	for i := range 30 {
		h.PhysBase = append(h.PhysBase, Value{uint64(i) << 30, fmt.Sprintf("guess %d", i)})
	}
	m.info["NUMBER(phys_base)"] = "1"
	h.VMCoreInfo = m.vmcoreinfo()
	k := New(m.space(t), "sample", h)
	got := facts(t, k)
	if !strings.HasPrefix(got, "VMCOREINFO: 6 lines, from the image\npage tables: not found") || strings.Count(got, "\n") > 20 || !strings.Contains(got, "from guess 3;") || !strings.Contains(got, "tried: and ") {
		t.Error(got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := New(m.space(t), "sample", h).Describe(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// Without its top table a kernel is where its release is, and its direct map where the
// pointer to the note of VMCOREINFO leads to it.
func TestLinear(t *testing.T) {
	for _, mode := range testimage.TableModes() {
		m := newMachine(mode)
		m.info["SYMBOL(init_uts_ns)"] = fmt.Sprintf("%x", m.text+0x4000)
		m.info["OFFSET(uts_namespace.name)"] = "4"
		direct := -(uint64(1) << (mode.VABits - 1)) + 1<<30
		if mode.Arch == "arm64" {
			direct = -(uint64(1) << mode.VABits)
		}
		switch mode.Arch {
		case "x86-64":
			m.mem.Put64(m.load+atDirect, direct, binary.LittleEndian)
		case "arm64":
			m.info["NUMBER(PHYS_OFFSET)"] = "0"
		default:
			m.info["NUMBER(PAGE_OFFSET)"], m.info["NUMBER(phys_ram_base)"] = hex(direct), "0"
		}
		m.tell("new", "base", true)
		m.mem.Write(m.load+0x4004+2*unameLen, []byte(release+"\x00"))
		at := m.note(m.infoText())
		s := m.space(t)
		if err := s.Unmap(remora.Range{Start: remora.Addr(m.root), Size: 1 << mode.PageShift}); err != nil {
			t.Fatal(err)
		}
		k := New(s, "sample", m.hints())
		found, err := k.Tables(t.Context())
		if err != nil || !found.Linear || found.ImageBase != m.load-m.text {
			t.Errorf("%v: %+v, %v", mode, found, err)
			continue
		}
		if text, err := k.Memory().CString(t.Context(), remora.Addr(m.text), 100); err != nil || text != "the text of the kernel" {
			t.Errorf("%v: %q, %v", mode, text, err)
		}
		if e := k.Translate(t.Context(), remora.Addr(m.text+0x5000)); e.Err != nil || e.Level != 0 || uint64(e.Phys)-uint64(e.Virt) != m.load-m.text {
			t.Errorf("%v: %+v", mode, e)
		}
		var b [12]byte
		_, err = k.Memory().ReadAt(t.Context(), b[:], remora.Addr(direct+at))
		if err != nil || b[0] != 11 {
			t.Errorf("%v: the note: %v, %v", mode, b, err)
		}
		for _, none := range []uint64{m.text + imageBytes, m.text - 0x1000, 0x1000} {
			if _, err := k.Memory().Uint8(t.Context(), remora.Addr(none)); !errors.Is(err, remora.ErrNoTable) && !errors.Is(err, remora.ErrUnmapped) {
				t.Errorf("%v: at %#x: %v", mode, none, err)
			}
		}
		k.Close()
	}
	// Nothing is believed that the memory does not bear out.
	m := newMachine(testimage.TableModes()[0])
	if _, err := find(t.Context(), memtest.NewSparse(nil), m.hints(), nil); !errors.Is(err, remora.ErrNoTable) || !strings.Contains(err.Error(), "without tables: the release there cannot be read") {
		t.Errorf("got %v", err)
	}
}
