// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/testimage"
)

// kernelTypes has what it takes to be taken for a kernel's, and the lists of modules' BTF.
func kernelTypes() *testimage.BTF {
	b := &testimage.BTF{}
	s32, char := b.Int("int", 4, true), b.Int("char", 1, true)
	void := b.Pointer(0)
	list := b.Struct("list_head", 16, member("next", void, 0), member("prev", void, 8))
	b.Struct("task_struct", 32, member("pid", s32, 4), member("comm", b.Array(char, 16), 8))
	b.Struct("btf_module", 40, member("list", list, 8), member("btf", void, 24))
	b.Struct("btf", 80, member("data", void, 0), member("data_size", s32, 8), member("name", b.Array(char, 56), 12))
	return b
}

// typed is a machine with types in its kernel's image, and no symbols of them.
type typed struct {
	*machine
	types, module []byte
}

const (
	typesAt  = 0x100040 // in the image
	headAt   = 0x180008 // of the list of modules
	entryAt  = 0x190000
	btfAt    = 0x191000
	moduleAt = 0x192100
)

func newTyped() *typed {
	b := kernelTypes()
	mod := &testimage.BTF{FirstType: b.Count(), FirstText: b.TextSize()}
	mod.Struct("own", 4, member("x", 1, 0))
	m := &typed{newMachine(testimage.TableModes()[0]), b.Bytes(), mod.Bytes()}
	m.put(typesAt-0x40, []byte("\x9f\xeb\x01\x00 but no types"))
	m.put(typesAt, m.types)
	m.put(headAt, m.words(entryAt+8, entryAt+8))
	m.put(entryAt, m.words(0, headAt, headAt, btfAt))
	m.put(btfAt, m.words(moduleAt), binary.LittleEndian.AppendUint32(nil, uint32(len(m.module))), []byte("virtio\x00"))
	m.put(moduleAt, m.module)
	return m
}

// put writes into the kernel's image.
func (m *typed) put(at uint64, parts ...[]byte) { m.mem.Write(m.load+at, bytes.Join(parts, nil)) }

// words gives pointers into the image.
func (m *typed) words(all ...uint64) (b []byte) {
	for _, at := range all {
		b = binary.LittleEndian.AppendUint64(b, m.text+at)
	}
	return b
}

func (m *typed) kernel(t testing.TB) *Kernel {
	k := New(m.space(t), "sample", m.hints())
	t.Cleanup(func() { k.Close() })
	return k
}

func TestTypesWithoutSymbols(t *testing.T) {
	m := newTyped()
	k := m.kernel(t)
	types, err := k.Types(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	raw, err := types.BTF().Raw(t.Context())
	if err != nil || !bytes.Equal(raw, m.types) || !strings.Contains(types.How(), remora.Addr(m.text+typesAt).String()) {
		t.Errorf("%d bytes, %v; %s", len(raw), err, types.How())
	}
	if again, err := k.Types(t.Context()); again != types || err != nil {
		t.Errorf("asked again: %v", err)
	}
	mod, err := types.Module(t.Context(), "virtio")
	if err != nil {
		t.Fatal(err)
	}
	if raw, err := mod.Raw(t.Context()); err != nil || !bytes.Equal(raw, m.module) {
		t.Errorf("the module: %d bytes, %v", len(raw), err)
	}
	if _, err := types.Module(t.Context(), "none"); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("got %v", err)
	}
}

func TestLookup(t *testing.T) {
	types, err := newTyped().kernel(t).Types(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]string{
		"task_struct": {"the kernel's BTF"}, "struct task_struct": {"the kernel's BTF"}, "own": {"virtio"}, "struct own": {"virtio"},
		"union own": nil, "enum task_struct": nil, "": nil, "none": nil, "int": {"the kernel's BTF"}, "struct": nil,
	} {
		var got []string
		for d, err := range types.Lookup(t.Context(), name) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, d.In.Name())
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q: %v, want %v", name, got, want)
		}
	}
}

