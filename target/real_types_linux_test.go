// SPDX-License-Identifier: Apache-2.0

//go:build linux

package target_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/remora-go/remora/btf"
	"github.com/remora-go/remora/internal/vmlab"
)

// TestRealTypes reads the types of every machine's kernel and modules out of its image,
// and holds them against what the guest had in /sys/kernel/btf.
func TestRealTypes(t *testing.T) {
	for _, machine := range vmlab.Machines() {
		t.Run(machine.String(), func(t *testing.T) {
			m := openMoment(t, machine)
			k, _ := m.kernel(t, vmlab.ELF)
			types, err := k.Types(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			t.Log(types.How())
			if machine == (vmlab.Machine{Kernel: vmlab.AMD64v6_1}) {
				m.testTypesOf(t, vmlab.MakedumpfileZlib31)
			}
			m.testTypesOf(t, vmlab.KdumpZlib)
			const dir = "sys/kernel/btf/"
			raw, err := types.BTF().Raw(t.Context())
			if err != nil || !bytes.Equal(raw, m.Truth().Files[dir+"vmlinux"]) {
				t.Errorf("the kernel's BTF: %d bytes, %v; the guest's has %d", len(raw), err, len(m.Truth().Files[dir+"vmlinux"]))
			}
			left := map[string]bool{}
			for name := range m.Truth().Files {
				if base, ok := strings.CutPrefix(name, dir); ok && base != "vmlinux" {
					left[base] = true
				}
			}
			for b, err := range types.Modules(t.Context()) {
				if err != nil {
					t.Error(err)
					continue
				}
				raw, err := b.Raw(t.Context())
				if err != nil || !left[b.Name()] || !bytes.Equal(raw, m.Truth().Files[dir+b.Name()]) {
					t.Errorf("module %s: %d bytes, %v; the guest's has %d", b.Name(), len(raw), err, len(m.Truth().Files[dir+b.Name()]))
				}
				delete(left, b.Name())
				first, _ := types.BTF().Len(t.Context())
				n, err := b.Len(t.Context())
				if err != nil || n <= first {
					t.Errorf("module %s: %d types after the kernel's %d, %v", b.Name(), n, first, err)
				}
			}
			if len(left) != 0 {
				t.Errorf("modules without types: %v", left)
			}
		})
	}
}

// testTypesOf looks for the same types in another image of the moment.
func (m *moment) testTypesOf(t *testing.T, f vmlab.Format) {
	k, _ := m.kernel(t, f)
	types, err := k.Types(t.Context())
	if err != nil {
		t.Errorf("%s: %v", f, err)
		return
	}
	raw, err := types.BTF().Raw(t.Context())
	if err != nil || !bytes.Equal(raw, m.Truth().Files["sys/kernel/btf/vmlinux"]) {
		t.Errorf("%s: the kernel's BTF: %d bytes, %v", f, len(raw), err)
	}
}

// oneType gives the first structure of a name.
func oneType(t *testing.T, types *btf.Types, name string) btf.Type {
	t.Helper()
	for d, err := range types.Named(t.Context(), name, btf.Struct) {
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	t.Fatalf("the kernel has no structure %s", name)
	return btf.Type{}
}

// TestRealTypesAgainstDebugInfo holds every member of some structures against where the
// debugging information of the same kernel has it, as drgn reads that.
func TestRealTypesAgainstDebugInfo(t *testing.T) {
	if !everything() {
		return // debugging information is large
	}
	m := openMoment(t, vmlab.Machine{Kernel: vmlab.AMD64v6_1})
	k, _ := m.kernel(t, vmlab.ELF)
	kernel, err := k.Types(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	types := kernel.BTF()
	args := []string{"testdata/offsets.py", m.Debug()}
	want := ""
	for _, name := range []string{"task_struct", "mm_struct", "vm_area_struct", "signal_struct", "cred", "pid", "file", "dentry", "inode",
		"mount", "module", "page", "swap_info_struct", "maple_range_64", "printk_ringbuffer", "rq", "net_device", "sk_buff", "mm_struct.mm_mt"} {
		outer, path, _ := strings.Cut(name, ".")
		d := oneType(t, types, outer)
		l, err := types.Layout(t.Context(), d)
		if err == nil && path != "" {
			var part btf.Member
			if part, _, err = types.Find(t.Context(), d, path); err == nil {
				l, err = types.LayoutAt(t.Context(), part)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, member := range memberNames(l) {
			found, ok, err := types.Find(t.Context(), d, strings.TrimPrefix(path+"."+member, "."))
			if err != nil || !ok {
				t.Fatalf("%s.%s: %v", name, member, err)
			}
			size, err := types.SizeOf(t.Context(), found.Type)
			if err != nil {
				t.Fatal(err)
			}
			if found.Bits != 0 {
				size = 0
			}
			args = append(args, name+"."+member)
			want += fmt.Sprintf("%s.%s %d %d %d\n", name, member, found.Bit, found.Bits, size)
		}
	}
	got, err := output(t, "", drgn(t), args...)
	if err != nil {
		t.Fatal(err)
	}
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range w {
		if i >= len(g) || g[i] != w[i] {
			t.Fatalf("drgn says %q, and BTF %q", g[min(i, len(g)-1)], w[i])
		}
	}
	t.Logf("%d members", len(w)-1)
}

// memberNames gives the names in a layout, with those in members without one.
func memberNames(l *btf.Layout) (all []string) {
	for i := range l.Members {
		if m := &l.Members[i]; m.Name != "" {
			all = append(all, m.Name)
		} else {
			all = append(all, memberNames(m)...)
		}
	}
	return all
}

// TestRealValues reads the tasks of every machine by their types.
func TestRealValues(t *testing.T) {
	for _, machine := range vmlab.Machines() {
		t.Run(machine.String(), func(t *testing.T) {
			m := openMoment(t, machine)
			k, _ := m.kernel(t, vmlab.ELF)
			kernel, err := k.Types(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			types := kernel.BTF()
			d := oneType(t, types, "task_struct")
			count := 0
			for task, err := range k.Tasks(t.Context()) {
				if err != nil {
					t.Fatal(err)
				}
				whole, err := types.Read(t.Context(), k.Memory(), task.Addr, btf.Member{Type: d.ID}, nil)
				if err != nil {
					t.Fatal(err)
				}
				flatten(whole, func(d *btf.Datum) {
					if count++; d.Err != nil {
						t.Errorf("%s: %v", d.Name, d.Err)
					}
				})
				for member, want := range map[string]string{"comm": task.Comm, "pid": fmt.Sprint(task.PID), "tgid": fmt.Sprint(task.TGID)} {
					found, _, err := types.Find(t.Context(), d, member)
					if err != nil {
						t.Fatal(err)
					}
					one, err := types.Read(t.Context(), k.Memory(), task.Addr, found, nil)
					if err != nil || one.Text != want {
						t.Errorf("%s of %v: %+v, %v, want %s", member, task.Addr, one, err, want)
					}
				}
			}
			if t.Logf("%d values", count); count < 10_000 {
				t.Error("these are too few")
			}
		})
	}
}

func flatten(d *btf.Datum, each func(*btf.Datum)) {
	each(d)
	for i := range d.Members {
		flatten(&d.Members[i], each)
	}
}
