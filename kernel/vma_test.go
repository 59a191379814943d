// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/sym"
)

const (
	mmAt   = heapBase + 0x40
	vmaAt  = heapBase + 0x2000
	opsAt  = heapBase + 0x800
	specAt = heapBase + 0x900
	nameAt = heapBase + 0xa00
)

// vmaLayout is that of no kernel: members one behind another.
func vmaLayout() *vmaFields {
	f := &vmaFields{maple: mapleLayout(), first: atByte(0, 8), startBrk: atByte(8, 8), brk: atByte(16, 8), startStack: atByte(24, 8),
		start: atByte(0, 8), end: atByte(8, 8), next: atByte(16, 8), mm: atByte(24, 8), flags: atByte(32, 8), pgoff: atByte(40, 8),
		file: atByte(48, 8), ops: atByte(56, 8), private: atByte(64, 8), anonName: atByte(72, 8), shared: atByte(72, 32),
		opsName: atByte(8, 8), specialName: atByte(0, 8), name: atByte(4, 0),
		fileInode: atByte(0, 8), fileMapping: atByte(8, 8), ino: atByte(0, 8), sb: atByte(8, 8), isize: atByte(16, 8),
		dev: atByte(0, 4), magic: atByte(8, 8), bits: atByte(16, 1), host: atByte(0, 8), ipages: atByte(8, 16)}
	f.sizeofVMA = 80
	return f
}

// lister gives what lists the mappings in h.
func (h *heap) lister(ctx context.Context, f *vmaFields) *vmaLister {
	k := New(h.space, "heap", &Hints{})
	return &vmaLister{ctx: ctx, k: k, f: f, mm: mmAt, space: h.space, files: map[remora.Addr]*mappedFile{}, names: map[remora.Addr]bool{}}
}

// chain writes mappings in a list, as kernels before 6.1 have them.
func (h *heap) chain(vmas ...[]uint64) {
	h.words(mmAt, vmaAt, 0x20000, 0x30000, 0x7ff0800) // mmap, start_brk, brk, start_stack
	for i, v := range vmas {
		next := uint64(0)
		if i+1 < len(vmas) {
			next = vmaAt + uint64(i+1)*0x80
		}
		h.words(vmaAt+uint64(i)*0x80, append([]uint64{v[0], v[1], next, mmAt}, v[2:]...)...)
	}
}

func TestVMAList(t *testing.T) {
	h := newHeap(t, 1<<16)
	h.words(opsAt+8, 1)     // it names its mappings
	h.words(specAt, nameAt) // struct vm_special_mapping
	h.bytes(nameAt, []byte("[vdso]\x00"))
	h.bytes(nameAt+0x20, []byte("\x01\x00\x00\x00arena\x00"))
	const rw, shared = 3, 0x80
	h.chain(
		[]uint64{0x10000, 0x12000, 5, 0, 0, 0, 0, 0},
		[]uint64{0x20000, 0x30000, rw, 0, 0, 0, 0, 0},
		[]uint64{0x40000, 0x41000, rw | shared, 0, 0, 0, 0, nameAt + 0x20},
		[]uint64{0x7ff0000, 0x7ff1000, rw, 0, 0, 0, 0, 0},
		[]uint64{0x7ff2000, 0x7ff3000, 5, 0, 0, opsAt, specAt, 0},
	)
	l := h.lister(t.Context(), vmaLayout())
	if err := l.find(); err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, v := range l.list {
		lines = append(lines, fmt.Sprintf("%v-%v %v %v %s", v.Start, v.Last(), v.Perm, v.Shared, v.Name))
	}
	want := []string{
		"0x10000-0x11fff r-x false ", "0x20000-0x2ffff rw- false [heap]", "0x40000-0x40fff rw- true [anon:arena]",
		"0x7ff0000-0x7ff0fff rw- false [stack]", "0x7ff2000-0x7ff2fff r-x false [vdso]",
	}
	if !slices.Equal(lines, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(lines, "\n"), strings.Join(want, "\n"))
	}
	if l.list[0].Anonymous() != true || l.list[4].Anonymous() {
		t.Error("what is anonymous")
	}
}