// What is not known of modules is told where that may be why a type is not found.
func TestLookupWithoutModules(t *testing.T) {
	m := newTyped()
	m.put(moduleAt, make([]byte, 4))
	m.put(headAt, m.words(0, 0))
	types, err := m.kernel(t).Types(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for d, err := range types.Lookup(t.Context(), "own") {
		if n++; err == nil || !strings.Contains(err.Error(), "modules") {
			t.Errorf("%+v, %v", d, err)
		}
	}
	if n != 1 {
		t.Errorf("%d answers", n)
	}
}

func TestNoTypes(t *testing.T) {
	m := newTyped()
	m.put(typesAt, make([]byte, 4))
	_, err := m.kernel(t).Types(t.Context())
	if none, ok := errors.AsType[*NoTypesError](err); !ok || !strings.Contains(none.Error(), "CONFIG_DEBUG_INFO_BTF") || !strings.Contains(none.Error(), "symbols of the kernel were not found") {
		t.Errorf("got %v", err)
	}
	// A part of the image is lost.
	for pfn := (m.load + typesAt) >> 12; pfn < (m.load+typesAt)>>12+2; pfn++ {
		delete(m.mem.Pages, pfn)
	}
	if _, err = m.kernel(t).Types(t.Context()); !errors.Is(err, remora.ErrFault) || !strings.Contains(err.Error(), "could not be read") {
		t.Errorf("got %v", err)
	}
	m.info = nil
	if _, err = m.kernel(t).Types(t.Context()); !errors.Is(err, remora.ErrNoTable) {
		t.Errorf("got %v", err)
	}
}

func TestModulesThatAreDamaged(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(m *typed)
		want error
	}{
		"a circle": {func(m *typed) {
			m.put(headAt, m.words(entryAt+8, entryAt+8))
			m.put(entryAt, m.words(0, entryAt+8, headAt, btfAt))
		}, remora.ErrCorrupt},
		"a size that is little":    {func(m *typed) { m.put(btfAt+8, []byte("\x28\x00\x00\x00")) }, remora.ErrCorrupt},
		"a list that ends nowhere": {func(m *typed) { m.put(entryAt+8, m.words(0x7fff0000)) }, remora.ErrFault},
		"types of another version": {func(m *typed) { m.put(moduleAt+4, []byte{0}) }, remora.ErrCorrupt},
	} {
		m := newTyped()
		c.do(m)
		types, err := m.kernel(t).Types(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var bad error
		n := 0
		for _, err := range types.Modules(t.Context()) {
			bad = errors.Join(bad, err)
			if n++; n > 10 {
				t.Fatalf("%s: no end", name)
			}
		}
		if !errors.Is(bad, c.want) {
			t.Errorf("%s: %v", name, bad)
		}
	}
	m := newTyped()
	m.put(headAt, m.words(headAt, headAt))
	types, err := m.kernel(t).Types(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range types.Modules(t.Context()) {
		if err == nil || !strings.Contains(err.Error(), "btf_modules") {
			t.Errorf("no list: %v", err)
		}
	}
}

// A file with the kernel's symbols has its types, too.
func TestTypesOfAFile(t *testing.T) {
	m := newTyped()
	m.put(typesAt, make([]byte, 4))
	file := func(stext uint64, btf []byte) string {
		path := filepath.Join(t.TempDir(), "vmlinux")
		b := testimage.ELFSymbols(binary.LittleEndian, []testimage.ELFSymbol{{Name: "_stext", Value: stext, Info: 0x10, Section: testimage.ELFText}}, nil, nil, btf)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	kernel := func(path string) *Kernel {
		h := m.hints()
		h.VMLinux = path
		k := New(m.space(t), "sample", h)
		t.Cleanup(func() { k.Close() })
		return k
	}
	path := file(m.text, m.types)
	types, err := kernel(path).Types(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if f, err := types.field(t.Context(), "task_struct", "pid"); err != nil || f.off != 4 || !strings.Contains(types.How(), path) {
		t.Errorf("%+v, %v; %s", f, err, types.How())
	}
	for name, c := range map[string]struct {
		path string
		want error
	}{
		"another kernel":    {file(m.text+0x1000, m.types), remora.ErrUnrecognized},
		"no types":          {file(m.text, nil), remora.ErrCorrupt},
		"types that are no": {file(m.text, make([]byte, 100)), remora.ErrUnrecognized},
		"no file":           {path + "s", fs.ErrNotExist},
	} {
		if _, err := kernel(c.path).Types(t.Context()); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
