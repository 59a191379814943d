// SPDX-License-Identifier: Apache-2.0

package btf

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/testimage"
)

// source is BTF in memory that counts what is read of it.
type source struct {
	data []byte
	read int
	fail error
}

func (s *source) at(_ context.Context, p []byte, off uint32) error {
	if s.fail != nil {
		return s.fail
	}
	s.read += len(p)
	copy(p, s.data[off:])
	return nil
}

func open(t testing.TB, b *testimage.BTF, base *Types) *Types {
	t.Helper()
	s := &source{data: b.Bytes()}
	types, err := Open(t.Context(), "test", uint64(len(s.data)), s.at, base)
	if err != nil {
		t.Fatal(err)
	}
	return types
}

func member(name string, typ uint32, at uint64) testimage.BTFMember {
	return testimage.BTFMember{Name: name, Type: typ, Bit: 8 * at}
}

// sample has types of every kind.
func sample(b *testimage.BTF) *testimage.BTF {
	s32 := b.Int("int", 4, true)
	u64 := b.Int("u64", 8, false)
	char := b.Int("char", 1, true)
	list := b.Count() + 1
	b.Struct("list_head", 16, member("next", list-1+1, 0), member("prev", list, 8))
	b.Pointer(list - 1)
	in := b.Union("", 8, member("a", u64, 0), member("b", b.Const(b.Pointer(b.TypeTag("rcu", b.Const(s32)))), 0))
	outer := b.Struct("", 24, member("x", u64, 0), member("", in, 16))
	kind := b.Enum("kind", 4, true, testimage.BTFMember{Name: "LESS", Bit: 1<<64 - 1}, testimage.BTFMember{Name: "MORE", Bit: 7})
	b.Struct("thing", 104,
		member("n", b.Typedef("n_t", s32), 0), member("comm", b.Array(char, 16), 8), member("", outer, 24),
		testimage.BTFMember{Name: "f", Type: s32, Bit: 48*8 + 3, Bits: 5}, member("kind", kind, 52),
		member("many", b.Array(b.Array(u64, 2), 2), 56), member("links", list-1, 88))
	b.Enum("wide", 8, false, testimage.BTFMember{Name: "HUGE", Bit: 1 << 40})
	b.Forward("elsewhere")
	b.Func("call")
	b.Add("ratio", 16<<24, 8)
	b.Add("var", 14<<24, s32, 0)
	b.Add(".data", 15<<24|1, 4, b.Count()-1, 0, 4)
	b.Add("tag", 17<<24, s32, 0)
	return b
}

