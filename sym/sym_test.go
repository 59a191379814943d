// SPDX-License-Identifier: Apache-2.0

package sym

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/testimage"
)

func tableOf(t *testing.T, all []Symbol) *Table {
	t.Helper()
	var b Builder
	b.Grow(len(all), 10)
	for _, s := range all {
		if err := b.Add(s); err != nil {
			t.Fatal(err)
		}
	}
	return b.Table()
}

func TestTable(t *testing.T) {
	all := []Symbol{
		{Addr: 0x20, Name: "per_cpu", Type: 'A'},
		{Addr: 0x1000, Name: "_stext", Type: 'T'},
		{Addr: 0x1000, Name: "_text", Type: 'T'},
		{Addr: 0x1008, Name: ".L0 ", Type: 't'},
		{Addr: 0x2000, Name: "twice", Type: 't', Size: 8},
		{Addr: 0x3000, Name: "loaded", Type: 't', Module: "mod"},
		{Addr: 0x2800, Name: "twice", Type: 'd', Module: "other"},
		{Addr: ^remora.Addr(0), Name: "last", Type: 'B', Module: "mod", Size: 1},
	}
	table := tableOf(t, all)
	if got := slices.Collect(table.All()); !cmp.Equal(got, all) || table.Len() != len(all) {
		t.Errorf("%s", cmp.Diff(all, got))
	}
	if got, want := table.Lookup("twice"), []Symbol{all[4], all[6]}; !cmp.Equal(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got := table.Lookup("thrice"); got != nil {
		t.Errorf("%+v", got)
	}
	for a, want := range map[remora.Addr]string{
		0x20: "per_cpu", 0xfff: "per_cpu", 0x1000: "_stext", 0x1007: "_stext", 0x1009: "_stext", 0x2005: "twice", 0x27ff: "twice",
		0x2fff: "twice", 0x3000: "loaded", ^remora.Addr(0) - 1: "loaded", ^remora.Addr(0): "last",
	} {
		if got, ok := table.At(a); !ok || got.Name != want {
			t.Errorf("%v: %+v, want %s", a, got, want)
		}
	}
	if got, ok := table.At(0x1f); ok {
		t.Errorf("before all: %+v", got)
	}
	empty := tableOf(t, nil)
	if _, ok := empty.At(5); ok || empty.Lookup("x") != nil || empty.Len() != 0 {
		t.Error("an empty table has symbols")
	}
	slid := table.Slide(remora.Range{Start: 0x1000, Size: 0x1001}, 0x100)
	for i, want := range []remora.Addr{0x20, 0x1100, 0x1100, 0x1108, 0x2100, 0x3000, 0x2800} {
		if got := slid.Symbol(i); got.Addr != want || got.Name != all[i].Name || got.Module != all[i].Module {
			t.Errorf("slid: %+v, want %v", got, want)
		}
	}
}

// A table finds what a search through a list does.
func TestTableIsItsModel(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var all []Symbol
		for range rnd.IntN(50) {
			all = append(all, Symbol{Addr: remora.Addr(rnd.IntN(40)), Name: string(rune('a' + rnd.IntN(10))), Type: 'T', Size: uint64(rnd.IntN(2))})
		}
		table := tableOf(t, all)
		for a := range remora.Addr(42) {
			want := -1
			for i, s := range all {
				if s.Addr <= a && (want < 0 || s.Addr > all[want].Addr) {
					want = i
				}
			}
			if got, ok := table.At(a); ok != (want >= 0) || ok && got != all[want] {
				t.Fatalf("%v of %+v: %+v", a, all, got)
			}
		}
		for c := 'a'; c < 'l'; c++ {
			var want []Symbol
			for _, s := range all {
				if s.Name == string(c) {
					want = append(want, s)
				}
			}
			if got := table.Lookup(string(c)); !cmp.Equal(got, want) {
				t.Fatalf("%s", cmp.Diff(want, got))
			}
		}
	}
}

func TestBuilderRefuses(t *testing.T) {
	var b Builder
	if err := b.Add(Symbol{Name: strings.Repeat("x", MaxName+1)}); !errors.Is(err, remora.ErrCorrupt) {
		t.Error(err)
	}
	if err := b.Add(Symbol{Name: strings.Repeat("x", MaxName)}); err != nil {
		t.Error(err)
	}
}

func opened(t *testing.T, contents []byte) (*File, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "names")
	if err := os.WriteFile(path, contents, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := Open(path)
	if err == nil {
		t.Cleanup(func() { f.Close() })
	}
	return f, err
}

const text = "0000000000000000 D __per_cpu_start\nffffffff81000000 T _stext\nffffffffc0001000 t load\t[mod]\nffffffffc0002000 t bpf_prog_1\t[bpf]\n"

var ofText = []Symbol{
	{Name: "__per_cpu_start", Type: 'D'},
	{Addr: 0xffffffff81000000, Name: "_stext", Type: 'T'},
	{Addr: 0xffffffffc0001000, Name: "load", Type: 't', Module: "mod"},
	{Addr: 0xffffffffc0002000, Name: "bpf_prog_1", Type: 't', Module: "bpf"},
}

