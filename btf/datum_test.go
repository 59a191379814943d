// SPDX-License-Identifier: Apache-2.0

package btf

import (
	"encoding/binary"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/testimage"
	"github.com/remora-go/remora/memtest"
)

// memory has data at an address, with nothing behind its last page.
func memory(t testing.TB, a remora.Addr, data []byte) *remora.Memory {
	t.Helper()
	s := memtest.NewSparse(nil)
	first := a &^ 0xfff
	r := remora.Range{Start: first, Size: uint64(a-first) + uint64(len(data))}
	r.Size = (r.Size + 0xfff) &^ 0xfff
	if err := errors.Join(s.Map(r, memtest.MapOptions{Perm: remora.PermRead}), s.Poke(data, a)); err != nil {
		t.Fatal(err)
	}
	return remora.New(s)
}

func TestReadingValues(t *testing.T) {
	types := open(t, sample(&testimage.BTF{}), nil)
	raw := make([]byte, 104)
	le := binary.LittleEndian
	le.PutUint32(raw, 1<<32-5)
	copy(raw[8:], "a\x1b\xffb")
	le.PutUint64(raw[24:], 1<<63)
	le.PutUint64(raw[40:], 0xffff888000001000)
	raw[48] = 0x1f<<3 | 7
	le.PutUint32(raw[52:], 1<<32-1)
	for i := range 4 {
		le.PutUint64(raw[56+8*i:], uint64(i))
	}
	v, err := types.Read(t.Context(), memory(t, 0x10f00, raw), 0x10f00, Member{Type: namedType(t, types, "thing").ID}, &DatumOptions{Elements: 1})
	if err != nil {
		t.Fatal(err)
	}
	number := func(n string) Datum { return Datum{Text: n, Number: n} }
	named := func(name string, d Datum) Datum { d.Name = name; return d }
	pointer := func(name, text string) Datum { return Datum{Name: name, Text: text, Ptr: true} }
	want := &Datum{Group: true, Members: []Datum{
		named("n", number("-5")), {Name: "comm", Text: "a\x1b\xffb", Quoted: true},
		{Group: true, Members: []Datum{
			named("x", number("9223372036854775808")),
			{Group: true, Members: []Datum{named("a", number("18446612682070036480")), pointer("b", "0xffff888000001000")}},
		}},
		named("f", Datum{Text: "-1", Number: "-1", Bits: 5}),
		{Name: "kind", Text: "LESS", Number: "-1"},
		{Name: "many", Group: true, More: 1, Members: []Datum{{Group: true, More: 1, Members: []Datum{number("0")}}}},
		{Name: "links", Group: true, Members: []Datum{pointer("next", "0x0"), pointer("prev", "0x0")}},
	}}
	if diff := cmp.Diff(want, v, cmpopts.IgnoreFields(Datum{}, "Decl", "Addr", "Size", "N")); diff != "" {
		t.Error(diff)
	}
	f := v.Members[3]
	if f.Addr != 0x10f30 || f.Size != 4 || v.Members[6].Members[1].Addr != 0x10f60 || v.Members[1].Decl != "char[16]" {
		t.Errorf("%+v, %+v", f, v.Members)
	}
}

// A value across the end of what is there is read as far as it goes.
func TestReadingValuesThatAreCut(t *testing.T) {
	types := open(t, sample(&testimage.BTF{}), nil)
	thing := namedType(t, types, "thing")
	mem := memory(t, 0x10fc8, make([]byte, 0x38))
	v, err := types.Read(t.Context(), mem, 0x10fc8, Member{Type: thing.ID}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, there := range []bool{true, true, true, true, true, true, true} {
		if m := v.Members[i]; (m.Err == nil) != there {
			t.Errorf("%s: %v", m.Name, m.Err)
		}
	}
	many := v.Members[5]
	if err := many.Members[0].Members[0].Err; !errors.Is(err, remora.ErrUnmapped) {
		t.Errorf("got %v", err)
	}
	fault, ok := errors.AsType[*remora.Fault](v.Members[6].Members[1].Err)
	if !ok || fault.Addr != 0x10fc8+96 {
		t.Errorf("got %v", fault)
	}
	m, _, err := types.Find(t.Context(), thing, "links.prev")
	if err != nil {
		t.Fatal(err)
	}
	if v, err = types.Read(t.Context(), mem, 0x10fc8-96, m, nil); err != nil || v.Text != "0x0" || v.Addr != 0x10fc8 {
		t.Errorf("a member alone: %+v, %v", v, err)
	}
}

func TestIntegers(t *testing.T) {
	b := []byte{0x12, 0x34, 0x56, 0x78}
	for _, c := range []struct {
		order       binary.ByteOrder
		shift, bits uint8
		signed      bool
		want        uint64
	}{
		{binary.LittleEndian, 0, 0, false, 0x78563412},
		{binary.BigEndian, 0, 0, false, 0x12345678},
		{binary.LittleEndian, 4, 8, false, 0x41},
		{binary.LittleEndian, 28, 4, true, 7},
		{binary.LittleEndian, 27, 4, true, ^uint64(0)},
	} {
		if got := Integer(b, c.order, c.shift, c.bits, c.signed); got != c.want {
			t.Errorf("%+v: got %#x", c, got)
		}
	}
	if got := Integer(nil, binary.LittleEndian, 0, 0, true); got != 0 {
		t.Errorf("got %#x of nothing", got)
	}
}
