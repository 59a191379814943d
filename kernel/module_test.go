// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/testimage"
	"github.com/remora-go/remora/memtest"
	"github.com/remora-go/remora/sym"
)

// fewSymbols are the symbols of a kernel for a test.
type fewSymbols map[string]remora.Addr

func (f fewSymbols) lookup(_ context.Context, name string) ([]sym.Symbol, error) {
	if a, ok := f[name]; ok {
		return []sym.Symbol{{Addr: a, Name: name, Type: 'd'}}, nil
	}
	return nil, nil
}

func (f fewSymbols) table(context.Context) (*sym.Table, error) { return nil, errors.ErrUnsupported }

func (f fewSymbols) at(context.Context, remora.Addr) (sym.Symbol, bool, error) {
	return sym.Symbol{}, false, errors.ErrUnsupported
}

// knowing gives a kernel whose addresses are those of a Sparse, with types and symbols.
func knowing(t testing.TB, s *memtest.Sparse, types *testimage.BTF, symbols fewSymbols, info string) *Kernel {
	t.Helper()
	k := plainKernel(s, info)
	k.types.answer.Store(&answer[*Types]{value: typesOf(t, types)})
	k.symbols.answer.Store(&answer[*Symbols]{value: &Symbols{own: symbols}})
	return k
}

// Where the parts of a kernel with modules are.
const (
	modHeadAt = remora.Addr(0xffffffff82000000)
	modBpfAt  = modHeadAt + 0x100
	modFtrAt  = modHeadAt + 0x200
	modKprAt  = modHeadAt + 0x300
	modMapAt  = modHeadAt + 0x380
	modArea   = remora.Addr(0xffffffffc0000000)
	modSize   = 0x4000 // of each module: text, then a page of data with its structures
)

// moduleTypes are the types of a kernel since 6.4, or before.
func moduleTypes(old bool) *testimage.BTF { return moduleTypesOf(old, 8, 12, 0) }

// moduleTypesOf has a module's list of modules where it says, and a struct kernel_symbol of a
// size with the value somewhere.
func moduleTypesOf(old bool, list uint64, size uint32, value uint64) *testimage.BTF {
	b := &testimage.BTF{}
	u32, u64, char, ptr := b.Int("unsigned int", 4, false), b.Int("long unsigned int", 8, false), b.Int("char", 1, true), b.Pointer(0)
	s32 := b.Int("int", 4, true)
	head := b.Struct("list_head", 16, member("next", ptr, 0), member("prev", ptr, 8))
	common := []testimage.BTFMember{member("state", u32, 0), member("list", head, list), member("name", b.Array(char, 56), 24),
		member("syms", ptr, 80), member("num_syms", u32, 88), member("taints", u64, 96), member("refcnt", s32, 104),
		member("source_list", head, 112), member("init", ptr, 128), member("exit", ptr, 136), member("kallsyms", ptr, 144)}
	if old {
		layout := b.Struct("module_layout", 16, member("base", ptr, 0), member("size", u32, 8))
		common = append(common, member("core_layout", layout, 160), member("init_layout", layout, 176))
	} else {
		mem := b.Struct("module_memory", 16, member("base", ptr, 0), member("size", u32, 8))
		common = append(common, member("mem", b.Array(mem, 7), 160))
	}
	b.Struct("module", 320, common...)
	b.Struct("module_use", 48, member("source_list", head, 0), member("target_list", head, 16), member("source", ptr, 32))
	b.Struct("mod_kallsyms", 32, member("symtab", ptr, 0), member("num_symtab", u32, 8), member("strtab", ptr, 16), member("typetab", ptr, 24))
	b.Struct("kernel_symbol", size, member("value_offset", s32, value), member("name_offset", s32, 4))
	b.Struct("bpf_ksym", 64, member("start", u64, 0), member("end", u64, 8), member("name", b.Array(char, 32), 16), member("lnode", head, 48))
	b.Struct("ftrace_ops", 48, member("trampoline", u64, 0), member("trampoline_size", u64, 8), member("list", head, 16))
	b.Struct("ftrace_mod_map", 48, member("list", head, 0), member("mod", ptr, 16), member("funcs", head, 24))
	b.Struct("ftrace_mod_func", 48, member("list", head, 0), member("name", ptr, 16), member("ip", u64, 24), member("size", u32, 32))
	b.Struct("kprobe_insn_cache", 32, member("sym", ptr, 0), member("pages", head, 8))
	b.Struct("kprobe_insn_page", 32, member("list", head, 0), member("insns", ptr, 16))
	return b
}

