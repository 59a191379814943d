// SPDX-License-Identifier: Apache-2.0

//go:build linux

package target_test

import (
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/vmlab"
	"github.com/remora-go/remora/kernel"
	"github.com/remora-go/remora/sym"
)

// TestRealSymbols holds the symbols in images against /proc/kallsyms of the guests.
func TestRealSymbols(t *testing.T) {
	for _, machine := range vmlab.Machines() {
		t.Run(machine.String(), func(t *testing.T) {
			m := openMoment(t, machine)
			k, _ := m.kernel(t, vmlab.ELF)
			if k.VMCoreInfo() == nil {
				return
			}
			m.testOwnSymbols(t, k)
		})
	}
}

// testOwnSymbols looks at those of the kernel itself.
func (m *moment) testOwnSymbols(t *testing.T, k *kernel.Kernel) {
	symbols, err := k.Symbols(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	count := map[sym.Symbol]int{}
	named := map[string]int{}
	for _, s := range m.Truth().Symbols() {
		if s.Module == "" {
			count[sym.Symbol{Addr: remora.Addr(s.Addr), Name: s.Name, Type: s.Type}]++
			named[s.Name]++
		}
	}
	// By name first: then nothing is decoded that is not asked for.
	for _, name := range []string{"_stext", "_text", "linux_banner", "vfs_read", "t_next", "no_symbol_has_this_name"} {
		found, err := symbols.Lookup(t.Context(), name)
		if err != nil || len(found) != named[name] {
			t.Errorf("%s: %d symbols, %v, and the guest has %d", name, len(found), err, named[name])
		}
		for _, s := range found {
			if count[s] == 0 {
				t.Errorf("%s: %+v, which the guest does not have", name, s)
			}
		}
	}
	all := 0
	for s, err := range symbols.All(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		count[s]--
		all++
	}
	shown := 0
	for s, n := range count {
		if n != 0 && shown < 10 {
			t.Errorf("%+v: the guest has %d more than the image", s, n)
			shown++
		}
	}
	t.Logf("%d symbols", all)
}
