// SPDX-License-Identifier: Apache-2.0

package target_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/vmlab"
	"github.com/remora-go/remora/kernel"
	"github.com/remora-go/remora/target"
)

// TestLiveStub looks at guests through QEMU's gdb stub, and holds what is seen against the
// file that is their memory, and against what they say themselves.
func TestLiveStub(t *testing.T) {
	for _, m := range vmlab.Guests() {
		t.Run(m.String(), func(t *testing.T) {
			a := vmlab.StartAgent(t, m, nil)
			ram, err := os.Open(a.RAM())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { ram.Close() })
			g := &liveStub{liveGuest: liveGuest{t, a}, ram: ram}
			if strings.HasPrefix(m.Kernel, "arm64") {
				g.base = 1 << 30 // the board's memory
			}
			t.Run("physical", g.testPhysical)
			t.Run("kernel", g.testKernel)
			t.Run("process", g.testProcess)
			t.Run("write", g.testWrite)
			t.Run("state", g.testState)
		})
	}
}

// liveStub is a guest behind its stub.
type liveStub struct {
	liveGuest
	ram  *os.File
	base remora.Addr // of the file in physical memory
}

// open opens a view of the guest, which stands until end is called.
func (g *liveStub) open(t *testing.T, view string, o *target.Options) (x remora.Target, end func()) {
	t.Helper()
	x, err := target.Open(t.Context(), "gdb:"+g.Stub()+view, o)
	if err != nil {
		t.Fatal(err)
	}
	open := true
	end = func() {
		if !open {
			return
		}
		open = false
		if err := x.Close(); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(end)
	return x, end
}

// same holds physical memory against the file.
func (g *liveStub) same(t *testing.T, got []byte, pa remora.Addr) {
	t.Helper()
	want := make([]byte, len(got))
	if _, err := g.ram.ReadAt(want, int64(pa-g.base)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%d bytes at physical %v are others than in the file", len(got), pa)
	}
}

// testPhysical reads all that the guest has as memory, in pieces, and beside it.
func (g *liveStub) testPhysical(t *testing.T) {
	iomem := g.at(t).file("/proc/iomem")
	x, _ := g.open(t, "@phys", nil)
	m, _ := remora.As[remora.Mapper](x)
	var got []string
	buf := make([]byte, 64<<10)
	for r, err := range m.Regions(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, r.Range.String())
		for at := r.Start; at < r.Start+remora.Addr(r.Size); at += 4<<20 + 12345 {
			n, err := x.Memory().ReadAt(t.Context(), buf, at)
			if left := uint64(r.Last()-at) + 1; n != int(min(left, uint64(len(buf)))) || (err != nil) != (n < len(buf)) || err != nil && !errors.Is(err, remora.ErrHole) {
				t.Errorf("%d bytes at %v, of %v: %v", n, at, r.Range, err)
			}
			g.same(t, buf[:n], at)
		}
	}
	var want []string
	for line := range strings.Lines(iomem) {
		var first, last uint64
		if n, _ := fmt.Sscanf(line, "%x-%x : System RAM", &first, &last); n == 2 && strings.HasSuffix(line, ": System RAM\n") {
			first, end := (first+4095)&^4095, (last+1)&^4095
			want = append(want, remora.Between(remora.Addr(first), remora.Addr(end)).String())
		}
	}
	if diff := cmp.Diff(want, got); diff != "" || len(want) == 0 {
		t.Errorf("where memory is, by the guest and here: %s", diff)
	}
	for _, hole := range []remora.Addr{0xa0000, 0xfee00000, 0x9000000, 1 << 45} { // displays, interrupts, a console
		if hole == 0x9000000 && g.base == 0 {
			continue
		}
		if n, err := x.Memory().ReadAt(t.Context(), buf[:8], hole); n != 0 || !errors.Is(err, remora.ErrHole) {
			t.Errorf("%d bytes at %v: %v", n, hole, err)
		}
	}
}

// testKernel reads the kernel, by its own page tables and by the processor's.
func (g *liveStub) testKernel(t *testing.T) {
	version := strings.TrimSpace(g.at(t).file("/proc/version"))
	x, end := g.open(t, "", nil)
	k := x.(*target.Kernel)
	if banner, err := k.Banner(t.Context()); banner != version || err != nil {
		t.Errorf("the banner is %q, %v, want %q", banner, err, version)
	}
	pids := map[int]string{}
	for task, err := range k.Tasks(t.Context()) {
		if err != nil {
			t.Error(err)
			continue
		}
		pids[task.PID] = task.Comm
	}
	if len(pids) < 20 || pids[2] != "kthreadd" {
		t.Errorf("%d tasks, of which 2 is %q", len(pids), pids[2])
	}
	at, err := k.Symbol(t.Context(), "linux_banner")
	if err != nil || len(at) != 1 {
		t.Fatalf("linux_banner: %v, %v", at, err)
	}
	buf, other := make([]byte, 100_000), make([]byte, 100_000)
	if _, err := k.Memory().ReadAt(t.Context(), buf, at[0].Addr); err != nil {
		t.Fatal(err)
	}
	for off := 0; off < len(buf); {
		e := k.Translate(t.Context(), at[0].Addr+remora.Addr(off))
		if e.Err != nil {
			t.Fatal(e.Err)
		}
		in := at[0].Addr + remora.Addr(off) - e.Virt
		n := int(min(e.Size-uint64(in), uint64(len(buf)-off)))
		g.same(t, buf[off:off+n], e.Phys+in)
		off += n
	}
	count := 0
	for _, err := range k.Log(t.Context()) {
		if count++; err != nil {
			t.Error(err)
		}
	}
	if count < 50 {
		t.Errorf("%d lines of the log", count)
	}
	end()
	v, _ := g.open(t, "@virt", nil)
	if n, err := v.Memory().ReadAt(t.Context(), other, at[0].Addr); err != nil || !bytes.Equal(other, buf) {
		t.Errorf("%d bytes at the processor's addresses, %v", n, err)
	}
	if n, err := v.Memory().ReadAt(t.Context(), other, 8); n != 0 || !errors.Is(err, remora.ErrUnmapped) {
		t.Errorf("%d bytes at 8: %v", n, err)
	}
}