// image writes structures at their addresses.
type image struct {
	t testing.TB
	s *memtest.Sparse
}

func (m image) put(a remora.Addr, parts ...[]byte) { poke(m.t, m.s, a, slices.Concat(parts...)) }

func (m image) word(a remora.Addr, v remora.Addr) { m.put(a, le(8, uint64(v))) }

// ring links a list of heads.
func (m image) ring(links ...remora.Addr) {
	for i, a := range links {
		next := links[(i+1)%len(links)]
		m.word(a, next)
		m.word(next+8, a)
	}
}

// modAt gives where the struct module of the i-th module is.
func modAt(i int) remora.Addr { return modArea + remora.Addr(i)*modSize + 0x2000 + 64 }

// withModules writes three modules: two of them that are loaded, of which the first uses
// the second, and one that is being set up.
func withModules(t testing.TB, old bool) *memtest.Sparse {
	t.Helper()
	m := image{t, memtest.NewSparse(nil)}
	store(t, m.s, modHeadAt, make([]byte, 0x1000))
	store(t, m.s, modArea, make([]byte, 3*modSize))
	var links []remora.Addr
	for i, name := range []string{"first", "second", "third"} {
		at := modAt(i)
		links = append(links, at+8)
		m.put(at, le(4, []uint64{0, 2, 3}[i]))
		m.put(at+24, []byte(name))
		m.put(at+96, le(8, 1<<12|1<<13), le(4, uint64(i+1)))
		m.ring(at + 112)
		m.word(at+128, at)
		if i != 1 {
			m.word(at+136, at)
		}
		base := modArea + remora.Addr(i)*modSize
		if old {
			m.put(at+160, le(8, uint64(base)), le(4, modSize))
		} else {
			m.put(at+160, le(8, uint64(base)), le(4, 0x2000), le(4, 0), le(8, uint64(base)+0x2000), le(4, 0x2000))
		}
		m.symbols(at, base)
	}
	m.ring(append(links, modHeadAt)...)
	use := modAt(1) + 0x400
	m.ring(modAt(1)+112, use)
	m.word(use+32, modAt(0))
	return m.s
}

// symbols writes four symbols of a module, of which one has no name, and one is exported.
func (m image) symbols(mod, base remora.Addr) {
	at := base + 0x3000
	m.word(mod+144, at)
	symtab, strtab, typetab, syms := at+0x100, at+0x300, at+0x400, at+0x500
	m.put(at, le(8, uint64(symtab)), le(8, 4), le(8, uint64(strtab)), le(8, uint64(typetab)))
	m.put(strtab, []byte("\x00local\x00global\x00data\x00"))
	for i, name := range []uint64{0, 1, 7, 14} {
		m.put(symtab+remora.Addr(24*i), le(4, name), []byte{"?tTd"[i], 0, 1, 0}, le(8, uint64(base)+uint64(i)*16), le(8, 16))
	}
	m.put(typetab, []byte("?tTd"))
	m.word(mod+80, syms)
	m.put(mod+88, le(4, 2))
	for i, e := range []struct{ value, name remora.Addr }{{base + 32, strtab + 7}, {base + 48, strtab + 1}} {
		a := syms + remora.Addr(12*i)
		m.put(a, le(4, uint64(e.value-a)), le(4, uint64(e.name-a-4)), le(4, 0))
	}
}

func modulesOf(t testing.TB, k *Kernel) (all []*Module, err error) {
	t.Helper()
	for m, err := range k.Modules(t.Context()) {
		if err != nil {
			return all, err
		}
		all = append(all, m)
	}
	return all, nil
}