func TestVMAListThatIsDamaged(t *testing.T) {
	two := [][]uint64{{0x10000, 0x12000, 5, 0, 0, 0, 0, 0}, {0x20000, 0x30000, 3, 0, 0, 0, 0, 0}}
	for _, c := range []struct {
		name   string
		change func(h *heap)
		want   error
		have   int
	}{
		{"a circle", func(h *heap) { h.words(vmaAt+0x80+16, vmaAt) }, remora.ErrCorrupt, 2},
		{"another mm", func(h *heap) { h.words(vmaAt+0x80+24, mmAt+8) }, remora.ErrCorrupt, 1},
		{"an end before its start", func(h *heap) { h.words(vmaAt+0x80+8, 0x1000) }, remora.ErrCorrupt, 1},
		{"one over the other", func(h *heap) { h.words(vmaAt+8, 0x21000) }, remora.ErrCorrupt, 1},
		{"a file that is not there", func(h *heap) { h.words(vmaAt+0x80+48, 0x1000) }, nil, 2},
		{"a link to nowhere", func(h *heap) { h.words(vmaAt+0x80+16, 0x1000) }, remora.ErrUnmapped, 2},
	} {
		h := newHeap(t, 1<<16)
		h.chain(two...)
		c.change(h)
		l := h.lister(t.Context(), vmaLayout())
		if err := l.find(); !errors.Is(err, c.want) || len(l.list) != c.have {
			t.Errorf("%s: %d mappings, %v", c.name, len(l.list), err)
		} else if c.want == nil && l.list[1].Name != "[file at 0x1000: not mapped]" {
			t.Errorf("%s: it is named %q", c.name, l.list[1].Name)
		}
	}
	h := newHeap(t, 1<<16)
	h.chain(two...)
	l := h.lister(t.Context(), vmaLayout())
	if err := l.readAll([]remora.Addr{vmaAt, 0x1000, vmaAt + 0x80}); !errors.Is(err, remora.ErrUnmapped) || len(l.list) != 2 {
		t.Errorf("a structure that is lost among others: %d mappings, %v", len(l.list), err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := h.lister(ctx, vmaLayout()).find(); !errors.Is(err, context.Canceled) {
		t.Errorf("a context that has ended: %v", err)
	}
}

// namedSymbols are symbols that a test gives.
type namedSymbols map[string]remora.Addr

func (n namedSymbols) lookup(_ context.Context, name string) ([]sym.Symbol, error) {
	if a, ok := n[name]; ok {
		return []sym.Symbol{{Addr: a, Name: name}}, nil
	}
	return nil, nil
}

func (namedSymbols) table(context.Context) (*sym.Table, error) { return nil, nil }
func (namedSymbols) at(context.Context, remora.Addr) (sym.Symbol, bool, error) {
	return sym.Symbol{}, false, nil
}

// The page [vsyscall] is there where the kernel has it, for processes of 64 bits.
func TestVMAGate(t *testing.T) {
	const gate, mode = heapBase + 0x1000, heapBase + 0x1100
	for _, c := range []struct {
		name    string
		machine elf.Machine
		mode    uint64
		flags   uint64 // of the mm
		symbols namedSymbols
		want    int
	}{
		{"executable", elf.EM_X86_64, 1, 2, namedSymbols{"gate_vma": gate, "vsyscall_mode": mode}, 1},
		{"none", elf.EM_X86_64, 2, 2, namedSymbols{"gate_vma": gate, "vsyscall_mode": mode}, 0},
		{"a process of 32 bits", elf.EM_X86_64, 1, 1, namedSymbols{"gate_vma": gate, "vsyscall_mode": mode}, 0},
		{"no symbols", elf.EM_X86_64, 1, 2, nil, 0},
		{"another machine", elf.EM_AARCH64, 1, 2, namedSymbols{"gate_vma": gate, "vsyscall_mode": mode}, 0},
	} {
		h := newHeap(t, 1<<16)
		h.words(gate, 0xffffffffff600000, 0xffffffffff601000, 0, 0, uint64(vmExec))
		h.words(mode, c.mode)
		h.words(mmAt+0x20, c.flags)
		f := vmaLayout()
		f.context = atByte(0x20, 8)
		l := h.lister(t.Context(), f)
		l.k.hints.Machine = c.machine
		answered(&l.k.symbols, &Symbols{own: c.symbols})
		if err := l.gate(); err != nil || len(l.list) != c.want {
			t.Errorf("%s: %v, %v", c.name, l.list, err)
			continue
		}
		if c.want == 1 && (l.list[0].Name != "[vsyscall]" || l.list[0].Perm != remora.PermExec || l.list[0].Size != 4096) {
			t.Errorf("%s: %+v", c.name, l.list[0])
		}
	}
}
