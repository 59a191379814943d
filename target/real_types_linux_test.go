// SPDX-License-Identifier: Apache-2.0

//go:build linux

package target_test

import (
	"bytes"
	"strings"
	"testing"

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