func TestModules(t *testing.T) {
	for _, old := range []bool{false, true} {
		for _, symbols := range []fewSymbols{{"modules": modHeadAt}, {}} { // without it they are searched for
			info := "NUMBER(MODULES_VADDR)=0xffffffffc0000000\nNUMBER(MODULES_END)=0xffffffffd0000000\n"
			got, err := modulesOf(t, knowing(t, withModules(t, old), moduleTypes(old), symbols, info))
			if err != nil || len(got) != 2 {
				t.Fatalf("old %v: %d modules, %v", old, len(got), err)
			}
			for i, m := range got {
				base := modArea + remora.Addr(i)*modSize
				if m.Name != []string{"first", "second"}[i] || m.Base != base || m.Size != modSize || m.Refs != int64(i) || m.Taints != "OE" ||
					m.State != []ModuleState{ModuleLive, ModuleUnloading}[i] || m.Permanent != (i == 1) || len(m.UsedBy) != i {
					t.Errorf("%+v", m)
				}
				if text := m.Ranges[0]; text.Start != base || text.Kind != map[bool]string{true: "core", false: "text"}[old] {
					t.Errorf("%+v", m.Ranges)
				}
			}
			if !slices.Equal(got[1].UsedBy, []string{"first"}) {
				t.Errorf("used by %q", got[1].UsedBy)
			}
		}
	}
}

func TestModulesOfKernelsWithout(t *testing.T) {
	s := withModules(t, false)
	if got, err := modulesOf(t, knowing(t, s, moduleTypes(false), fewSymbols{"init_task": modHeadAt}, "")); len(got) != 0 || err != nil {
		t.Errorf("%d modules, %v", len(got), err)
	}
	if got, err := modulesOf(t, knowing(t, memtest.NewSparse(nil), moduleTypes(false), fewSymbols{}, "")); len(got) != 0 || !absent(err) {
		t.Errorf("%d modules, %v", len(got), err)
	}
}

func TestModulesOfHostileKernels(t *testing.T) {
	for _, v := range []uint64{0, 1, 8, uint64(modAt(0)), uint64(modAt(0)) + 8, uint64(modAt(1)) + 8, uint64(modHeadAt), 1 << 63, ^uint64(7), ^uint64(0)} {
		for off := remora.Addr(0); off < 320; off += 8 {
			for _, at := range []remora.Addr{modAt(0) + off, modAt(1) + off, modHeadAt + off%16, modArea + 0x3000 + off%32} {
				s := withModules(t, off%16 == 0)
				poke(t, s, at, le(8, v))
				k := knowing(t, s, moduleTypes(off%16 == 0), fewSymbols{"modules": modHeadAt}, "")
				got, err := modulesOf(t, k)
				if len(got) > 4 {
					t.Errorf("0x%x at %v: %d modules, %v", v, at, len(got), err)
				}
				n := 0
				for range k.moduleSymbols(t.Context()) {
					if n++; n > 1<<16 {
						t.Fatalf("0x%x at %v: no end of symbols", v, at)
					}
				}
			}
		}
	}
}

// Types can be of nonsense as well as what they are of.
func TestModulesOfHostileTypes(t *testing.T) {
	for _, c := range []struct {
		list  uint64
		size  uint32
		value uint64
	}{{8, 12, 12}, {8, 12, 1 << 20}, {8, 1 << 20, 0}, {8, 1 << 16, 4}, {312, 12, 0}, {1 << 20, 12, 0}} {
		k := knowing(t, withModules(t, false), moduleTypesOf(false, c.list, c.size, c.value), fewSymbols{"modules": modHeadAt}, "")
		if got, err := modulesOf(t, k); !errors.Is(err, remora.ErrCorrupt) || len(got) > 0 {
			t.Errorf("%+v: %d modules, %v", c, len(got), err)
		}
		for s, err := range k.moduleSymbols(t.Context()) {
			if !errors.Is(err, remora.ErrCorrupt) {
				t.Errorf("%+v: %+v, %v", c, s, err)
			}
		}
	}
}

