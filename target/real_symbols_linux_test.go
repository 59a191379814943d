// SPDX-License-Identifier: Apache-2.0

//go:build linux

package target_test

import (
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/vmlab"
	"github.com/remora-go/remora/kernel"
	"github.com/remora-go/remora/sym"
	"github.com/remora-go/remora/target"
)

// TestRealSymbols holds the symbols in images against /proc/kallsyms of the guests.
func TestRealSymbols(t *testing.T) {
	for _, machine := range vmlab.Machines() {
		t.Run(machine.String(), func(t *testing.T) {
			m := openMoment(t, machine)
			k, _ := m.kernel(t, vmlab.ELF)
			m.testOwnSymbols(t, k)
			t.Run("files", m.testSymbolFiles)
		})
	}
}

// TestRealSymbolsOfFormats looks at all images of one moment: what a filter leaves out
// holds no symbols.
func TestRealSymbolsOfFormats(t *testing.T) {
	m := openMoment(t, vmlab.Machine{Kernel: vmlab.AMD64v6_1})
	for _, f := range append(vmlab.Makedumpfiles(), vmlab.ELFPaging, vmlab.Vmcore, vmlab.KdumpZlib) {
		if strings.Contains(string(f), "-cut-") {
			continue
		}
		t.Run(string(f), func(t *testing.T) {
			k, _ := m.kernel(t, f)
			symbols, err := k.Symbols(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			compareSymbols(t, symbols.All(t.Context()), m.Truth().Symbols())
		})
	}
}

// testSymbolFiles takes symbols from files: what the guest had in /proc/kallsyms, and that
// moved to where the kernel was linked, as System.map has it.
func (m *moment) testSymbolFiles(t *testing.T) {
	offset, err := strconv.ParseUint(m.Truth().VMCOREINFO()["KERNELOFFSET"], 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	all := m.Truth().Symbols()
	first, last := ^uint64(0), ^uint64(0)
	for _, s := range all {
		switch s.Name {
		case "_text", "_stext":
			first = min(first, s.Addr)
		case "_end":
			last = s.Addr
		}
	}
	var linked strings.Builder
	for _, s := range all {
		if s.Module == "" {
			if s.Addr >= first && s.Addr <= last {
				s.Addr -= offset
			}
			fmt.Fprintf(&linked, "%016x %c %s\n", s.Addr, s.Type, s.Name)
		}
	}
	dir := t.TempDir()
	system, kallsyms := filepath.Join(dir, "System.map"), filepath.Join(dir, "kallsyms")
	if err := errors.Join(os.WriteFile(kallsyms, m.Truth().Files["proc/kallsyms"], 0o600), os.WriteFile(system, []byte(linked.String()), 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, o := range []*target.Options{{Kallsyms: kallsyms}, {SystemMap: system}} {
		tgt, err := target.Open(t.Context(), m.Dump(vmlab.ELF), o)
		if err != nil {
			t.Fatal(err)
		}
		defer tgt.Close()
		symbols, err := tgt.(*target.Kernel).Symbols(t.Context())
		if o.SystemMap != "" && offset != 0 && m.textAlone() {
			if !errors.Is(err, remora.ErrUnrecognized) {
				t.Errorf("a System.map of code alone: %v", err)
			}
			continue
		}
		if err != nil {
			t.Error(err)
			continue
		}
		compareSymbols(t, symbols.All(t.Context()), all)
	}
}

// textAlone says whether the kernel has no symbols of data (CONFIG_KALLSYMS_ALL=n).
func (m *moment) textAlone() bool {
	return !slices.ContainsFunc(m.Truth().Symbols(), func(s vmlab.Symbol) bool { return s.Name == "linux_banner" })
}

// compareSymbols wants the symbols that the guest has, in the same order.
func compareSymbols(t *testing.T, got iter.Seq2[sym.Symbol, error], want []vmlab.Symbol) {
	t.Helper()
	count := map[sym.Symbol]int{}
	for _, s := range want {
		count[sym.Symbol{Addr: remora.Addr(s.Addr), Name: s.Name, Type: s.Type, Module: s.Module}]++
	}
	all, moved := 0, 0
	for s, err := range got {
		if err != nil {
			t.Error(err)
			break
		}
		s.Size = 0 // the guest does not tell
		count[s]--
		if all < len(want) && (uint64(s.Addr) != want[all].Addr || s.Name != want[all].Name) {
			moved++
		}
		all++
	}
	shown := 0
	for s, n := range count {
		if n != 0 && shown < 10 {
			t.Errorf("%+v: the guest has %d more than there are", s, n)
			shown++
		}
	}
	if moved > 0 && shown == 0 {
		t.Errorf("%d symbols are in another order than the guest has them in", moved)
	}
	t.Logf("%d symbols", all)
}

// testOwnSymbols looks at those of the kernel itself.
func (m *moment) testOwnSymbols(t *testing.T, k *kernel.Kernel) {
	symbols, err := k.Symbols(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	named := map[string]int{}
	for _, s := range m.Truth().Symbols() {
		if s.Module == "" {
			named[s.Name]++
		}
	}
	// By name first: then nothing is decoded that is not asked for.
	for _, name := range []string{"_stext", "_text", "linux_banner", "vfs_read", "t_next", "no_symbol_has_this_name"} {
		found, err := symbols.Lookup(t.Context(), name)
		if err != nil || len(found) != named[name] {
			t.Errorf("%s: %d symbols, %v, and the guest has %d", name, len(found), err, named[name])
		}
	}
	for _, name := range []string{"vfs_read", "vfs_write"} {
		a, _ := symbols.Lookup(t.Context(), name)
		if found, err := symbols.At(t.Context(), a[0].Addr+1); err != nil || found != a[0] {
			t.Errorf("%v is in %+v, %v, and not in %+v", a[0].Addr+1, found, err, a[0])
		}
	}
	compareSymbols(t, symbols.All(t.Context()), m.Truth().Symbols())
	m.testAddresses(t, symbols)
}

// testAddresses looks for some symbols by addresses in them.
func (m *moment) testAddresses(t *testing.T, symbols *kernel.Symbols) {
	all := m.Truth().Symbols()
	for i := 0; i < len(all)-1; i += 97 {
		s, next := all[i], all[i+1]
		if s.Module != "" || s.Addr < 1<<63 || next.Addr <= s.Addr {
			continue
		}
		a := remora.Addr(s.Addr + (next.Addr-s.Addr)/2)
		found, err := symbols.At(t.Context(), a)
		if strings.HasPrefix(s.Name, ".L") || strings.HasPrefix(s.Name, "$") {
			continue
		}
		if err != nil || found.Addr != remora.Addr(s.Addr) {
			t.Errorf("%v is in %+v, %v, and in the guest in %s at %#x", a, found, err, s.Name, s.Addr)
		}
	}
}
