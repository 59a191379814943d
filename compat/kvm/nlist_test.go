// SPDX-License-Identifier: Apache-2.0

package kvm

import (
	"context"
	"debug/elf"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/compat/errno"
	"github.com/remora-go/remora/internal/testimage"
)

// named is an image with symbols.
type named struct{ *fake }

func (n *named) Symbol(_ context.Context, name string) ([]remora.Symbol, error) {
	switch name {
	case "init_task":
		return []remora.Symbol{{Name: name, Addr: 0xffffffffc0001000, Module: "mod"}, {Name: name, Addr: 0xffffffff82000000, Size: 64}}, nil
	case "broken":
		return nil, remora.ErrCorrupt
	}
	return nil, nil
}

func (n *named) SymbolAt(context.Context, remora.Addr) (remora.Symbol, bool) {
	return remora.Symbol{}, false
}

const systemMap = `0000000000000000 D __per_cpu_start
ffffffff81000000 T _stext
ffffffff81000000 t twice
ffffffff81000100 T twice
ffffffff81000200 t twice
ffffffff82000000 D init_task
ffffffff82000100 d both
`

const kallsyms = systemMap + "ffffffffc0001000 T loaded\t[mod]\n" + "ffffffffc0002000 T init_task\t[mod]\n" + "ffffffffc0002100 T both\t[mod]\n" + "ffffffffc0003000 t bpf_prog_1\t[bpf]\n"

func TestR103NListOfText(t *testing.T) {
	for name, text := range map[string]string{"System.map": systemMap, "kallsyms": kallsyms, "no newline at the end": strings.TrimSpace(kallsyms)} {
		h, _ := openFake(t, nil, writeFile(t, "names", text), os.O_RDONLY)
		list := []Nlist{{Name: "twice"}, {Name: "absent", Value: 5, Type: 'T'}, {Name: "init_task"}, {Name: "__per_cpu_start"}, {Name: "twice"},
			{Name: ""}, {Name: "_stext"}}
		n, err := h.NList(t.Context(), list)
		want := []Nlist{
			{Name: "twice", Value: 0xffffffff81000100, Type: 'T'},
			{Name: "absent"},
			{Name: "init_task", Value: 0xffffffff82000000, Type: 'D'},
			{Name: "__per_cpu_start", Type: 'D'},
			{Name: "twice", Value: 0xffffffff81000100, Type: 'T'},
			{}, {Name: "_stext"}, // behind the end of the list
		}
		if n != 1 || err != nil || !cmp.Equal(list, want) {
			t.Errorf("%s: %d, %v, %s", name, n, err, cmp.Diff(want, list))
		}
	}
	h, _ := openFake(t, nil, writeFile(t, "names", kallsyms), os.O_RDONLY)
	list := []Nlist{{Name: "loaded"}, {Name: "both"}}
	if n, err := h.NList(t.Context(), list); n != 0 || err != nil || list[0].Value != 0xffffffffc0001000 || list[1].Value != 0xffffffff82000100 {
		t.Errorf("%d, %v, %+v", n, err, list)
	}
	if n, err := h.NList(t.Context(), nil); n != 0 || err != nil {
		t.Errorf("empty list: %d, %v", n, err)
	}
}

func TestR103NListOfTheImage(t *testing.T) {
	h := New(&named{newFake(t, &Config{})}, false)
	defer h.Close()
	list := []Nlist{{Name: "init_task"}, {Name: "absent"}}
	n, err := h.NList(t.Context(), list)
	want := []Nlist{{Name: "init_task", Value: 0xffffffff82000000, Size: 64, Type: '?'}, {Name: "absent"}}
	if n != 1 || err != nil || !cmp.Equal(list, want) {
		t.Errorf("%d, %v, %s", n, err, cmp.Diff(want, list))
	}
	list = []Nlist{{Name: "init_task"}, {Name: "broken"}}
	n, err = h.NList(t.Context(), list)
	wantFailed(t, n, err, errno.EIO, remora.ErrCorrupt)
	if !cmp.Equal(list, []Nlist{{Name: "init_task"}, {Name: "broken"}}) {
		t.Errorf("%+v: want nothing of a look-up that failed", list)
	}
	plain, _ := openFake(t, nil, "", os.O_RDONLY)
	n, err = plain.NList(t.Context(), list)
	wantFailed(t, n, err, errno.ENOSYS, errors.ErrUnsupported)
}