func TestText(t *testing.T) {
	for _, text := range []string{text, strings.TrimSpace(text), strings.ReplaceAll(text, "ff", "FF")} {
		f, err := opened(t, []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			table, err := f.Table(t.Context())
			if err != nil || f.ELF() || f.BuildID() != "" || f.Read(make([]byte, 1), 0xffffffff81000000) != 0 {
				t.Fatal(err)
			}
			if got := slices.Collect(table.All()); !cmp.Equal(got, ofText) {
				t.Errorf("%s", cmp.Diff(ofText, got))
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := f.Table(ctx); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
	for _, bad := range []string{"", "words\n", "81000000 T\n", "ffffffff81000000 T \n", "ffffffff81000000 1 x\n", "0ffffffff81000000 T x\n",
		"ffffffff81000000 T x\tmod\n", "ffffffff81000000 T x\t[]\n", "ffffffff81000000 T " + strings.Repeat("x", maxLine) + "\n"} {
		f, err := opened(t, []byte(bad))
		if err == nil {
			_, err = f.Table(t.Context())
		}
		var format *remora.FormatError
		if !errors.As(err, &format) || !errors.Is(err, remora.ErrUnrecognized) {
			t.Errorf("%.40q: %v", bad, err)
		}
	}
	if _, err := Open(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

// buildNote is a NT_GNU_BUILD_ID, behind a note of another kind.
func buildNote(order binary.ByteOrder, id string) []byte {
	note := func(kind uint32, desc string) (b []byte) {
		for _, n := range []uint32{4, uint32(len(desc)), kind} {
			var w [4]byte
			order.PutUint32(w[:], n)
			b = append(b, w[:]...)
		}
		b = append(b, "GNU\x00"+desc...)
		return append(b, make([]byte, -len(b)&3)...)
	}
	return append(note(1, "12345"), note(3, id)...)
}

func TestELF(t *testing.T) {
	symbols := []testimage.ELFSymbol{
		{Name: "file.c", Info: byte(elf.STT_FILE), Section: elf.SHN_ABS},
		{Name: "undefined", Info: 0x10, Section: elf.SHN_UNDEF},
		{Name: "_stext", Value: 0xffffffff81000000, Info: 0x12, Section: testimage.ELFText},
		{Name: "static", Value: 0xffffffff81000100, Info: 0x02, Section: testimage.ELFText},
		{Name: "linux_banner", Value: testimage.ELFRodataAt, Info: 0x11, Section: testimage.ELFRodata},
		{Name: "", Value: 1, Info: 0x11, Section: testimage.ELFRodata},
		{Name: "init_task", Value: 0xffffffff83000000, Info: 0x11, Section: testimage.ELFData},
		{Name: "bss", Value: 0xffffffff84000000, Info: 0x01, Section: testimage.ELFBSS},
		{Name: "nowhere", Value: 5, Info: 0x01, Section: 1000},
	}
	want := []Symbol{
		{Addr: 0xffffffff81000000, Name: "_stext", Type: 'T', Size: 8},
		{Addr: 0xffffffff81000100, Name: "static", Type: 't', Size: 8},
		{Addr: testimage.ELFRodataAt, Name: "linux_banner", Type: 'R', Size: 8},
		{Addr: 0xffffffff83000000, Name: "init_task", Type: 'D', Size: 8},
		{Addr: 0xffffffff84000000, Name: "bss", Type: 'b', Size: 8},
		{Addr: 5, Name: "nowhere", Type: '?', Size: 8},
	}
	for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
		f, err := opened(t, testimage.ELFSymbols(order, symbols, []byte("Linux version 6\n\x00"), buildNote(order, "\x01\x02\xfe")))
		if err != nil {
			t.Fatal(err)
		}
		table, err := f.Table(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got := slices.Collect(table.All()); !cmp.Equal(got, want) {
			t.Errorf("%s", cmp.Diff(want, got))
		}
		if id := f.BuildID(); id != "0102fe" || !f.ELF() {
			t.Errorf("build id %q", id)
		}
		b := make([]byte, 5)
		if n := f.Read(b, testimage.ELFRodataAt+6); n != 5 || string(b) != "versi" {
			t.Errorf("%d, %q", n, b)
		}
		if n := f.Read(make([]byte, 50), testimage.ELFRodataAt+6); n != 11 {
			t.Errorf("%d bytes up to the end of a section", n)
		}
		if n := f.Read(b, testimage.ELFRodataAt+17); n != 0 {
			t.Errorf("%d bytes behind a section", n)
		}
	}
}

// Damaged files are errors, and nothing else.
func TestDamagedELF(t *testing.T) {
	whole := testimage.ELFSymbols(binary.LittleEndian, []testimage.ELFSymbol{{Name: "x", Value: 1, Info: 0x10, Section: 1}}, []byte("ro"), []byte("notes"))
	rnd := rand.New(rand.NewPCG(3, 4))
	for range 3000 {
		b := slices.Clone(whole)
		for range 1 + rnd.IntN(4) {
			b[rnd.IntN(len(b))] = byte(rnd.Uint32())
		}
		readAll(t, b[:len(b)-rnd.IntN(2)*rnd.IntN(len(b))])
	}
}

// readAll reads whatever there is.
func readAll(t *testing.T, b []byte) {
	f, err := newFile(bytes.NewReader(b), "names")
	if err != nil {
		return
	}
	if table, err := f.Table(t.Context()); err == nil {
		for s := range table.All() {
			if got, ok := table.At(s.Addr); ok && got.Addr > s.Addr || len(table.Lookup(s.Name)) == 0 {
				t.Errorf("%+v is not found again: %+v", s, got)
			}
		}
	}
	f.BuildID()
	f.Read(make([]byte, 10), testimage.ELFRodataAt)
}

func FuzzFile(f *testing.F) {
	f.Add([]byte(text))
	f.Add(testimage.ELFSymbols(binary.BigEndian, []testimage.ELFSymbol{{Name: "x", Value: 1, Info: 0x10, Section: 1}}, []byte("ro"), buildNote(binary.BigEndian, "id")))
	f.Fuzz(func(t *testing.T, b []byte) { readAll(t, b) })
}