// testProcess looks at the guest's first process.
func (g *liveStub) testProcess(t *testing.T) {
	maps := g.at(t).file("/proc/1/maps")
	x, _ := g.open(t, "@1", nil)
	m, _ := remora.As[remora.Mapper](x)
	var got []string
	for r, err := range m.Regions(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%08x-%08x %v %s", uint64(r.Start), uint64(r.Start)+r.Size, r.Perm, r.Name))
	}
	for _, line := range got { // the heap may have grown
		first, _, _ := strings.Cut(line, "-")
		if !strings.Contains("\n"+maps, "\n"+first+"-") {
			t.Errorf("the guest has nothing like %s", line)
		}
	}
	if len(got) < 5 {
		t.Errorf("mappings: %q", got)
	}
}

// testWrite changes the guest's name, and the environment of its first process.
func (g *liveStub) testWrite(t *testing.T) {
	const name, nodename = "behind-a-stub", 65 // struct new_utsname: each name has 65 bytes
	x, end := g.open(t, "", &target.Options{Write: true})
	k := x.(*target.Kernel)
	task, err := k.Task(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	user, err := k.TaskUser(t.Context(), task)
	if err != nil {
		t.Fatal(err)
	}
	at, off := g.names(t, k.Kernel)
	if _, err := k.Memory().WriteAt(t.Context(), append([]byte(name), 0), at+off+nodename); err != nil {
		t.Fatal(err)
	}
	end()
	if got := strings.TrimSpace(g.at(t).file("/proc/sys/kernel/hostname")); got != name {
		t.Errorf("the guest is called %q, want %q", got, name)
	}
	before := g.at(t).file("/proc/1/environ")
	x, end = g.open(t, "@1", &target.Options{Write: true})
	if _, err := x.Memory().WriteAt(t.Context(), []byte("ROME"), user.EnvStart); err != nil {
		t.Fatal(err)
	}
	end()
	if after := g.at(t).file("/proc/1/environ"); len(before) < 4 || after != "ROME"+before[4:] {
		t.Errorf("its environment was %q, and is %q", before, after)
	}
	for _, view := range []string{"", "@phys", "@1", "@virt"} {
		x, end := g.open(t, view, nil)
		if n, err := x.Memory().WriteAt(t.Context(), []byte{1}, user.EnvStart); n != 0 || !errors.Is(err, remora.ErrReadOnly) {
			t.Errorf("%q: %d bytes were written, %v", view, n, err)
		}
		end()
	}
}

// names gives where the names of the system are.
func (g *liveStub) names(t *testing.T, k *kernel.Kernel) (at, off remora.Addr) {
	t.Helper()
	if _, err := k.Tables(t.Context()); err != nil {
		t.Fatal(err)
	}
	symbol, ok := k.VMCoreInfo().Symbol("init_uts_ns")
	n, ok2 := k.VMCoreInfo().Value("OFFSET(uts_namespace.name)")
	if !ok || !ok2 {
		t.Fatal("VMCOREINFO does not have init_uts_ns")
	}
	return symbol, remora.Addr(n)
}

// testState looks what becomes of the guest: one that ran runs on, one that was paused
// stays so where it is known.
func (g *liveStub) testState(t *testing.T) {
	running := func() bool {
		var s struct{ Running bool }
		if err := g.Execute(t.Context(), "query-status", nil, &s); err != nil {
			t.Fatal(err)
		}
		return s.Running
	}
	for _, o := range []*target.Options{nil, {QMP: g.QMP()}} {
		for _, view := range []string{"@phys", "@1", "@9999999"} {
			x, err := target.Open(t.Context(), "gdb:"+g.Stub()+view, o)
			if err == nil {
				if running() {
					t.Errorf("%s: it runs while it is open", view)
				}
				err = x.Close()
			}
			if !running() {
				t.Errorf("%s: it does not run on (%v)", view, err)
			}
		}
	}
	if err := g.Execute(t.Context(), "stop", nil, nil); err != nil {
		t.Fatal(err)
	}
	x, end := g.open(t, "", &target.Options{QMP: g.QMP()})
	if _, err := x.(*target.Kernel).Tables(t.Context()); err != nil {
		t.Error(err)
	}
	if end(); running() {
		t.Error("a guest that was paused runs")
	}
	if err := g.Execute(t.Context(), "cont", nil, nil); err != nil {
		t.Fatal(err)
	}
}
