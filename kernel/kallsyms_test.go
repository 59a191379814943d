// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/testimage"
	"github.com/remora-go/remora/memtest"
	"github.com/remora-go/remora/sym"
)

const (
	kallsymsText  = 0xffffffff81000000
	kallsymsPlace = 0xffffffff82001000
)

// sampleSymbols gives symbols like those of a kernel: per-CPU ones first, if they have
// numbers of their own, and some names that occur more than once.
func sampleSymbols(n int, encoding string, long int) []testimage.KallsymsSymbol {
	rnd := rand.New(rand.NewPCG(uint64(n), 1))
	var all []testimage.KallsymsSymbol
	if encoding == "percpu" || encoding == "absolute" {
		all = append(all, testimage.KallsymsSymbol{Addr: 0, Type: 'A', Name: "fixed_percpu_data"},
			testimage.KallsymsSymbol{Addr: 0x31980, Type: 'A', Name: "runqueues"})
	}
	all = append(all, testimage.KallsymsSymbol{Addr: kallsymsText, Type: 'T', Name: "_stext"}, testimage.KallsymsSymbol{Addr: kallsymsText, Type: 'T', Name: "_text"})
	words := []string{"vfs", "read", "write", "page", "lock", "init", "x64_sys", "ext4", "tcp", "get", "put", "t"}
	for addr := uint64(kallsymsText); len(all) < n-1; addr += uint64(rnd.IntN(300)) {
		name := words[rnd.IntN(len(words))]
		for range rnd.IntN(4) {
			name += "_" + words[rnd.IntN(len(words))]
		}
		if rnd.IntN(50) == 0 {
			name += ".llvm." + fmt.Sprint(rnd.Uint32())
		}
		all = append(all, testimage.KallsymsSymbol{Addr: addr, Type: "tTdDbBrRWw"[rnd.IntN(10)], Name: name})
	}
	if long > 0 {
		name := make([]byte, long)
		for i := range name {
			name[i] = "abcdefghijklmnopqrstuvwxyz0123456789_"[rnd.IntN(37)]
		}
		all[n/2].Name = string(name)
	}
	return append(all[:min(n-1, len(all))], testimage.KallsymsSymbol{Addr: kallsymsText + 0x3000000, Type: 'B', Name: "_end"})
}

// asSymbols are the symbols as they are to come out.
func asSymbols(all []testimage.KallsymsSymbol) []sym.Symbol {
	out := make([]sym.Symbol, len(all))
	for i, s := range all {
		out[i] = sym.Symbol{Addr: remora.Addr(s.Addr), Type: s.Type, Name: s.Name}
	}
	return out
}

// putKallsyms puts the tables in memory, between pages that are not there, and gives
// VMCOREINFO as it names them.
func putKallsyms(t testing.TB, k *testimage.Kallsyms) (*memtest.Sparse, map[string]uint64, *VMCoreInfo) {
	t.Helper()
	image, places := k.Put(kallsymsPlace)
	s := memtest.NewSparse(nil)
	if err := s.Map(remora.Range{Start: kallsymsPlace &^ 0xfff, Size: uint64(len(image)+0x1fff) &^ 0xfff}, memtest.MapOptions{Perm: remora.PermRead | remora.PermWrite}); err != nil {
		t.Fatal(err)
	}
	if err := s.Poke(image, kallsymsPlace); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("SYMBOL(_stext)=%x\n", uint64(kallsymsText))
	for name, at := range places {
		if !slices.Contains([]string{"kallsyms_markers", "kallsyms_seqs_of_names"}, name) {
			text += fmt.Sprintf("SYMBOL(%s)=%x\n", name, at)
		}
	}
	return s, places, ParseVMCoreInfo([]byte(text))
}

// variants calls do for each way to write the tables.
func variants(t *testing.T, do func(t *testing.T, k *testimage.Kallsyms)) {
	for _, order := range testimage.KallsymsOrders() {
		for _, encoding := range testimage.KallsymsEncodings() {
			for _, seqs := range []int{0, 3, 4} {
				for form := range 3 { // as it is, with wide markers, with plain lengths
					long := 500
					if form == 2 {
						long = 127 // and the letter: 128 tokens at most
					}
					for _, n := range []int{10, 256, 257, 600} {
						k := &testimage.Kallsyms{Symbols: sampleSymbols(n, encoding, long), Encoding: encoding, Order: order, Seqs: seqs, Wide: form == 1, Plain: form == 2}
						t.Run(fmt.Sprintf("%s-%s-%d-%d-%d", order, encoding, seqs, form, n), func(t *testing.T) { do(t, k) })
					}
				}
			}
		}
	}
}

