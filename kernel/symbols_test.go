// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/testimage"
	"github.com/remora-go/remora/sym"
)

// sampleBanner is what the sample has at linux_banner.
const sampleBanner = "Linux version 6.12.1-test (someone@somewhere)\n"

// symbolMachine is a machine whose kernel has symbols. It lies 0x19000000 above where it
// was linked.
func symbolMachine(more ...testimage.KallsymsSymbol) (*machine, []testimage.KallsymsSymbol) {
	m := newMachine(testimage.TableModes()[0])
	at := func(off uint64) uint64 { return m.text + off }
	all := append([]testimage.KallsymsSymbol{
		{Addr: 0x10, Type: 'A', Name: "runqueues"},
		{Addr: at(0), Type: 'T', Name: "_stext"},
		{Addr: at(0x100), Type: 't', Name: "twice"},
		{Addr: at(0x200), Type: 't', Name: "twice"},
		{Addr: at(0x1000), Type: 'R', Name: "linux_banner"},
		{Addr: at(0x2000), Type: 'R', Name: "__start_notes"},
		{Addr: at(0x2024), Type: 'R', Name: "__stop_notes"},
	}, more...)
	tables, places := (&testimage.Kallsyms{Symbols: all, Encoding: "percpu", Order: "old", Seqs: 3}).Put(at(0x100000))
	m.mem.Write(m.load+0x100000, tables)
	m.mem.Write(m.load+0x1000, []byte(sampleBanner+"\x00"))
	m.mem.Write(m.load+0x2000, buildIDNote("\x12\x34"))
	for name, a := range places {
		m.info["SYMBOL("+name+")"] = fmt.Sprintf("%x", a)
	}
	return m, all
}

// buildIDNote is a NT_GNU_BUILD_ID of 0x24 bytes.
func buildIDNote(id string) []byte {
	b := binary.LittleEndian.AppendUint32(nil, 4)
	b = binary.LittleEndian.AppendUint32(b, 20)
	b = binary.LittleEndian.AppendUint32(b, 3)
	return append(append(b, "GNU\x00"...), id+strings.Repeat("\x00", 20-len(id))...)
}

func TestSymbols(t *testing.T) {
	m, all := symbolMachine()
	k := New(m.space(t), "sample", m.hints())
	defer k.Close()
	s, err := k.Symbols(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.loaded = func(context.Context) iter.Seq2[sym.Symbol, error] {
		return func(yield func(sym.Symbol, error) bool) {
			_ = yield(sym.Symbol{Addr: 0xffffffffc0000000, Name: "twice", Type: 't', Module: "mod", Size: 16}, nil) &&
				yield(sym.Symbol{}, remora.ErrNotSaved) && yield(sym.Symbol{Addr: 0xffffffffc0001000, Name: "late", Type: 't', Module: "mod"}, nil)
		}
	}
	s.parts = func(context.Context) []remora.Range { return []remora.Range{{Start: 0xffffffffc0001000, Size: 0x1000}} }
	text := remora.Addr(m.text)
	twice := []sym.Symbol{{Addr: text + 0x100, Name: "twice", Type: 't'}, {Addr: text + 0x200, Name: "twice", Type: 't'},
		{Addr: 0xffffffffc0000000, Name: "twice", Type: 't', Module: "mod", Size: 16}}
	if got, err := s.Lookup(t.Context(), "twice"); err != nil || !cmp.Equal(got, twice) {
		t.Errorf("%v, %s", err, cmp.Diff(twice, got))
	}
	if got, err := s.Lookup(t.Context(), "thrice"); got != nil || !errors.Is(err, remora.ErrNotSaved) {
		t.Errorf("%+v, %v: want that modules are not all there", got, err)
	}
	if err := s.Problem(t.Context()); !errors.Is(err, remora.ErrNotSaved) {
		t.Error(err)
	}
	for a, want := range map[remora.Addr]string{text: "_stext", text + 0xff: "_stext", text + 0x100: "twice", text + 0x2000: "__start_notes",
		0xffffffffc000000f: "twice", 0xffffffffc0001000: "late", 0xffffffffc0001fff: "late", text + 0x2024 + maxFunction - 1: "__stop_notes",
		text - 1: "", 0x10: "", 0x400: "", 0xffffffffc0000010: "", 0xffffffffc0002000: "", 0xffffffffbfffffff: "", text + 0x2024 + maxFunction: ""} {
		got, err := s.At(t.Context(), a)
		if got.Name != want || (want == "") != errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%v: %+v, %v, want %q", a, got, err, want)
		}
		if at, ok := k.SymbolAt(t.Context(), a); at.Name != want || ok != (want != "") {
			t.Errorf("%v: %+v, %v", a, at, ok)
		}
	}
	n := 0
	for got, err := range s.All(t.Context()) {
		if n == len(all)+2 && errors.Is(err, remora.ErrNotSaved) {
			continue
		}
		if err != nil || n < len(all) && got != asSymbols(all)[n] {
			t.Errorf("%d: %+v, %v", n, got, err)
		}
		n++
	}
	if n != len(all)+2 {
		t.Errorf("%d symbols", n)
	}
	if a, err := k.symbol(t.Context(), "linux_banner"); a != text+0x1000 || err != nil {
		t.Errorf("%v, %v", a, err)
	}
	if _, err := k.symbol(t.Context(), "twice"); !errors.Is(err, remora.ErrCorrupt) {
		t.Error(err)
	}
	var none *NoSymbolError
	if _, err := k.symbol(t.Context(), "late"); !errors.As(err, &none) || none.Name != "late" {
		t.Error(err)
	}
	if got, err := k.Symbol(t.Context(), "linux_banner"); err != nil || len(got) != 1 || got[0].Addr != text+0x1000 {
		t.Errorf("%+v, %v", got, err)
	}
}

