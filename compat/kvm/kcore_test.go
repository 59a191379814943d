// SPDX-License-Identifier: Apache-2.0

package kvm

import (
	"bytes"
	"debug/elf"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/compat/errno"
	"github.com/remora-go/remora/internal/testimage"
	"github.com/remora-go/remora/memtest"
)

// Where a kernel of amd64 has its memory.
const (
	textAt    = 0xffffffff81000000
	textPhys  = 0x2000 // inside the first piece of memory
	mappedAt  = 0xffff888000001000
	memoryAt  = 0x1000
	memory2At = 0x100000
	dynamicAt = 0xffffc90000000000
)

func fill(n int, seed byte) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = seed + byte(i)*7 + byte(i>>8)
	}
	return b
}

// kcoreFixture is a /proc/kcore: kernel text, which is in memory as well; memory of
// no fixed place; two pieces of memory.
func kcoreFixture(longest int) (*testimage.Core, []testimage.Load) {
	ram := fill(4*page, 1)
	loads := []testimage.Load{
		{Addr: textAt, Data: ram[textPhys-memoryAt:][:page], Flags: elf.PF_R | elf.PF_X},
		{Addr: dynamicAt, Data: fill(2*page, 2), Flags: elf.PF_R | elf.PF_W},
		{Addr: mappedAt, Data: ram, Flags: elf.PF_R | elf.PF_W},
		{Addr: mappedAt + memory2At - memoryAt, Data: fill(longest, 3), Flags: elf.PF_R | elf.PF_W},
	}
	return &testimage.Core{Loads: loads, PageAlign: true}, loads
}

// physAddrs are the p_paddr of the loads of kcoreFixture.
func physAddrs() []uint64 { return []uint64{textPhys, 1<<64 - 1, memoryAt, memory2At} }

// setPhys writes p_paddr of each segment that is loaded.
func setPhys(c *testimage.Core, b []byte, phys []uint64) {
	first := 0
	for order, off := c.Order(), 64; first < len(phys); off += 56 {
		if order.Uint32(b[off:]) == uint32(elf.PT_LOAD) {
			order.PutUint64(b[off+24:], phys[first])
			first++
		}
	}
}

