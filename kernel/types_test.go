// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/btf"
	"github.com/remora-go/remora/internal/testimage"
)

// member is a member at a byte.
func member(name string, typ uint32, at uint64) testimage.BTFMember {
	return testimage.BTFMember{Name: name, Type: typ, Bit: 8 * at}
}

// typesOf gives the types of BTF.
func typesOf(t testing.TB, b *testimage.BTF) *Types {
	t.Helper()
	raw := b.Bytes()
	data, err := btf.Open(t.Context(), "test", uint64(len(raw)), func(_ context.Context, p []byte, off uint32) error {
		copy(p, raw[off:])
		return nil
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return newTypes(nil, data, "in a test")
}

// sampleTypes has members of every sort.
func sampleTypes() *testimage.BTF {
	b := &testimage.BTF{}
	s32 := b.Int("int", 4, true)
	u64 := b.Int("long unsigned int", 8, false)
	char := b.Int("char", 1, true)
	void := b.Pointer(0)
	tagged := b.Pointer(b.TypeTag("rcu", b.Const(s32)))
	pid := b.Typedef("pid_t", b.Typedef("__kernel_pid_t", s32))
	b.Forward("node")
	b.Struct("node", 8, member("other", void, 0))
	in := b.Union("", 8, member("first", u64, 0), member("second", tagged, 0))
	mid := b.Struct("", 16, member("before", u64, 0), member("", in, 8))
	head := b.Struct("list_head", 16, member("next", void, 0), member("prev", void, 8))
	b.Struct("node", 8, member("wanted", void, 0))
	b.Struct("upids", 4, member("numbers", b.Array(head, 0), 4))
	b.Struct("thing", 96,
		member("pid", pid, 0), member("state", b.Const(u64), 8), member("comm", b.Array(char, 16), 16),
		member("tasks", head, 32), member("", mid, 48),
		testimage.BTFMember{Name: "low", Type: s32, Bit: 8 * 64, Bits: 1},
		testimage.BTFMember{Name: "wide", Type: s32, Bit: 8*64 + 20, Bits: 7},
		member("kind", b.Enum("kinds", 4, true, member("A", 0, 0)), 68),
		member("heads", b.Array(head, 1), 72))
	return b
}

func TestFields(t *testing.T) {
	types := typesOf(t, sampleTypes())
	for path, want := range map[string]field{
		"pid":        {off: 0, size: 4, signed: true, there: true},
		"state":      {off: 8, size: 8, there: true},
		"comm":       {off: 16, size: 16, elem: 1, there: true},
		"tasks":      {off: 32, size: 16, there: true},
		"tasks.prev": {off: 40, size: 8, there: true},
		"before":     {off: 48, size: 8, there: true},
		"second":     {off: 56, size: 8, there: true},
		"low":        {off: 64, size: 4, bit: 0, bits: 1, signed: true, there: true},
		"wide":       {off: 64, size: 4, bit: 20, bits: 7, signed: true, there: true},
		"kind":       {off: 68, size: 4, signed: true, there: true},
		"heads":      {off: 72, size: 16, elem: 16, there: true},
	} {
		got, err := types.field(t.Context(), "thing", path)
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v, want %+v", path, got, err, want)
		}
	}
	if f, err := types.field(t.Context(), "upids", "numbers"); err != nil || f != (field{off: 4, elem: 16, there: true}) {
		t.Errorf("an array without a size: %+v, %v", f, err)
	}
	if n, err := types.size(t.Context(), "thing"); n != 96 || err != nil {
		t.Errorf("size of thing: %d, %v", n, err)
	}
}

func TestFieldsThatAreMissing(t *testing.T) {
	types := typesOf(t, sampleTypes())
	var pid, none, gone, prev field
	gone = field{off: 3}
	err := types.fields(t.Context(), wanted{&pid, "thing.pid", false}, wanted{&none, "thing.none", false}, wanted{&none, "nothing.at.all", false},
		wanted{&gone, "thing.tasks.none", true}, wanted{&gone, "nothing.else", true}, wanted{&none, "thing.pid.x", false}, wanted{&prev, "list_head.prev", false})
	missing, ok := errors.AsType[*MissingError](err)
	want := []string{"thing.none", "thing.pid.x", "nothing.at.all"}
	if !ok || !errors.Is(err, errors.ErrUnsupported) || !cmp.Equal(missing.Missing, want, cmpopts.SortSlices(func(a, b string) bool { return a < b })) {
		t.Errorf("got %v, want %v", err, want)
	}
	if !pid.has() || none.has() || gone != (field{}) || !prev.has() {
		t.Errorf("pid %+v, none %+v, gone %+v, prev %+v", pid, none, gone, prev)
	}
	if _, err := types.size(t.Context(), "nothing"); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("got %v", err)
	}
}