func TestModuleSymbols(t *testing.T) {
	s := withModules(t, false)
	m := image{t, s}
	m.ring(modBpfAt, modHeadAt+0x430)
	m.put(modHeadAt+0x400, le(8, 0x1000), le(8, 0x1040), []byte("bpf_prog_1"))
	m.ring(modFtrAt, modHeadAt+0x510)
	m.put(modHeadAt+0x500, le(8, 0x2000), le(8, 0x100))
	m.word(modKprAt, modHeadAt+0x700)
	m.put(modHeadAt+0x700, []byte("kprobe_insn_page\x00"))
	m.ring(modKprAt+8, modHeadAt+0x600)
	m.word(modHeadAt+0x610, 0x3000)
	m.ring(modMapAt, modHeadAt+0x800)
	m.word(modHeadAt+0x810, modAt(1))
	m.ring(modHeadAt+0x818, modHeadAt+0x840)
	m.put(modHeadAt+0x850, le(8, uint64(modHeadAt+0x880)), le(8, 0x4000), le(4, 0x30))
	m.put(modHeadAt+0x880, []byte("second_init\x00"))
	k := knowing(t, s, moduleTypes(false), fewSymbols{"modules": modHeadAt, "ftrace_mod_maps": modMapAt, "bpf_kallsyms": modBpfAt, "ftrace_ops_trampoline_list": modFtrAt, "kprobe_insn_slots": modKprAt}, "")
	var want []sym.Symbol
	for i, name := range []string{"first", "second"} {
		base := modArea + remora.Addr(i)*modSize
		want = append(want, sym.Symbol{Addr: base + 16, Size: 16, Name: "local", Type: 't', Module: name},
			sym.Symbol{Addr: base + 32, Size: 16, Name: "global", Type: 'T', Module: name},
			sym.Symbol{Addr: base + 48, Size: 16, Name: "data", Type: 'd', Module: name})
	}
	want = append(want, sym.Symbol{Addr: 0x4000, Size: 0x30, Name: "second_init", Type: 'T', Module: "second"},
		sym.Symbol{Addr: 0x2000, Size: 0x100, Name: "ftrace_trampoline", Type: 't', Module: "__builtin__ftrace"},
		sym.Symbol{Addr: 0x1000, Size: 0x40, Name: "bpf_prog_1", Type: 't', Module: "bpf"},
		sym.Symbol{Addr: 0x3000, Name: "kprobe_insn_page", Type: 't', Module: "__builtin__kprobes"})
	var got []sym.Symbol
	for s, err := range k.moduleSymbols(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, s)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	for range k.moduleSymbols(t.Context()) {
		break
	}
	// A module whose table is lost, and the others are there.
	m.word(modAt(0)+144, 0x10)
	n := 0
	var problem error
	for _, err := range k.moduleSymbols(t.Context()) {
		if err != nil {
			problem = err
			continue
		}
		n++
	}
	if n != 7 || !errors.Is(problem, remora.ErrUnmapped) || !strings.Contains(problem.Error(), `"first"`) {
		t.Errorf("%d symbols, %v", n, problem)
	}
}

// FuzzModules damages modules and their tables.
func FuzzModules(f *testing.F) {
	f.Add(uint16(0x2040), []byte{1, 2, 3, 4}, false)
	f.Add(uint16(0x3000), slices.Concat(le(8, uint64(modArea)), le(8, 1<<21)), true)
	f.Fuzz(func(t *testing.T, at uint16, b []byte, old bool) {
		s := withModules(t, old)
		at %= 3 * modSize
		poke(t, s, modArea+remora.Addr(at), b[:min(len(b), 3*modSize-int(at))])
		for _, symbols := range []fewSymbols{{"modules": modHeadAt}, {}} {
			k := knowing(t, s, moduleTypes(old), symbols, "NUMBER(MODULES_VADDR)=0xffffffffc0000000\nNUMBER(MODULES_END)=0xffffffffd0000000\n")
			n := 0
			for range k.moduleSymbols(t.Context()) {
				if n++; n > 1<<16 {
					t.Fatal("no end of symbols")
				}
			}
		}
	})
}