func openKcore(t testing.TB, b []byte, overlay bool) *kcore {
	t.Helper()
	k, err := newKcore(bytes.NewReader(b), int64(len(b)), "kcore", overlay)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestKcoreSpaces(t *testing.T) {
	const longest = 4 * page
	core, loads := kcoreFixture(longest)
	b := core.Bytes()
	setPhys(core, b, physAddrs())
	area := func(a uint64, data []byte) memtest.Area {
		return memtest.Area{Range: remora.Range{Start: remora.Addr(a), Size: uint64(len(data))}, Data: data, Fault: memtest.OnWrite(remora.ErrReadOnly)}
	}
	hole := func(a uint64) memtest.Area {
		return memtest.Area{Range: remora.Range{Start: remora.Addr(a), Size: page}, Fault: memtest.Always(remora.ErrUnmapped)}
	}
	kernel := []memtest.Area{hole(0), hole(textAt + page), hole(dynamicAt + 2*page), hole(mappedAt - page)}
	for _, l := range loads {
		kernel = append(kernel, area(l.Addr, l.Data))
	}
	physical := []memtest.Area{hole(0), hole(memoryAt + 4*page), hole(memory2At + longest), area(memoryAt, loads[2].Data), area(memory2At, loads[3].Data)}
	want := memtest.Want{
		Info: remora.Info{Ops: remora.StopAtFault | remora.Force | remora.Resident, PtrSize: 8, Granule: page, Live: true},
		Lacks: memtest.Lacks{
			Forced: "the kernel's own protections are not those of /proc/kcore",
			Absent: "the kernel's memory is always there",
			Large:  "what moves the bytes is tested with large runs where it lives, in xfer and compose",
			Top:    "no kernel has memory there",
			Close:  "the Image has it",
		},
	}
	for name, c := range map[string]struct {
		areas []memtest.Area
		last  remora.Addr
		of    func(*kcore) *remora.Memory
	}{
		"kernel":   {kernel, textAt + page - 1, func(k *kcore) *remora.Memory { return k.kernel }},
		"physical": {physical, memory2At + longest - 1, func(k *kcore) *remora.Memory { return k.physical }},
	} {
		t.Run(name, func(t *testing.T) {
			want := want
			want.Info.Last = c.last
			memtest.TestSpace(t, func(t testing.TB) memtest.Fixture {
				return memtest.Fixture{Space: c.of(openKcore(t, b, false)), Areas: c.areas}
			}, want)
		})
	}
}

// runningKcore is the running system with a /proc/kcore of ours.
func runningKcore(t *testing.T, b []byte, c *Config, write bool) *Handle {
	t.Helper()
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "kcore"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	h := New(newRunning(root, c), write)
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// TestR96KernelThroughKcore: counts and errnos as R96 has them, and a kernel that
// cannot be written.
func TestR96KernelThroughKcore(t *testing.T) {
	core, loads := kcoreFixture(page)
	b := core.Bytes()
	setPhys(core, b, physAddrs())
	h := runningKcore(t, b, &Config{Write: true}, true)
	buf := make([]byte, 100)
	n, err := h.KRead(t.Context(), buf, textAt+50)
	wantAll(t, n, err, 100)
	if !bytes.Equal(buf, loads[0].Data[50:150]) {
		t.Error("wrong bytes")
	}
	n, err = h.KRead(t.Context(), buf, textAt+page-30)
	wantShort(t, n, err, 30, textAt+page, remora.ErrUnmapped)
	for _, a := range []remora.Addr{textAt + page, textAt - 1, 0, remora.MaxAddr} {
		n, err = h.KRead(t.Context(), buf, a)
		wantFailed(t, n, err, errno.EFAULT, remora.ErrUnmapped)
	}
	n, err = h.KWrite(t.Context(), buf, textAt)
	wantFailed(t, n, err, errno.EROFS, remora.ErrReadOnly)
	n, err = h.PRead(t.Context(), buf, textPhys+50)
	wantAll(t, n, err, 100)
	if !bytes.Equal(buf, loads[0].Data[50:150]) {
		t.Error("wrong bytes of physical memory")
	}
	n, err = h.PRead(t.Context(), buf, memoryAt+4*page)
	wantFailed(t, n, err, errno.EFAULT, remora.ErrUnmapped)
	n, err = h.PWrite(t.Context(), buf, memoryAt)
	wantFailed(t, n, err, errno.EROFS, remora.ErrReadOnly)
}

func TestR105PhysAddrThroughKcore(t *testing.T) {
	core, _ := kcoreFixture(2 * page)
	b := core.Bytes()
	setPhys(core, b, physAddrs())
	h := runningKcore(t, b, &Config{}, false)
	for va, want := range map[remora.Addr]remora.Addr{textAt + 5: textPhys + 5, mappedAt: memoryAt,
		mappedAt + memory2At: memory2At + memoryAt, mappedAt + 4*page - 1: memoryAt + 4*page - 1} {
		if a, err := h.PhysAddr(t.Context(), KernelAS(), va); a != want || err != nil {
			t.Errorf("%v: %v, %v: want %v", va, a, err, want)
		}
	}
	for _, va := range []remora.Addr{dynamicAt, textAt + page, 0, remora.MaxAddr} {
		if a, err := h.PhysAddr(t.Context(), KernelAS(), va); a != remora.MaxAddr || err == nil {
			t.Errorf("%v: %v, %v: want none", va, a, err)
		}
	}
}

// TestKcoreWithoutPhysicalAddresses: kernels before 4.19 say 0 everywhere.
func TestKcoreWithoutPhysicalAddresses(t *testing.T) {
	core, _ := kcoreFixture(page)
	b := core.Bytes()
	setPhys(core, b, []uint64{0, 0, 0, 0})
	h := runningKcore(t, b, &Config{}, false)
	n, err := h.PRead(t.Context(), make([]byte, 8), memoryAt)
	wantFailed(t, n, err, errno.ENOSYS, errors.ErrUnsupported)
	n, err = h.KRead(t.Context(), make([]byte, 8), mappedAt)
	wantAll(t, n, err, 8)
}

// TestKcoreOverlay: a write to memory is seen in both views, and the file stays.
func TestKcoreOverlay(t *testing.T) {
	core, _ := kcoreFixture(page)
	b := core.Bytes()
	setPhys(core, b, physAddrs())
	h := runningKcore(t, b, &Config{Overlay: true}, true)
	n, err := h.KWrite(t.Context(), []byte("kept"), mappedAt+0x10)
	wantAll(t, n, err, 4)
	got := make([]byte, 4)
	for _, c := range []struct {
		read transfer
		a    remora.Addr
	}{{h.KRead, mappedAt + 0x10}, {h.PRead, memoryAt + 0x10}} {
		clear(got)
		n, err = c.read(t.Context(), got, c.a)
		wantAll(t, n, err, 4)
		if string(got) != "kept" {
			t.Errorf("%q", got)
		}
	}
	file := filepath.Join(h.img.(*running).root, "kcore")
	if now, err := os.ReadFile(file); err != nil || !bytes.Equal(now, b) {
		t.Error("the file was changed", err)
	}
}

func TestKcoreThatCannotBeUsed(t *testing.T) {
	h := New(newRunning(t.TempDir(), &Config{}), false)
	defer h.Close()
	buf := make([]byte, 8)
	n, err := h.KRead(t.Context(), buf, textAt)
	wantFailed(t, n, err, errno.ENOSYS, errors.ErrUnsupported)
	n, err = h.PRead(t.Context(), buf, memoryAt)
	wantFailed(t, n, err, errno.ENOSYS, errors.ErrUnsupported)

	core, _ := kcoreFixture(page)
	whole := core.Bytes()
	executable := bytes.Clone(whole)
	core.Order().PutUint16(executable[16:], uint16(elf.ET_EXEC))
	wraps := &testimage.Core{Loads: []testimage.Load{{Addr: textAt, Data: fill(page, 0)}, {Addr: 1<<64 - 100, Data: fill(page, 0)}}}
	for name, c := range map[string]struct {
		b     []byte
		cause error
	}{
		"empty":       {nil, remora.ErrUnrecognized},
		"text":        {[]byte("no ELF file"), remora.ErrUnrecognized},
		"executable":  {executable, remora.ErrUnrecognized},
		"wraps":       {wraps.Bytes(), remora.ErrCorrupt},
		"half header": {whole[:100], remora.ErrTruncated},
	} {
		h := runningKcore(t, c.b, &Config{}, false)
		for range 2 {
			n, err := h.KRead(t.Context(), buf, textAt)
			if n != -1 || !errors.Is(err, c.cause) {
				t.Errorf("%s: %d, %v: want %v", name, n, err, c.cause)
			}
		}
	}

	// Cut off: what is left can be read.
	h2 := runningKcore(t, whole[:len(whole)-page/2], &Config{}, false)
	n, err = h2.KRead(t.Context(), make([]byte, page), mappedAt+memory2At-memoryAt)
	wantShort(t, n, err, page/2, mappedAt+memory2At-memoryAt+page/2, remora.ErrTruncated)
}

// TestKcoreSegmentsThatOverlap: the first one by address wins, and nothing is refused.
func TestKcoreSegmentsThatOverlap(t *testing.T) {
	a, b, c := fill(2*page, 10), fill(2*page, 20), fill(page, 30)
	core := &testimage.Core{Loads: []testimage.Load{{Addr: 0x11000, Data: b}, {Addr: 0x10000, Data: a}, {Addr: 0x11800, Data: c}}}
	k := openKcore(t, core.Bytes(), false)
	got := make([]byte, 3*page)
	if _, err := k.kernel.ReadAt(t.Context(), got, 0x10000); err != nil {
		t.Fatal(err)
	}
	if want := append(bytes.Clone(a), b[page:]...); !bytes.Equal(got, want) {
		t.Error("wrong bytes")
	}
}

func TestKcoreOfOtherMachines(t *testing.T) {
	for _, c := range []testimage.Core{{Narrow: true}, {BigEndian: true, Machine: elf.EM_S390}} {
		data := fill(page, 5)
		c.Loads = []testimage.Load{{Addr: 0xc0000000, Data: data}}
		k := openKcore(t, c.Bytes(), false)
		got := make([]byte, page)
		if _, err := k.kernel.ReadAt(t.Context(), got, 0xc0000000); err != nil || !bytes.Equal(got, data) {
			t.Error("wrong bytes", err)
		}
		if i := k.kernel.Info(); int(i.PtrSize) != c.WordSize() || i.BigEndian != c.BigEndian {
			t.Errorf("%+v", i)
		}
	}
}

// TestKcoreOtherSegments: only PT_LOAD is memory.
func TestKcoreOtherSegments(t *testing.T) {
	core := &testimage.Core{Loads: []testimage.Load{{Addr: 0x10000, Data: fill(page, 1)}, {Addr: 0x20000, Data: fill(page, 2)}}}
	b := core.Bytes()
	for off := 64; ; off += 56 {
		if core.Order().Uint64(b[off+16:]) == 0x20000 {
			core.Order().PutUint32(b[off:], uint32(elf.PT_GNU_STACK))
			break
		}
	}
	k := openKcore(t, b, false)
	if _, err := k.kernel.Uint8(t.Context(), 0x10000); err != nil {
		t.Error(err)
	}
	if _, err := k.kernel.Uint8(t.Context(), 0x20000); !errors.Is(err, remora.ErrUnmapped) {
		t.Errorf("%v: want that nothing is there", err)
	}
}