// named gives the one type of a name.
func namedType(t testing.TB, types *Types, name string, kinds ...Kind) Type {
	t.Helper()
	if kinds == nil {
		kinds = []Kind{Struct, Union, Enum, Enum64, Typedef, Int, Float}
	}
	for d, err := range types.Named(t.Context(), name, kinds...) {
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	t.Fatalf("there is no type %s", name)
	return Type{}
}

func TestTypes(t *testing.T) {
	for _, big := range []bool{false, true} {
		for _, header := range []uint32{24, 32} {
			types := open(t, sample(&testimage.BTF{BigEndian: big, Header: header}), nil)
			thing := namedType(t, types, "thing")
			if thing.Kind != Struct || thing.Size != 104 || thing.Count != 7 || thing.Keyword() != "struct thing" {
				t.Errorf("thing: %+v", thing)
			}
			for path, want := range map[string]Member{
				"n": {Name: "n"}, "comm": {Name: "comm", Bit: 64}, "x": {Name: "x", Bit: 24 * 8}, "b": {Name: "b", Bit: 40 * 8},
				"f": {Name: "f", Bit: 48*8 + 3, Bits: 5}, "links.prev": {Name: "prev", Bit: 96 * 8},
			} {
				got, ok, err := types.Find(t.Context(), thing, path)
				if want.Type = got.Type; err != nil || !ok || got != want {
					t.Errorf("%s: %+v, %v, %v, want %+v", path, got, ok, err, want)
				}
			}
			for _, path := range []string{"", "none", "n.x", "links.", ".n", "links..prev"} {
				if m, ok, err := types.Find(t.Context(), thing, path); ok || err != nil {
					t.Errorf("%q: %+v, %v, %v", path, m, ok, err)
				}
			}
			values, err := types.Values(t.Context(), namedType(t, types, "kind"))
			if want := []Value{{"LESS", ^uint64(0)}, {"MORE", 7}}; err != nil || !cmp.Equal(values, want) {
				t.Errorf("kind: %v, %v", values, err)
			}
			values, err = types.Values(t.Context(), namedType(t, types, "wide"))
			if want := []Value{{"HUGE", 1 << 40}}; err != nil || !cmp.Equal(values, want) {
				t.Errorf("wide: %v, %v", values, err)
			}
			raw, err := types.Raw(t.Context())
			if err != nil || !slices.Equal(raw, sample(&testimage.BTF{BigEndian: big, Header: header}).Bytes()) {
				t.Errorf("raw: %d bytes, %v", len(raw), err)
			}
			if n, err := types.Len(t.Context()); err != nil || n != ID(sample(&testimage.BTF{}).Count()) {
				t.Errorf("%d types, %v", n, err)
			}
		}
	}
}

func TestDeclarations(t *testing.T) {
	b := &testimage.BTF{}
	char := b.Int("char", 1, true)
	s := b.Forward("s")
	ptr := b.Pointer(s)
	proto := b.Add("", 13<<24|3, char, b.Text("p"), ptr, 0, b.Pointer(char), 0, 0)
	for id, want := range map[uint32]string{
		b.Pointer(b.Const(char)):              "const char *x",
		b.Const(b.Pointer(char)):              "char *const x",
		b.Array(b.Pointer(s), 3):              "struct s *x[3]",
		b.Pointer(b.Array(s, 3)):              "struct s (*x)[3]",
		b.Array(b.Array(char, 2), 3):          "char x[3][2]",
		b.Pointer(proto):                      "char (*x)(struct s *p, char *, ...)",
		b.Array(b.Pointer(proto), 2):          "char (*x[2])(struct s *p, char *, ...)",
		b.Pointer(b.Add("", 13<<24, 0)):       "void (*x)(void)",
		b.Pointer(0):                          "void *x",
		b.Struct("", 0):                       "struct {...} x",
		b.Pointer(b.TypeTag("user", char)):    "char *x",
		b.Add("e", 6<<24, 4):                  "enum e x",
		b.Pointer(b.Add("u", 1<<31|7<<24, 0)): "union u *x",
	} {
		if got, err := open(t, b, nil).Decl(t.Context(), ID(id), "x"); err != nil || got != want {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
	}
	if got, err := open(t, b, nil).Decl(t.Context(), ID(ptr), ""); err != nil || got != "struct s *" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestLayout(t *testing.T) {
	b := &testimage.BTF{}
	u8, s32 := b.Int("u8", 1, false), b.Int("int", 4, true)
	in := b.Struct("", 8, member("p", u8, 0), member("q", s32, 4))
	b.Struct("s", 24, member("a", u8, 0), testimage.BTFMember{Name: "b", Type: s32, Bit: 35, Bits: 3}, member("", in, 8), member("c", u8, 16))
	types := open(t, b, nil)
	got, err := types.Layout(t.Context(), namedType(t, types, "s"))
	want := &Layout{Decl: "struct s", TypeText: "struct s", Size: 24, Open: true, Padding: 56, Members: []Layout{
		{Decl: "u8 a", TypeText: "u8", Name: "a", Size: 1},
		{Decl: "int b", TypeText: "int", Name: "b", Off: 4, Size: 4, Bit: 3, Bits: 3, Hole: 27},
		{TypeText: "struct {...}", Off: 8, Size: 8, Open: true, Hole: 26, Members: []Layout{
			{Decl: "u8 p", TypeText: "u8", Name: "p", Off: 8, Size: 1},
			{Decl: "int q", TypeText: "int", Name: "q", Off: 12, Size: 4, Hole: 24},
		}},
		{Decl: "u8 c", TypeText: "u8", Name: "c", Off: 16, Size: 1},
	}}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(Layout{}, "Type")); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
}

// What a module adds counts on from its base, in numbers and in strings.
func TestTypesOfAModule(t *testing.T) {
	kernel := sample(&testimage.BTF{})
	base := open(t, kernel, nil)
	b := &testimage.BTF{FirstType: kernel.Count(), FirstText: kernel.TextSize()}
	s32 := uint32(namedType(t, base, "int").ID)
	b.Struct("own", 8, member("mine", s32, 0), testimage.BTFMember{Name: "other", Type: b.Pointer(uint32(namedType(t, base, "thing").ID)), Bit: 64})
	b.Add("thing_too", 4<<24, 1)
	types := open(t, b, base)
	own := namedType(t, types, "own")
	m, ok, err := types.Find(t.Context(), own, "mine")
	if err != nil || !ok || m.Type != ID(s32) {
		t.Errorf("%+v, %v, %v", m, ok, err)
	}
	if d := namedType(t, types, "thing"); d.Size != 104 {
		t.Errorf("%+v", d)
	}
	l, err := types.Layout(t.Context(), own)
	if err != nil || l.Members[1].Decl != "struct thing *other" || l.Members[0].Decl != "int mine" {
		t.Errorf("%+v, %v", l, err)
	}
	if n, err := types.Len(t.Context()); err != nil || n != ID(b.Count()) {
		t.Errorf("%d, %v, want %d", n, err, b.Count())
	}
	if _, err := Open(t.Context(), "too far", uint64(len(b.Bytes())), (&source{data: b.Bytes()}).at, types); !errors.Is(err, remora.ErrCorrupt) {
		t.Errorf("a base with a base: %v", err)
	}
}

// Of large BTF little is read.
func TestReadingIsLazy(t *testing.T) {
	b := &testimage.BTF{}
	s32 := b.Int("int", 4, true)
	b.Struct("first", 4, member("x", s32, 0))
	for i := range 40_000 {
		b.Typedef(fmt.Sprintf("a_long_name_that_is_not_wanted_%d", i), s32)
	}
	b.Struct("last", 4, member("y", s32, 0))
	s := &source{data: b.Bytes()}
	types, err := Open(t.Context(), "large", uint64(len(s.data)), s.at, nil)
	if err != nil {
		t.Fatal(err)
	}
	namedType(t, types, "first")
	if s.read > 3*stride {
		t.Errorf("%d bytes of %d were read for the first type", s.read, len(s.data))
	}
	s.read = 0
	for range types.Named(t.Context(), "not there", Struct) {
		t.Error("a type was found that is not there")
	}
	if text := int(b.TextSize()); s.read > text+stride {
		t.Errorf("%d bytes were read to look for a name in %d", s.read, text)
	}
	s.read = 0
	namedType(t, types, "last")
	if s.read > len(s.data) {
		t.Errorf("%d bytes were read of %d", s.read, len(s.data))
	}
}

// A name is found wherever it lies, also across what is read at once.
func TestNamesAnywhere(t *testing.T) {
	for shift := range 12 {
		b := &testimage.BTF{}
		b.Add(strings.Repeat("x", 4000), 4<<24, 1)
		for i := range 6 {
			b.Text(strings.Repeat("y", 4000-i))
		}
		b.Text(strings.Repeat("z", stride-int(b.TextSize())-12+shift))
		b.Add("wanted", 4<<24, 7)
		if d := namedType(t, open(t, b, nil), "wanted"); d.Size != 7 {
			t.Errorf("shift %d: %+v", shift, d)
		}
	}
}

func TestReadsThatFail(t *testing.T) {
	s := &source{data: sample(&testimage.BTF{}).Bytes()}
	types, err := Open(t.Context(), "test", uint64(len(s.data)), s.at, nil)
	if err != nil {
		t.Fatal(err)
	}
	s.fail = remora.ErrNotSaved
	for _, err := range types.Named(t.Context(), "thing", Struct) {
		if !errors.Is(err, remora.ErrNotSaved) {
			t.Errorf("got %v", err)
		}
	}
	if _, err := types.Len(t.Context()); !errors.Is(err, remora.ErrNotSaved) {
		t.Errorf("got %v", err)
	}
	if _, err := types.Raw(t.Context()); !errors.Is(err, remora.ErrNotSaved) {
		t.Errorf("got %v", err)
	}
	if _, err := Open(t.Context(), "test", uint64(len(s.data)), s.at, nil); !errors.Is(err, remora.ErrNotSaved) {
		t.Errorf("got %v", err)
	}
	s.fail = nil
	namedType(t, types, "thing") // another try reads again
	done, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := open(t, sample(&testimage.BTF{}), nil).Len(done); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestHeaders(t *testing.T) {
	good := sample(&testimage.BTF{}).Bytes()
	set := func(off int, v uint32) []byte {
		b := slices.Clone(good)
		binary.LittleEndian.PutUint32(b[off:], v)
		return b
	}
	for name, c := range map[string]struct {
		data []byte
		want error
	}{
		"nothing":                     {nil, remora.ErrCorrupt},
		"too short":                   {good[:23], remora.ErrCorrupt},
		"another magic number":        {set(0, 0x0001eb9e), remora.ErrUnrecognized},
		"another version":             {set(0, 0x0002eb9f), remora.ErrUnrecognized},
		"a short header":              {set(4, 20), remora.ErrCorrupt},
		"a header beyond the end":     {set(4, uint32(len(good)+4)), remora.ErrCorrupt},
		"a header that is much":       {set(4, 1<<31), remora.ErrCorrupt},
		"types beyond the end":        {set(12, uint32(len(good))), remora.ErrCorrupt},
		"types far beyond the end":    {set(8, 1<<32-1), remora.ErrCorrupt},
		"strings beyond the end":      {set(20, 1<<32-1), remora.ErrCorrupt},
		"strings that begin too late": {set(16, uint32(len(good))), remora.ErrCorrupt},
	} {
		_, err := Open(t.Context(), name, uint64(len(c.data)), (&source{data: c.data}).at, nil)
		if !errors.Is(err, c.want) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	types, err := Open(t.Context(), "with more behind it", MaxSize+1, (&source{data: good}).at, nil)
	if err != nil {
		t.Fatal(err)
	}
	if raw, err := types.Raw(t.Context()); err != nil || !slices.Equal(raw, good) {
		t.Errorf("%d bytes of %d, %v", len(raw), len(good), err)
	}
	if _, err := Open(t.Context(), "huge", 1<<40, (&source{data: set(20, MaxSize)}).at, nil); !errors.Is(err, remora.ErrCorrupt) {
		t.Errorf("got %v", err)
	}
}

// Many ask at once.
func TestManyAtOnce(t *testing.T) {
	kernel := sample(&testimage.BTF{})
	for i := range 5000 {
		kernel.Typedef(fmt.Sprintf("filler_%d", i), 1)
	}
	module := &testimage.BTF{FirstType: kernel.Count(), FirstText: kernel.TextSize()}
	module.Struct("own", 8, member("x", 1, 0))
	base := open(t, kernel, nil)
	types := open(t, module, base)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			in := []*Types{base, types}[i%2]
			for d, err := range in.Named(t.Context(), "thing", Struct) {
				l, err2 := in.Layout(t.Context(), d)
				m, ok, err3 := in.Find(t.Context(), d, "links.prev")
				if err := errors.Join(err, err2, err3); err != nil || !ok || m.Name != "prev" || l.Members[0].Decl != "n_t n" {
					t.Errorf("%+v, %v", m, err)
				}
			}
			for d, err := range types.Named(t.Context(), "own", Struct) {
				if all, err2 := types.Members(t.Context(), d); err != nil || err2 != nil || len(all) != 1 || all[0].Name != "x" {
					t.Errorf("%v, %v, %v", all, err, err2)
				}
			}
			for range in.Named(t.Context(), fmt.Sprintf("filler_%d", 600*i), Typedef) {
			}
		})
	}
	wg.Wait()
}
