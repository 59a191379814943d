// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/memtest"
)

// resourceWorld is memory with a tree of resources: each at its place, 0 for none.
type resourceWorld struct {
	t *testing.T
	s *memtest.Sparse
	w *resourceWalk
	r []Resource
}

const resourceBase = 0xffff888000100000

func resourceAt(i int) remora.Addr {
	if i == 0 {
		return 0
	}
	return resourceBase + remora.Addr(i)*0x100
}

func newResourceWorld(t *testing.T) *resourceWorld {
	t.Helper()
	s := memtest.NewSparse(nil)
	if err := s.Map(remora.Range{Start: resourceBase, Size: 0x10000}, memtest.MapOptions{Perm: remora.PermRead | remora.PermWrite}); err != nil {
		t.Fatal(err)
	}
	k := New(s, "sample", &Hints{})
	k.mem = s.Memory()
	x := &resourceWorld{t: t, s: s}
	x.w = &resourceWalk{k: k, r: k.reader(t.Context()), seen: map[remora.Addr]bool{}, yield: func(r Resource, _ error) bool {
		x.r = append(x.r, r)
		return true
	}}
	x.w.start, x.w.end, x.w.name, x.w.flags = held(0, 8), held(8, 8), held(16, 8), held(24, 8)
	x.w.sibling, x.w.child = held(48, 8), held(56, 8)
	return x
}

func (x *resourceWorld) put(i int, first, last uint64, name string, flags uint64, sibling, child int) {
	x.t.Helper()
	at := resourceAt(i)
	b := make([]byte, 64, 0x100)
	for off, v := range map[int]uint64{0: first, 8: last, 16: uint64(at) + 64, 24: flags, 48: uint64(resourceAt(sibling)), 56: uint64(resourceAt(child))} {
		binary.LittleEndian.PutUint64(b[off:], v)
	}
	if _, err := x.s.Memory().WriteAt(x.t.Context(), append(append(b, name...), 0), at); err != nil {
		x.t.Fatal(err)
	}
}

func TestResources(t *testing.T) {
	x := newResourceWorld(t)
	x.put(1, 0, 0xfff, "Reserved", 0x80000200, 2, 0)
	x.put(2, 0x1000, 0x9fbff, "System RAM", 0x81000200, 3, 0)
	x.put(3, 0x100000, 0xfffffff, "System RAM", 0x200, 5, 4)
	x.put(4, 0x200000, 0x2fffff, "Kernel code", 0x1000200, 0, 0)
	x.put(5, 0xfffffffffffff000, 0xffffffffffffffff, "a device", 0x200, 0, 0)
	if err := x.w.level(t.Context(), resourceAt(1), 0); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range x.r {
		got = append(got, fmt.Sprintf("%d %v %s %v", r.Depth, r.Range, r.Name, r.SystemRAM()))
	}
	want := []string{
		"0 0x0+0x1000 Reserved false", "0 0x1000+0x9ec00 System RAM true", "0 0x100000+0xff00000 System RAM true",
		"1 0x200000+0x100000 Kernel code true", "0 0xfffffffffffff000+0x1000 a device false",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestResourcesBroken(t *testing.T) {
	for name, c := range map[string]struct {
		breaks func(x *resourceWorld)
		says   string
	}{
		"a circle":     {func(x *resourceWorld) { x.put(2, 0x2000, 0x2fff, "b", 0, 1, 0) }, "it comes back to"},
		"its own self": {func(x *resourceWorld) { x.put(2, 0x2000, 0x2fff, "b", 0, 0, 2) }, "it comes back to"},
		"backwards":    {func(x *resourceWorld) { x.put(2, 0x2000, 0x1fff, "b", 0, 0, 0) }, "a range from 0x2000 to 0x1fff"},
		"nowhere":      {func(x *resourceWorld) { x.put(1, 0x1000, 0x1fff, "a", 0, 1000, 0) }, "unmapped"},
		"deep": {func(x *resourceWorld) {
			for i := 2; i < 100; i++ {
				x.put(i, 0x1000, 0x1fff, "a", 0, 0, i+1)
			}
		}, "deeper than 64"},
	} {
		t.Run(name, func(t *testing.T) {
			x := newResourceWorld(t)
			x.put(1, 0x1000, 0x1fff, "a", 0, 2, 0)
			x.put(2, 0x2000, 0x2fff, "b", 0, 0, 0)
			c.breaks(x)
			if err := x.w.level(t.Context(), resourceAt(1), 0); err == nil || !strings.Contains(strings.ReplaceAll(err.Error(), "not mapped", "unmapped"), c.says) {
				t.Errorf("it says %v", err)
			}
		})
	}
}

func TestRoots(t *testing.T) {
	for name, c := range map[string]struct {
		cpu  CPU
		want string
	}{
		"4 levels":    {CPU{Regs: map[string]uint64{"cr3": 0x1234003, "cr0": 0x80050033, "cr4": 0x20}}, "x86-64, 4 levels at 0x1234000, 48 bits"},
		"5 levels":    {CPU{Regs: map[string]uint64{"cr3": 0x1234000, "cr4": 0x1020}}, "x86-64, 5 levels at 0x1234000, 57 bits"},
		"no paging":   {CPU{Regs: map[string]uint64{"cr3": 0x1234000, "cr0": 0x10}}, ""},
		"nothing":     {CPU{}, ""},
		"arm64":       {CPU{Regs: map[string]uint64{"TTBR1_EL1": 0x1_0000_4123_4001, "TCR_EL1": 0x5_b510_3510 | 16<<16 | 2<<30}}, "4 KiB"},
		"arm64 early": {CPU{Regs: map[string]uint64{"TTBR1_EL1": 0x41234000, "TCR_EL1": 16<<16 | 2<<30, "SCTLR_EL1": 0}}, ""},
		"arm64 16K":   {CPU{Regs: map[string]uint64{"TTBR1_EL1": 0x41234000, "TCR_EL1": 17<<16 | 1<<30, "SCTLR_EL1": 1}}, "47 bits"},
		"arm64 52":    {CPU{Regs: map[string]uint64{"TTBR1_EL1": 0x4123_4024, "TCR_EL1": 12<<16 | 2<<30 | 1<<59}}, "at 0x9000041234000, 52 bits"},
		"arm64 none":  {CPU{Regs: map[string]uint64{"TTBR1_EL1": 0x41234000, "TCR_EL1": 16 << 16}}, ""},
	} {
		var got string
		for _, m := range []Hints{{CPUs: []CPU{c.cpu}}} {
			machine := m.machine(nil)
			for _, r := range c.cpu.Roots(machine) {
				got = fmt.Sprintf("%v at %v, %d bits", r.Format, r.Table, r.Bits)
			}
		}
		if !strings.Contains(got, c.want) || c.want == "" && got != "" {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
