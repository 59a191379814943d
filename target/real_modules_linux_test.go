// SPDX-License-Identifier: Apache-2.0

//go:build linux

package target_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/vmlab"
	"github.com/remora-go/remora/kernel"
)

// TestRealModules holds the modules in an image against /proc/modules of the guest.
func TestRealModules(t *testing.T) {
	for _, machine := range vmlab.Machines() {
		t.Run(machine.String(), func(t *testing.T) {
			m := openMoment(t, machine)
			k, _ := m.kernel(t, vmlab.ELF)
			m.testModules(t, k)
		})
	}
}

func (m *moment) testModules(t *testing.T, k *kernel.Kernel) {
	t.Helper()
	var got strings.Builder
	sections := 0
	for mod, err := range k.Modules(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if mod.Name == "virtio_blk" {
			mod.Refs++ // the guest had one more disk open while it told
		}
		fmt.Fprintln(&got, procModule(mod))
		// What /sys says of sections lies in the module's memory, unless it was freed.
		for name, b := range m.Truth().Files {
			rest, ok := strings.CutPrefix(name, "sys/module/"+mod.Name+"/sections/.")
			if !ok || strings.HasPrefix(rest, "init") || strings.HasPrefix(rest, "exit") {
				continue
			}
			var at uint64
			if _, err := fmt.Sscanf(string(b), "0x%x", &at); err != nil || at == 0 {
				continue
			}
			for _, r := range mod.Ranges {
				if r.Contains(remora.Addr(at)) {
					sections++
				}
			}
		}
	}
	want := string(m.Truth().File("proc/modules"))
	if got.String() != want || want == "" || sections < 10 {
		t.Errorf("got\n%swant\n%s%d sections", &got, want, sections)
	}
	t.Logf("%d modules, %d sections", strings.Count(want, "\n"), sections)
}

// procModule writes a module as /proc/modules does (m_show in the kernel's
// kernel/module/procfs.c).
func procModule(m *kernel.Module) string {
	by := ""
	for _, name := range m.UsedBy {
		by += name + ","
	}
	if m.Permanent {
		by += "[permanent],"
	}
	if by == "" {
		by = "-"
	}
	s := fmt.Sprintf("%s %d %d %s %s 0x%016x", m.Name, m.Size, m.Refs, by, m.State, uint64(m.Base))
	if m.Taints != "" {
		s += " (" + m.Taints + ")"
	}
	return s
}