// TestHiddenAddresses: a kernel that shows zeros has not told anything.
func TestHiddenAddresses(t *testing.T) {
	h, _ := openFake(t, nil, writeFile(t, "names", "0000000000000000 T _stext\n0000000000000000 D init_task\n"), os.O_RDONLY)
	list := []Nlist{{Name: "init_task"}}
	n, err := h.NList(t.Context(), list)
	wantFailed(t, n, err, errno.EACCES, fs.ErrPermission)
	if list[0].Type != 0 || !strings.Contains(err.Error(), "kptr_restrict") {
		t.Errorf("%v, %+v", err, list)
	}
}

func TestBadNamelist(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"empty":        "",
		"prose":        "no symbols here\n",
		"no letter":    "ffffffff81000000\n",
		"no name":      "ffffffff81000000 T \n",
		"digit":        "ffffffff81000000 1 name\n",
		"long address": "fffffffffffffffff T name\n",
		"long line":    "ffffffff81000000 T " + strings.Repeat("x", 4096) + "\n",
		"binary":       "\x00\x01\x02",
		"half of ELF":  "\x7fELF\x02\x01\x01",
	} {
		path := filepath.Join(dir, strings.ReplaceAll(name, " ", "-"))
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		var bad *remora.FormatError
		if n, err := openNamelist(path); n != nil || !errors.As(err, &bad) || bad.File != path {
			t.Errorf("%s: %v, %v: want a *remora.FormatError", name, n, err)
		}
	}
	if _, err := openNamelist(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	// Damage further down is found by the look-up: what came before is not the answer.
	late := filepath.Join(dir, "late")
	if err := os.WriteFile(late, []byte(systemMap+"garbage\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	h, _ := openFake(t, nil, late, os.O_RDONLY)
	n, err := h.NList(t.Context(), []Nlist{{Name: "_stext"}})
	wantFailed(t, n, err, errno.EINVAL, remora.ErrUnrecognized)
	var bad *remora.FormatError
	if errors.As(err, &bad) && bad.Offset != int64(len(systemMap)) {
		t.Errorf("offset %d, want %d", bad.Offset, len(systemMap))
	}
}

func TestR103NListOfELF(t *testing.T) {
	global, local, weak := byte(elf.STB_GLOBAL)<<4, byte(elf.STB_LOCAL)<<4, byte(elf.STB_WEAK)<<4
	symbols := []testimage.ELFSymbol{
		{Name: "file.c", Value: 0, Info: local | byte(elf.STT_FILE), Section: elf.SHN_ABS},
		{Name: "undefined", Value: 0, Info: global, Section: elf.SHN_UNDEF},
		{Name: "text", Value: 0x1000, Info: global | byte(elf.STT_FUNC), Section: 1},
		{Name: "static", Value: 0x1100, Info: local | byte(elf.STT_FUNC), Section: 1},
		{Name: "ro", Value: 0x2000, Info: global | byte(elf.STT_OBJECT), Section: 2},
		{Name: "data", Value: 0x3000, Info: global | byte(elf.STT_OBJECT), Section: 3},
		{Name: "bss", Value: 0x4000, Info: local | byte(elf.STT_OBJECT), Section: 4},
		{Name: "debug", Value: 0x5000, Info: local, Section: 5},
		{Name: "weak", Value: 0x1200, Info: weak | byte(elf.STT_FUNC), Section: 1},
		{Name: "absolute", Value: 0x77, Info: global, Section: elf.SHN_ABS},
		{Name: "common", Value: 8, Info: global | byte(elf.STT_OBJECT), Section: elf.SHN_COMMON},
		{Name: "nowhere", Value: 0x99, Info: global, Section: 1000},
	}
	for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
		h, _ := openFake(t, nil, writeFile(t, "vmlinux", string(testimage.ELFSymbols(order, symbols))), os.O_RDONLY)
		want := []Nlist{{"text", 0x1000, 8, 'T'}, {"static", 0x1100, 8, 't'}, {"ro", 0x2000, 8, 'R'}, {"data", 0x3000, 8, 'D'},
			{"bss", 0x4000, 8, 'b'}, {"debug", 0x5000, 8, 'n'}, {"weak", 0x1200, 8, 'W'}, {"absolute", 0x77, 8, 'A'},
			{"common", 8, 8, 'C'}, {"nowhere", 0x99, 8, '?'}, {Name: "undefined"}, {Name: "file.c"}}
		list := make([]Nlist, len(want))
		for i := range want {
			list[i].Name = want[i].Name
		}
		n, err := h.NList(t.Context(), list)
		if n != 2 || err != nil || !cmp.Equal(list, want) {
			t.Errorf("%v: %d, %v, %s", order, n, err, cmp.Diff(want, list))
		}
	}
}
