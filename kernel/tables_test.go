// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/testimage"
	"github.com/remora-go/remora/memtest"
)

// machine is a memory with a kernel in it.
type machine struct {
	mode testimage.TableMode
	name elf.Machine
	text uint64 // virtual address of the kernel's image
	load uint64 // its physical one
	root uint64
	info map[string]string // VMCOREINFO
	mem  *testimage.Physical

	tables *testimage.Tables
}

// imageBytes is how much of the kernel's image is mapped.
const imageBytes = 2 << 20

// newMachine makes a machine of a mode: the kernel's image, with the page tables in it.
func newMachine(mode testimage.TableMode) *machine { return machineAt(mode, 0x4000000, nil) }

// machineAt makes one whose kernel is loaded elsewhere, and says more.
func machineAt(mode testimage.TableMode, load uint64, more map[string]string) *machine {
	m := &machine{mode: mode, mem: &testimage.Physical{PageSize: 1 << mode.PageShift}, load: load,
		info: map[string]string{"OSRELEASE": "6.12.1-test", "PAGESIZE": fmt.Sprint(1 << mode.PageShift)}}
	switch mode.Arch {
	case "x86-64":
		m.name, m.text = elf.EM_X86_64, 0xffffffff9a000000
		m.info["NUMBER(phys_base)"] = fmt.Sprint(int64(m.load - (m.text - x86Image)))
		m.info["NUMBER(pgtable_l5_enabled)"] = fmt.Sprint(mode.Levels - 4)
	case "arm64":
		m.name, m.text = elf.EM_AARCH64, -(uint64(1) << (mode.VABits - 2))
		m.info["NUMBER(kimage_voffset)"] = fmt.Sprintf("%#x", m.text-m.load)
		m.info["NUMBER(VA_BITS)"] = fmt.Sprint(mode.VABits)
		m.info["NUMBER(TCR_EL1_T1SZ)"] = fmt.Sprintf("%#x", 64-mode.VABits)
	default:
		m.name, m.text = elf.EM_RISCV, 0xffffffff80000000
		m.info["NUMBER(va_kernel_pa_offset)"] = fmt.Sprintf("%#x", m.text-m.load)
		m.info["NUMBER(VA_BITS)"] = fmt.Sprint(mode.VABits)
	}
	for k, v := range more {
		if _, own := m.info[k]; !own {
			m.info[k] = v
		}
	}
	m.root = m.load + 0x80000
	m.info["SYMBOL(_stext)"] = fmt.Sprintf("%x", m.text)
	m.info["SYMBOL(swapper_pg_dir)"] = fmt.Sprintf("%x", m.text+0x80000)
	m.tables = testimage.NewTables(m.mem, mode, m.root)
	for at := uint64(0); at < imageBytes; at += 1 << mode.PageShift {
		m.tables.Map(m.text+at, m.load+at, 1<<mode.PageShift)
	}
	m.mem.Write(m.load, []byte("the text of the kernel"))
	return m
}

// text is VMCOREINFO as the kernel writes it.
func (m *machine) vmcoreinfo() *VMCoreInfo {
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(m.info)) {
		fmt.Fprintf(&b, "%s=%s\n", k, m.info[k])
	}
	return ParseVMCoreInfo([]byte(b.String()))
}

