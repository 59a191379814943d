// SPDX-License-Identifier: Apache-2.0

package target

import (
	"debug/elf"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/rsp/rsptest"
	"github.com/remora-go/remora/internal/testimage"
	"github.com/remora-go/remora/kernel"
	"github.com/remora-go/remora/memtest"
)

func TestSplitStub(t *testing.T) {
	for spec, want := range map[string][2]string{
		"localhost:1234":      {"localhost:1234", ""},
		"[::1]:1234@phys":     {"[::1]:1234", "phys"},
		"localhost:1234@12":   {"localhost:1234", "12"},
		"/run/stub@virt":      {"/run/stub", "virt"},
		"user@host:1":         {"user@host:1", ""},
		"host:1@":             {"host:1@", ""},
		"@phys":               {"", "phys"},
		"/run/a@1/stub":       {"/run/a@1/stub", ""},
		"/run/a@1/stub@0x100": {"/run/a@1/stub@0x100", ""},
	} {
		if address, view := splitStub(spec); address != want[0] || view != want[1] {
			t.Errorf("%s: %q and %q", spec, address, view)
		}
	}
}

// mode4 is x86-64 with 4 levels.
func mode4() testimage.TableMode { return testimage.TableModes()[0] }

// A walk finds what page tables map as memory: not devices, nor the display of a PC, nor
// what a process has.
func TestMappedMemory(t *testing.T) {
	const page, huge = 1 << 12, 2 << 20
	mem := &testimage.Physical{PageSize: page, Pages: map[uint64]testimage.Page{}}
	tables := testimage.NewTables(mem, mode4(), 0x200000)
	direct := uint64(0xffff888000000000)
	const code = 0xe1 // present, accessed, dirty, huge; nobody may write, or run it in user mode
	tables.Set(0xffffffff81000000, 2, 0x1000000|code)
	tables.Set(0xffffffff81200000, 2, 0x1200000|code)
	tables.Map(direct, 0, huge)
	tables.Map(direct+huge, huge, huge)
	for i := range uint64(3) {
		tables.Map(direct+4*huge+i*page, 4*huge+i*page, page)
	}
	tables.Set(0xffffc90000000000, 1, 0xfee00000|1<<4|1<<3|0x63) // a device
	tables.Set(0xffffc90000001000, 1, 0xfed00000|1<<4|0x63)
	tables.Map(0x400000, 0x7fe00000, huge) // a process
	s := memtest.NewSparse(nil)
	for pfn, p := range mem.Pages {
		at := remora.Addr(pfn * page)
		if err := s.Map(remora.Range{Start: at, Size: page}, memtest.MapOptions{Perm: remora.PermRead | remora.PermWrite}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Memory().WriteAt(t.Context(), p.Data, at); err != nil {
			t.Fatal(err)
		}
	}
	cpu := kernel.CPU{Name: "CPU 0", Regs: map[string]uint64{"cr3": tables.Root, "cr4": 0x20}}
	got, why := mappedMemory(t.Context(), s, &kernel.Hints{Machine: elf.EM_X86_64, CPUs: []kernel.CPU{cpu}})
	var text []string
	for _, r := range got {
		if !r.Empty() {
			text = append(text, r.String())
		}
	}
	want := []string{"0x0+0xa0000", "0x100000+0x300000", "0x800000+0x3000", "0x1000000+0x400000"}
	if diff := cmp.Diff(want, text); diff != "" {
		t.Errorf("%v: %s", why, diff)
	}
	cpu.Regs = map[string]uint64{"cr3": tables.Root + page} // under PTI, in user mode
	if again, why := mappedMemory(t.Context(), s, &kernel.Hints{Machine: elf.EM_X86_64, CPUs: []kernel.CPU{cpu}}); !cmp.Equal(got, again) {
		t.Errorf("%v, %v", again, why)
	}
	for name, regs := range map[string]map[string]uint64{
		"no paging":          {"cr3": tables.Root, "cr0": 1},
		"tables elsewhere":   {"cr3": 0x10000000},
		"tables of no sense": {"cr3": tables.Root + 2*page},
	} {
		cpu.Regs = regs
		if got, why := mappedMemory(t.Context(), s, &kernel.Hints{Machine: elf.EM_X86_64, CPUs: []kernel.CPU{cpu}}); len(got) != 0 || why == nil {
			t.Errorf("%s: %v, %v", name, got, why)
		}
	}
}

// stubOf is a stub with the memory of a guest that was made.
func stubOf(g *testimage.Guest) *rsptest.Stub {
	s := &rsptest.Stub{QEMU: true, Threads: "p1.1", PacketSize: 64 << 10}
	s.Objects = map[string]string{"features:target.xml": `<target><architecture>i386:x86-64</architecture><feature name="a">` +
		`<reg name="rip" bitsize="64"/><reg name="cr0" bitsize="64"/><reg name="cr3" bitsize="64"/><reg name="cr4" bitsize="64"/></feature></target>`}
	for _, v := range []uint64{g.State.RIP, g.State.CR[0], g.Kernel.Root, g.State.CR[4]} {
		for i := range 8 {
			s.Registers += fmt.Sprintf("%02x", byte(v>>(8*i)))
		}
	}
	for pfn, p := range g.Mem.Pages {
		data := make([]byte, g.Mem.Size())
		copy(data, p.Data)
		s.Physical = append(s.Physical, rsptest.Area{Start: pfn * uint64(g.Mem.Size()), Data: data})
	}
	return s
}

// A kernel behind a stub is found, and read, where it is said where memory is.
func TestStubKernel(t *testing.T) {
	g := testimage.NewGuest(1, mode4())
	s := stubOf(g)
	spec := stubPrefix + s.Start(t)
	size := uint64(len(g.Mem.Pages) * g.Mem.Size())
	o := &Options{Segments: []remora.Range{{Start: remora.Addr(g.RAM), Size: size}}}
	x, err := Open(t.Context(), spec, o)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, len(g.Banner))
	if _, err := x.Memory().ReadAt(t.Context(), b, remora.Addr(g.ImageVirt)); err != nil || string(b) != g.Banner {
		t.Errorf("%q, %v", b, err)
	}
	if err := x.Close(); err != nil || s.Detached() != 1 {
		t.Errorf("%v, it was left %d times", err, s.Detached())
	}
	if x, err = Open(t.Context(), spec+"@phys", o); err != nil {
		t.Fatal(err)
	}
	if n, err := x.Memory().ReadAt(t.Context(), b, remora.Addr(g.RAM+size)-4); n != 4 || !errors.Is(err, remora.ErrHole) {
		t.Errorf("%d bytes at the end of memory, %v", n, err)
	}
	if err := x.Close(); err != nil {
		t.Error(err)
	}
	if _, err := Open(t.Context(), spec+"@phys", &Options{Write: true, Needs: []Ability{Symbolizer}}); !errors.Is(err, errors.ErrUnsupported) || s.Detached() != 3 {
		t.Errorf("%v, it was left %d times", err, s.Detached())
	}
}

// Where nothing says where memory is, none is read.
func TestStubNoMemory(t *testing.T) {
	s := stubOf(testimage.NewGuest(1, mode4()))
	s.Registers = strings.Repeat("0", len(s.Registers))
	spec := stubPrefix + s.Start(t) + "@phys"
	x, err := Open(t.Context(), spec, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	_, err = x.Memory().Uint8(t.Context(), 0x1000)
	if _, ok := errors.AsType[*NoMemoryError](err); !ok || !errors.Is(err, remora.ErrHole) {
		t.Errorf("it says %v", err)
	}
	for _, said := range s.Said() {
		if said[0] == 'm' {
			t.Errorf("it was asked %q", said)
		}
	}
}