func TestKallsyms(t *testing.T) {
	variants(t, func(t *testing.T, k *testimage.Kallsyms) {
		memory, places, info := putKallsyms(t, k)
		s, err := kallsymsOfInfo(t.Context(), memory.Memory(), info)
		if err != nil {
			t.Fatal(err)
		}
		if !k.Plain && len(k.Symbols) > 256 && (uint64(s.markers) != places["kallsyms_markers"] || s.wide != k.Wide) {
			t.Errorf("markers at %v, want %#x", s.markers, places["kallsyms_markers"])
		}
		if !k.Plain && uint64(s.seqs) != places["kallsyms_seqs_of_names"] {
			t.Errorf("the order of names at %v, want %#x", s.seqs, places["kallsyms_seqs_of_names"])
		}
		want := asSymbols(k.Symbols)
		for range 2 { // by the order of names, and then by the table
			for _, name := range []string{"_stext", "_end", "vfs_read", "t", "no_such_name", "", "~", want[len(want)/2].Name} {
				var of []sym.Symbol
				for _, one := range want {
					if one.Name == name {
						of = append(of, one)
					}
				}
				if got, err := s.lookup(t.Context(), name); err != nil || !cmp.Equal(got, of) {
					t.Errorf("%q: %v, %s", name, err, cmp.Diff(of, got))
				}
			}
			table, err := s.table(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if got := slices.Collect(table.All()); !cmp.Equal(got, want) {
				t.Fatalf("%s", cmp.Diff(want, got))
			}
			if s.marks == nil {
				continue
			}
			for _, a := range []remora.Addr{0, 1, 0x31980, kallsymsText - 1, kallsymsText, kallsymsText + 5, want[len(want)/2].Addr, want[len(want)-2].Addr + 1, remora.MaxAddr} {
				got, ok, err := s.nearest(t.Context(), a)
				if of, found := table.At(a); err != nil || ok != found || got != of {
					t.Errorf("%v is in %+v, %v, %v, want %+v", a, got, ok, err, of)
				}
			}
		}
	})
}

// Places that have a name of their own do not stand for what they are in.
func TestKallsymsAtPlaces(t *testing.T) {
	k := &testimage.Kallsyms{Encoding: "place", Order: "7.0", Seqs: 3, Symbols: []testimage.KallsymsSymbol{{Addr: kallsymsText, Type: 'T', Name: "_stext"}}}
	for i := range uint64(20) {
		k.Symbols = append(k.Symbols, testimage.KallsymsSymbol{Addr: kallsymsText + 16*(i+1), Type: 't', Name: ".L0 "})
	}
	memory, _, info := putKallsyms(t, k)
	s, err := kallsymsOfInfo(t.Context(), memory.Memory(), info)
	if err != nil {
		t.Fatal(err)
	}
	for _, off := range []remora.Addr{0, 17, 100, 400} {
		if got, ok, err := s.at(t.Context(), kallsymsText+off); err != nil || !ok || got.Name != "_stext" {
			t.Errorf("%v: %+v, %v", off, got, err)
		}
	}
	if got, ok, err := s.nearest(t.Context(), kallsymsText+400); ok || !errors.Is(err, errNotNear) {
		t.Errorf("%+v, %v", got, err)
	}
}

// A linker that adds to names leaves the order of the kernel, which is without that.
func TestKallsymsSortedWithoutSuffixes(t *testing.T) {
	k := &testimage.Kallsyms{Encoding: "place", Order: "7.0", Seqs: 3}
	for i, name := range []string{"_stext", "foo", "foo.llvm.12", "foo", "foo_bar", "fop"} {
		k.Symbols = append(k.Symbols, testimage.KallsymsSymbol{Addr: kallsymsText + uint64(i), Type: 't', Name: name})
	}
	memory, places, info := putKallsyms(t, k)
	for _, order := range [][]byte{{0, 1, 2, 3, 4, 5}, {0, 2, 1, 3, 4, 5}, {0, 1, 3, 2, 4, 5}} {
		var b []byte
		for _, n := range order {
			b = append(b, 0, 0, n)
		}
		if err := memory.Poke(b, remora.Addr(places["kallsyms_seqs_of_names"])); err != nil {
			t.Fatal(err)
		}
		s, err := kallsymsOfInfo(t.Context(), memory.Memory(), info)
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.lookup(t.Context(), "foo")
		if err != nil || len(got) != 2 || got[0].Addr != kallsymsText+1 || got[1].Addr != kallsymsText+3 {
			t.Errorf("%v: %+v, %v", order, got, err)
		}
	}
}

func sampleKallsyms() *testimage.Kallsyms {
	return &testimage.Kallsyms{Symbols: sampleSymbols(700, "place", 0), Encoding: "place", Order: "7.0", Seqs: 3}
}

// What is missing, and what is damaged, is an error that says so.
func TestKallsymsRefuses(t *testing.T) {
	memory, places, info := putKallsyms(t, sampleKallsyms())
	all := func(m *memtest.Sparse, info *VMCoreInfo) error {
		s, err := kallsymsOfInfo(t.Context(), m.Memory(), info)
		if err != nil {
			return err
		}
		_, err = s.table(t.Context()) // also where there is a part of it
		return err
	}
	for _, c := range []struct {
		name, what string
		damage     func(m *memtest.Sparse, poke func(table string, off int, b ...byte))
		cause      error
	}{
		{"no symbols", "1 to", func(_ *memtest.Sparse, poke func(string, int, ...byte)) {
			poke("kallsyms_num_syms", 0, 0, 0, 0, 0)
		}, remora.ErrCorrupt},
		{"too many", "1 to", func(_ *memtest.Sparse, poke func(string, int, ...byte)) {
			poke("kallsyms_num_syms", 0, 0xff, 0xff, 0xff, 0xff)
		}, remora.ErrCorrupt},
		{"index falls", "rise", func(_ *memtest.Sparse, poke func(string, int, ...byte)) {
			poke("kallsyms_token_index", 4, 0, 0)
		}, remora.ErrCorrupt},
		{"token of another length", "256 strings", func(_ *memtest.Sparse, poke func(string, int, ...byte)) {
			poke("kallsyms_token_table", 0, 'x', 'x', 'x')
		}, remora.ErrCorrupt},
		{"name of no tokens", "a name", func(_ *memtest.Sparse, poke func(string, int, ...byte)) {
			poke("kallsyms_names", 0, 0)
		}, remora.ErrCorrupt},
		{"other address of _stext", "_stext", func(_ *memtest.Sparse, poke func(string, int, ...byte)) {
			poke("kallsyms_offsets", 0, 1)
		}, remora.ErrCorrupt},
		{"names out of step", "marker", func(_ *memtest.Sparse, poke func(string, int, ...byte)) {
			poke("kallsyms_markers", 4, 0xff, 0x06)
		}, remora.ErrCorrupt},
		{"lost page", "", func(m *memtest.Sparse, _ func(string, int, ...byte)) {
			m.Inject(remora.Addr(places["kallsyms_token_table"]), remora.Read, remora.ErrNotSaved)
		}, remora.ErrNotSaved},
		{"lost names", "", func(m *memtest.Sparse, _ func(string, int, ...byte)) {
			m.Inject(remora.Addr(places["kallsyms_names"]+20), remora.Read, remora.ErrTruncated)
		}, remora.ErrTruncated},
	} {
		m := memory.Clone()
		c.damage(m, func(table string, off int, b ...byte) {
			if err := m.Poke(b, remora.Addr(places[table])+remora.Addr(off)); err != nil {
				t.Fatal(err)
			}
		})
		if err := all(m, info); !errors.Is(err, c.cause) || !strings.Contains(err.Error(), c.what) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	for _, text := range []string{"", "SYMBOL(kallsyms_names)=ffff\n", "SYMBOL(kallsyms_names)=1\nSYMBOL(kallsyms_num_syms)=2\nSYMBOL(kallsyms_token_table)=3\nSYMBOL(kallsyms_token_index)=4\n"} {
		if err := all(memory, ParseVMCoreInfo([]byte(text))); !errors.Is(err, remora.ErrUnrecognized) || !strings.Contains(err.Error(), "kallsyms_") {
			t.Errorf("%q: %v", text, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := kallsymsOfInfo(ctx, memory.Memory(), info); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// What is around lost memory is there, and the error says what is not.
func TestKallsymsWithLostPages(t *testing.T) {
	k := &testimage.Kallsyms{Symbols: sampleSymbols(5000, "place", 0), Encoding: "place", Order: "7.0", Seqs: 3}
	memory, places, info := putKallsyms(t, k)
	want := asSymbols(k.Symbols)
	for _, lost := range []struct {
		name string
		at   uint64
	}{{"names", places["kallsyms_names"] + 10000}, {"offsets", places["kallsyms_offsets"] + 10000}, {"order", places["kallsyms_seqs_of_names"] + 7000}} {
		m := memory.Clone()
		m.Inject(remora.Addr(lost.at), remora.Read, remora.ErrTruncated)
		s, err := kallsymsOfInfo(t.Context(), m.Memory(), info)
		if err != nil {
			t.Fatalf("%s: %v", lost.name, err)
		}
		const every = 20
		found := 0
		for i := 0; i < len(want); i += every {
			one := want[i]
			got, err := s.lookup(t.Context(), one.Name)
			if slices.Contains(got, one) {
				found += every
			} else if len(got) == 0 && !errors.Is(err, remora.ErrTruncated) {
				t.Fatalf("%s: %+v is not found: %+v, %v", lost.name, one, got, err)
			}
		}
		table, err := s.table(t.Context())
		if table == nil || (lost.name == "order") != (err == nil) || err != nil && !errors.Is(err, remora.ErrTruncated) {
			t.Fatalf("%s: %v", lost.name, err)
		}
		all := map[sym.Symbol]bool{}
		for _, one := range want {
			all[one] = true
		}
		for one := range table.All() {
			if !all[one] {
				t.Errorf("%s: %+v", lost.name, one)
			}
		}
		if n := table.Len(); n < len(want)-600 || found < len(want)-600 {
			t.Errorf("%s: %d symbols, %d found, of %d", lost.name, n, found, len(want))
		}
	}
}

// Tokens that blow up are not followed.
func TestKallsymsTokenBomb(t *testing.T) {
	s := &kallsyms{}
	for i := range s.token {
		s.token[i] = strings.Repeat("x", maxToken)
	}
	if text := s.expand(nil, make([]byte, 0x3fff)); text != nil {
		t.Errorf("a name of %d bytes", len(text))
	}
}

// FuzzKallsyms: whatever is in the tables, a look-up by name and the whole table tell
// the same, or there is an error.
func FuzzKallsyms(f *testing.F) {
	k := sampleKallsyms()
	k.Symbols = sampleSymbols(300, "place", 200)
	image, _ := k.Put(kallsymsPlace)
	f.Add(uint16(5), uint64(1), uint32(300))
	f.Add(uint16(len(image)-3), ^uint64(0), uint32(1))
	f.Add(uint16(7000), uint64(0x8080808080808080), uint32(1<<23))
	memory, places, info := putKallsyms(f, k)
	f.Fuzz(func(t *testing.T, off uint16, value uint64, count uint32) {
		m := memory.Clone()
		if err := m.Poke(binary.LittleEndian.AppendUint64(nil, value), kallsymsPlace+remora.Addr(int(off)%(len(image)-8))); err != nil {
			t.Fatal(err)
		}
		if err := m.Poke(binary.LittleEndian.AppendUint32(nil, count), remora.Addr(places["kallsyms_num_syms"])); err != nil {
			t.Fatal(err)
		}
		s, err := kallsymsOfInfo(t.Context(), m.Memory(), info)
		if err != nil {
			return
		}
		found, err := s.lookup(t.Context(), "_stext")
		if err == nil && !slices.ContainsFunc(found, func(s sym.Symbol) bool { return s.Addr == kallsymsText }) {
			t.Errorf("_stext is at %+v", found)
		}
		if table, err := s.table(t.Context()); err == nil && table.Len() != int(count) {
			t.Errorf("%d symbols of %d", table.Len(), count)
		}
	})
}