func (m *machine) space(t testing.TB) *memtest.Sparse {
	t.Helper()
	s := memtest.NewSparse(nil)
	size := uint64(m.mem.Size())
	for _, pfn := range m.mem.PFNs() {
		data, _ := m.mem.Page(pfn)
		r := remora.Range{Start: remora.Addr(pfn * size), Size: size}
		if err := errors.Join(s.Map(r, memtest.MapOptions{Perm: remora.PermRead | remora.PermWrite}), s.Poke(data, r.Start)); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// hints are all there can be: VMCOREINFO and, of x86-64, registers.
func (m *machine) hints() *Hints { return &Hints{VMCoreInfo: m.vmcoreinfo(), Machine: m.name} }

func (m *machine) cpu(cr3 uint64) CPU {
	return CPU{"CPU 0", map[string]uint64{"cr3": cr3, "cr4": uint64(m.mode.Levels-4) * cr4LA57}}
}

func TestFindTablesOfEveryMode(t *testing.T) {
	for _, mode := range testimage.TableModes() {
		t.Run(mode.String(), func(t *testing.T) {
			m := newMachine(mode)
			k := New(m.space(t), "sample", m.hints())
			defer k.Close()
			found, err := k.Tables(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if uint64(found.Root) != m.root || found.Format.Levels() != mode.Levels || !found.Image || found.ImageBase != m.load-m.text ||
				!strings.Contains(found.How, "swapper_pg_dir") || !strings.Contains(found.Checked[0], "_stext") {
				t.Errorf("%+v", found)
			}
			text, err := k.Memory().CString(t.Context(), remora.Addr(m.text), 100)
			if err != nil || text != "the text of the kernel" {
				t.Errorf("%q, %v", text, err)
			}
		})
	}
}

func TestFindTablesGuessesWhatIsNotSaid(t *testing.T) {
	for _, mode := range testimage.TableModes() {
		for _, lack := range []string{"OSRELEASE", "PAGESIZE", "SYMBOL(_stext)", "NUMBER(pgtable_l5_enabled)", "NUMBER(TCR_EL1_T1SZ)", "machine"} {
			m := newMachine(mode)
			delete(m.info, lack)
			h := m.hints()
			if lack == "machine" {
				h.Machine = elf.EM_NONE
			}
			found, err := find(t.Context(), m.space(t), h, nil)
			if err != nil || uint64(found.Root) != m.root || found.Format.Levels() != mode.Levels {
				t.Errorf("%v without %s: %+v, %v", mode, lack, found, err)
			}
		}
	}
}

func TestFindTablesX86(t *testing.T) {
	mode := testimage.TableModes()[0]
	for _, c := range []struct {
		name string
		do   func(m *machine, h *Hints)
		want string // in How; empty: nothing is found
	}{
		{"phys_base of the image is wrong, and that of VMCOREINFO right", func(m *machine, h *Hints) {
			h.PhysBase = []Value{{0x497025024, "the image"}}
		}, "phys_base"},
		{"phys_base of VMCOREINFO is missing", func(m *machine, h *Hints) {
			delete(m.info, "NUMBER(phys_base)")
			h.PhysBase = []Value{{0x497025024, "QEMU"}, {m.load - (m.text - x86Image), "the text"}}
		}, "from the text"},
		{"all bases are wrong, CR3 is there", func(m *machine, h *Hints) {
			m.info["NUMBER(phys_base)"] = "4096"
			h.CPUs = []CPU{m.cpu(m.root)}
		}, "CR3"},
		{"PTI, in user mode", func(m *machine, h *Hints) {
			delete(m.info, "NUMBER(phys_base)")
			h.CPUs = []CPU{{"CPU 0", nil}, m.cpu(m.root | cr3User | 0x123)}
		}, "CR3"},
		{"no VMCOREINFO, CR3", func(m *machine, h *Hints) {
			m.info = nil
			h.CPUs = []CPU{m.cpu(m.root | 0x800)}
		}, "2048 KiB"},
		{"no VMCOREINFO, PTI", func(m *machine, h *Hints) {
			m.info = nil
			h.CPUs = []CPU{m.cpu(m.root | cr3User)}
		}, "CR3"},
		{"no VMCOREINFO, a CPU that is off", func(m *machine, h *Hints) {
			m.info = nil
			h.CPUs = []CPU{m.cpu(0), m.cpu(m.root)}
		}, "CR3"},
		{"nothing", func(m *machine, h *Hints) { m.info = nil }, ""},
		{"all is wrong", func(m *machine, h *Hints) {
			m.info["NUMBER(phys_base)"] = "-4096"
			h.PhysBase = []Value{{1 << 52, "the image"}}
			h.CPUs = []CPU{m.cpu(1<<52 - 1)}
		}, ""},
		{"landmarks that do not agree", func(m *machine, h *Hints) {
			m.tables.Map(m.text+imageBytes, 0x1000000, 4096)
			m.info["SYMBOL(init_top_pgt)"] = fmt.Sprintf("%x", m.text+imageBytes)
			delete(m.info, "NUMBER(phys_base)")
			h.CPUs = []CPU{m.cpu(m.root)}
		}, ""},
		{"no VMCOREINFO, and a processor with less of the kernel", func(m *machine, h *Hints) {
			m.info = nil
			less := testimage.NewTables(m.mem, m.mode, 0x8000000)
			for at := uint64(0); at < 3<<19; at += 4096 {
				less.Map(m.text+at, m.load+at, 4096)
			}
			h.CPUs = []CPU{m.cpu(m.root), m.cpu(less.Root)}
		}, "2048 KiB"},
		{"tables of another kernel", func(m *machine, h *Hints) {
			m.info["SYMBOL(_stext)"] = fmt.Sprintf("%x", m.text+imageBytes)
		}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMachine(mode)
			h := m.hints()
			c.do(m, h)
			if h.VMCoreInfo = nil; m.info != nil {
				h.VMCoreInfo = m.vmcoreinfo()
			}
			found, err := find(t.Context(), m.space(t), h, nil)
			if c.want != "" {
				if err != nil || uint64(found.Root) != m.root || !strings.Contains(found.How+strings.Join(found.Checked, ";"), c.want) {
					t.Errorf("%+v, %v", found, err)
				}
				return
			}
			bad, ok := errors.AsType[*TablesError](err)
			if !ok || !errors.Is(err, remora.ErrNoTable) || len(bad.Tried) == 0 {
				t.Fatalf("%+v, %v", found, err)
			}
			for _, v := range h.PhysBase {
				if !strings.Contains(err.Error(), hex(v.N)) {
					t.Errorf("%v does not name %s", err, hex(v.N))
				}
			}
			for _, c := range h.CPUs {
				if !strings.Contains(err.Error(), hex(c.Regs["cr3"])) {
					t.Errorf("%v does not name CR3", err)
				}
			}
		})
	}
}

func TestFindTablesOfHostileHints(t *testing.T) {
	for _, mode := range []int{0, 3, 12} {
		for _, bad := range []string{"0", "-1", "18446744073709551615", "9223372036854775808", "0xfff", "64", "words"} {
			for key := range newMachine(testimage.TableModes()[mode]).info {
				m := newMachine(testimage.TableModes()[mode])
				m.info[key] = bad
				found, err := find(t.Context(), m.space(t), m.hints(), nil)
				if err == nil && uint64(found.Root) != m.root {
					t.Errorf("%s=%s: %+v", key, bad, found)
				}
				if err != nil && !errors.Is(err, remora.ErrNoTable) {
					t.Errorf("%s=%s: %v", key, bad, err)
				}
			}
		}
	}
}

func TestAKernelWithoutTables(t *testing.T) {
	m := newMachine(testimage.TableModes()[0])
	m.info = nil
	k := New(m.space(t), "sample", &Hints{Machine: elf.EM_S390})
	_, err := k.Memory().ReadAt(t.Context(), make([]byte, 8), 0x1000)
	if !errors.Is(err, remora.ErrNoTable) || !strings.Contains(err.Error(), "tried") || !strings.Contains(err.Error(), "EM_S390") {
		t.Errorf("got %v", err)
	}
	if e := k.Translate(t.Context(), 0x1000); !errors.Is(e.Err, remora.ErrNoTable) || e.Virt != 0x1000 {
		t.Errorf("got %+v", e)
	}
	for r, err := range k.Regions(t.Context()) {
		if !errors.Is(err, remora.ErrNoTable) {
			t.Errorf("%v, %v", r, err)
		}
	}
	k.Close()
	if _, err := k.Memory().ReadAt(t.Context(), make([]byte, 8), 0x1000); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestTheSearchForTablesHeedsItsContext(t *testing.T) {
	m := newMachine(testimage.TableModes()[0])
	k := New(m.space(t), "sample", m.hints())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := k.Tables(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if _, err := k.Tables(t.Context()); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func TestAKernelKeepsTheContract(t *testing.T) {
	const size = 4 << 20
	m := newMachine(testimage.TableModes()[0])
	at := remora.Addr(m.text + 0x10000000)
	const phys = 0x10000000
	for i := uint64(0); i < size; i += 4096 {
		m.tables.Map(uint64(at)+i, phys+i, 4096)
	}
	data := bytes.Repeat([]byte("0123456789abcde"), size/15+1)[:size]
	m.mem.Write(phys, data)
	var in remora.Info
	fixture := func(t testing.TB) memtest.Fixture {
		s := m.space(t)
		k := New(s, "sample", m.hints())
		in = k.Info()
		return memtest.Fixture{Space: k, Close: k.Close,
			Peek: func(p []byte, a remora.Addr) error { return s.Peek(p, a-at+phys) },
			Areas: []memtest.Area{
				{Range: remora.Range{Start: at, Size: size}, Data: data},
				{Range: remora.Range{Start: at + size, Size: 1 << 20}, Fault: memtest.Always(remora.ErrUnmapped)},
			}}
	}
	fixture(t)
	memtest.TestSpace(t, fixture, memtest.Want{Info: in, Part: 1, Lacks: memtest.Lacks{
		Top: "nothing is mapped there", Forced: "page tables do not refuse what they map", Absent: "nothing is swapped out"}})
}

// A kernel from before the fix for L1TF does not invert the address of a PROT_NONE page: it
// is told by where there is memory.
func TestAKernelKnowsHowProtNoneIsWritten(t *testing.T) {
	for _, entry := range []uint64{m0None, ^uint64(m0None)&(1<<52-4096) | 1<<8} {
		m := newMachine(testimage.TableModes()[0])
		const at = 0x401000
		m.tables.Set(at, 1, entry)
		m.mem.Write(m0None&^0xfff, []byte("no access"))
		k := New(m.space(t), "sample", m.hints())
		if text, err := k.Memory().CString(t.Context(), at, 100); err != nil || text != "no access" {
			t.Errorf("entry %#x: %q, %v", entry, text, err)
		}
		k.Close()
	}
}

// m0None is a PROT_NONE entry as it was.
const m0None = 0x8000000 | 1<<8