// With _end nothing behind it belongs to the kernel, however near.
func TestSymbolsEnd(t *testing.T) {
	m := newMachine(testimage.TableModes()[0])
	m, _ = symbolMachine(testimage.KallsymsSymbol{Addr: m.text + 0x3000, Type: 'B', Name: "_end"})
	k := New(m.space(t), "sample", m.hints())
	defer k.Close()
	if s, ok := k.SymbolAt(t.Context(), remora.Addr(m.text)+0x2fff); !ok || s.Name != "__stop_notes" {
		t.Errorf("%+v", s)
	}
	if s, ok := k.SymbolAt(t.Context(), remora.Addr(m.text)+0x3000); ok {
		t.Errorf("%+v", s)
	}
}

// The end of a context is not kept as an answer.
func TestSymbolsAfterTheEndOfAContext(t *testing.T) {
	m, _ := symbolMachine()
	k := New(m.space(t), "sample", m.hints())
	defer k.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := k.Symbols(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	s, err := k.Symbols(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range s.All(ctx) {
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
	if _, err := s.At(t.Context(), remora.Addr(m.text)); err != nil {
		t.Error(err)
	}
}

const linked = 0xffffffff81000000

// elfOf is a vmlinux of the sample.
func elfOf(banner string, notes []byte) []byte {
	entry := func(name string, value uint64) testimage.ELFSymbol {
		return testimage.ELFSymbol{Name: name, Value: value, Info: 0x10, Section: testimage.ELFRodata}
	}
	all := []testimage.ELFSymbol{entry("_stext", linked), entry("__start_notes", linked+0x2000), entry("__stop_notes", linked+0x2024), entry("only_here", linked+0x42)}
	if banner != "" {
		all = append(all, entry("linux_banner", linked+0x1000))
	}
	b := testimage.ELFSymbols(binary.LittleEndian, all, []byte(banner), notes)
	// The section of what is only read begins where linux_banner is.
	old := binary.LittleEndian.AppendUint64(nil, testimage.ELFRodataAt)
	return []byte(strings.Replace(string(b), string(old), string(binary.LittleEndian.AppendUint64(nil, linked+0x1000)), 1))
}

func TestSymbolsOfFiles(t *testing.T) {
	const (
		mapText  = "0000000000000010 A runqueues\nffffffff81000000 T _stext\nffffffff81000042 t only_here\n"
		banner   = "ffffffff81001000 R linux_banner\n"
		notThere = "ffffffff81800000 R linux_banner\n"
		other    = "ffffffff81000100 R linux_banner\n"
	)
	moved := func(text string) string { return strings.ReplaceAll(text, "ffffffff81", "ffffffff9a") }
	for _, c := range []struct {
		name     string
		contents string
		kind     string // of the file
		info     map[string]string
		want     error
		says     string
	}{
		{"System.map", mapText + banner, "map", nil, nil, ""},
		{"kallsyms of this boot", moved(mapText + banner), "kallsyms", nil, nil, ""},
		{"kallsyms of code alone", moved(mapText), "kallsyms", nil, nil, ""},
		{"kallsyms of another boot", mapText + banner, "kallsyms", nil, nil, ""},
		{"code of another boot", mapText, "kallsyms", nil, remora.ErrUnrecognized, "0x19000000 bytes away"},
		{"by KERNELOFFSET", mapText + banner, "map", map[string]string{"SYMBOL(_stext)": "", "KERNELOFFSET": "19000000"}, nil, ""},
		{"another release", mapText + banner, "map", map[string]string{"OSRELEASE": "6.12.1"}, remora.ErrUnrecognized, `there should be "Linux version 6.12.1"`},
		{"another kernel", mapText + other, "map", nil, remora.ErrUnrecognized, "linux_banner, 0xffffffff9a000100"},
		{"not saved", mapText + notThere, "map", nil, remora.ErrUnmapped, "cannot be told"},
		{"no _stext", banner, "map", nil, remora.ErrUnrecognized, "no symbol _stext"},
		{"hidden", "0000000000000000 T _stext\n", "kallsyms", nil, fs.ErrPermission, "kptr_restrict"},
		{"empty", "", "map", nil, remora.ErrUnrecognized, "want symbols"},
		{"vmlinux by VMCOREINFO", string(elfOf("", buildIDNote("\x77"))), "vmlinux", map[string]string{"BUILD-ID": "77" + strings.Repeat("00", 19)}, nil, ""},
		{"vmlinux by notes", string(elfOf("", buildIDNote("\x12\x34"))), "vmlinux", map[string]string{"BUILD-ID": "77"}, nil, ""},
		{"another vmlinux", string(elfOf("", buildIDNote("\x77"))), "vmlinux", nil, remora.ErrUnrecognized,
			"its build id is 77" + strings.Repeat("00", 19) + ", and that of the kernel 1234" + strings.Repeat("00", 18)},
		{"vmlinux by its banner", string(elfOf(sampleBanner+"\x00", nil)), "vmlinux", nil, nil, ""},
		{"vmlinux of another banner", string(elfOf("Linux version 6.12.1-test (nobody)\n\x00", nil)), "vmlinux", nil, remora.ErrUnrecognized, "(nobody)"},
		{"no ELF file", mapText + banner, "vmlinux", nil, remora.ErrUnrecognized, "want an ELF file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, _ := symbolMachine()
			h := m.hints()
			root, known := h.VMCoreInfo.Symbol("_stext")
			if !known || uint64(root) != m.text {
				t.Fatal("the sample has changed")
			}
			space := m.space(t)
			for key, value := range c.info {
				if m.info[key] = value; value == "" {
					delete(m.info, key)
				}
			}
			h = m.hints()
			path := filepath.Join(t.TempDir(), "names")
			if err := os.WriteFile(path, []byte(c.contents), 0o600); err != nil {
				t.Fatal(err)
			}
			*map[string]*string{"map": &h.SystemMap, "kallsyms": &h.Kallsyms, "vmlinux": &h.VMLinux}[c.kind] = path
			k := New(space, "sample", h)
			defer k.Close()
			got, err := k.Symbol(t.Context(), "only_here")
			if c.want != nil {
				if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
					t.Errorf("%v", err)
				}
				return
			}
			if err != nil || len(got) != 1 || got[0].Addr != remora.Addr(m.text)+0x42 {
				t.Errorf("%+v, %v", got, err)
			}
			if got, err := k.Symbol(t.Context(), "runqueues"); c.kind != "vmlinux" && (err != nil || len(got) != 1 || got[0].Addr != 0x10) {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
}
