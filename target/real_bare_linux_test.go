// SPDX-License-Identifier: Apache-2.0

//go:build linux

package target_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/remora-go/remora/internal/testimage"
	"github.com/remora-go/remora/internal/vmlab"
	"github.com/remora-go/remora/kernel"
	"github.com/remora-go/remora/target"
	"github.com/remora-go/remora/vmcore"
)

// TestRealBare asks kernels in images that have no word of them what the guests said: of
// machines without the device for VMCOREINFO, in LiME files, and in raw memory, also where
// not even the kernel's own note is left in memory.
func TestRealBare(t *testing.T) {
	machines := []vmlab.Machine{{Kernel: vmlab.AMD64v6_1}, {Kernel: vmlab.AMD64v6_1, NoVMCOREINFO: true}}
	if everything() {
		machines = vmlab.Machines()
	}
	for _, machine := range machines {
		if !strings.HasPrefix(machine.Kernel, "amd64") || machine.MiB != 0 {
			continue
		}
		t.Run(machine.String(), func(t *testing.T) {
			m := openMoment(t, machine)
			if machine.NoVMCOREINFO {
				k, _ := m.kernel(t, vmlab.ELF)
				m.testAnswers(t, "ELF", k)
			}
			raw := &target.Options{Format: vmcore.Raw, Segments: m.rawRanges()}
			m.testAnswers(t, "raw", openKernel(t, m.Dump(vmlab.RAM), raw).Kernel)
			m.testAnswers(t, "LiME", openKernel(t, m.lime(t), nil).Kernel)

			img := openImage(t, m.Dump(vmlab.RAM), raw)
			k := kernel.New(&hidden{img, notes(t, img)}, "no note", &kernel.Hints{})
			defer k.Close()
			m.testAnswers(t, "no note", k)
		})
	}
}

// openKernel opens the kernel in an image.
func openKernel(t testing.TB, file string, o *target.Options) *target.Kernel {
	t.Helper()
	tgt, err := target.Open(t.Context(), "vmcore:"+file, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tgt.Close() })
	return tgt.(*target.Kernel)
}

// lime writes the guest's memory as a LiME file, in whose name the format is not told.
func (m *moment) lime(t *testing.T) string {
	t.Helper()
	phys := &testimage.Physical{Pages: map[uint64]testimage.Page{}}
	for _, r := range m.rawRanges() {
		data := make([]byte, r.Size)
		m.physical(t, data, r.Start)
		for at := uint64(0); at < r.Size; at += page {
			phys.Pages[(uint64(r.Start)+at)/page] = testimage.Page{Data: data[at:][:page]}
		}
	}
	path := filepath.Join(t.TempDir(), "memory")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := phys.LiMETo(f, testimage.LiMEOptions{}); err != nil {
		t.Fatal(err)
	}
	return path
}

// testAnswers holds tasks, symbols, processes' memory, modules and the log against what
// the guest said.
func (m *moment) testAnswers(t *testing.T, name string, k *kernel.Kernel) {
	t.Helper()
	t.Run(name, func(t *testing.T) {
		found, err := k.Tables(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("found by %s; VMCOREINFO from %q", found.How, found.InfoFrom)
		m.testOwnSymbols(t, k)
		m.testProcesses(t, k)
		m.testMemories(t, k)
		m.testModules(t, k)
		m.testLog(t, readLog(t, k))
	})
}