func TestStructuresOfOneName(t *testing.T) {
	types := typesOf(t, sampleTypes())
	var wantedF, other field
	if err := types.fields(t.Context(), wanted{&wantedF, "node.wanted", false}, wanted{&other, "node.other", true}); err != nil || !wantedF.has() || other.has() {
		t.Errorf("%+v, %+v, %v", wantedF, other, err)
	}
	if err := types.fields(t.Context(), wanted{&wantedF, "node.wanted", false}, wanted{&other, "node.other", false}); err == nil {
		t.Error("two structures gave one member each")
	}
}

func TestAlternatives(t *testing.T) {
	b := &testimage.BTF{}
	u64 := b.Int("long", 8, true)
	b.Struct("task_struct", 16, member("real_start_time", u64, 8))
	b.Struct("radix_tree_root", 16, member("rnode", u64, 8))
	types := typesOf(t, b)
	for _, m := range [][2]string{{"task_struct", "start_boottime"}, {"xarray", "xa_head"}} {
		if f, err := types.field(t.Context(), m[0], m[1]); err != nil || f.off != 8 || f.size != 8 {
			t.Errorf("%v: %+v, %v", m, f, err)
		}
	}
	if _, err := types.field(t.Context(), "task_struct", "__state"); err == nil {
		t.Error("a member was found that is not there")
	}
}

func TestStructuresWithinThemselves(t *testing.T) {
	for name, make := range map[string]func(b *testimage.BTF){
		"a structure in itself": func(b *testimage.BTF) {
			n := b.Count()
			b.Struct("thing", 8, member("", n, 0), member("", n, 0), member("", n, 0))
		},
		"a typedef of itself": func(b *testimage.BTF) { b.Typedef("thing", b.Count()) },
		"an array of itself": func(b *testimage.BTF) {
			b.Struct("thing", 8, member("x", b.Array(b.Count(), 2), 0))
		},
		"a large array": func(b *testimage.BTF) {
			b.Struct("thing", 8, member("x", b.Array(b.Array(b.Int("int", 4, true), 1<<31), 1<<31), 0))
		},
		"a type that is not there": func(b *testimage.BTF) { b.Struct("thing", 8, member("x", 77, 0)) },
	} {
		b := &testimage.BTF{}
		make(b)
		if f, err := typesOf(t, b).field(t.Context(), "thing", "x"); !errors.Is(err, remora.ErrCorrupt) {
			t.Errorf("%s: %+v, %v", name, f, err)
		}
	}
}

// FuzzFields looks for members in any BTF.
func FuzzFields(f *testing.F) {
	f.Add(sampleTypes().Bytes())
	f.Add(kernelTypes().Bytes())
	loop := &testimage.BTF{}
	loop.Struct("thing", 8, member("", 1, 0), member("", 2, 0), member("tasks", 2, 0))
	loop.Array(2, 2)
	f.Add(loop.Bytes())
	f.Fuzz(func(t *testing.T, raw []byte) {
		if len(raw) > 1<<16 {
			return
		}
		data, err := btf.Open(t.Context(), "test", uint64(len(raw)), func(_ context.Context, p []byte, off uint32) error {
			copy(p, raw[off:])
			return nil
		}, nil)
		if err != nil {
			return
		}
		types := newTypes(nil, data, "in a test")
		var all [6]field
		err = types.fields(t.Context(), wanted{&all[0], "thing.pid", false}, wanted{&all[1], "thing.tasks.prev", true}, wanted{&all[2], "thing.wide", true},
			wanted{&all[3], "node.wanted", false}, wanted{&all[4], "xarray.xa_head", false}, wanted{&all[5], "task_struct.comm", true})
		if err != nil && !errors.Is(err, remora.ErrCorrupt) && !errors.Is(err, errors.ErrUnsupported) {
			t.Fatal(err)
		}
		for _, f := range all {
			if f.bits != 0 && int(f.bit)+int(f.bits) > 8*int(f.size) || f.bits != 0 && f.size > 8 {
				t.Fatalf("%+v", f)
			}
		}
		if _, err := types.size(t.Context(), "thing"); err != nil && !errors.Is(err, remora.ErrCorrupt) && !errors.Is(err, errors.ErrUnsupported) {
			t.Fatal(err)
		}
	})
}
