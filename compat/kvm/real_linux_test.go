// SPDX-License-Identifier: Apache-2.0

//go:build linux

package kvm

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/compat/errno"
	"github.com/remora-go/remora/internal/vmlab"
	"github.com/remora-go/remora/internal/vmlab/witness"
)

// TestRealKVM holds what libkvm's functions say of images of real kernels against what
// the guests said of themselves.
func TestRealKVM(t *testing.T) {
	for _, machine := range vmlab.Machines() {
		t.Run(machine.String(), func(t *testing.T) {
			lab := vmlab.Open(t, machine)
			h := openReal(t, lab, os.O_RDONLY)
			testRealNames(t, h, lab)
			testRealProcesses(t, h, lab)
			testRealWitness(t, h, lab)
		})
	}
}

// A swap file of another machine is not passed over in silence.
func TestRealR88SwapFileOfAnotherMachine(t *testing.T) {
	lab := vmlab.Open(t, vmlab.Machines()[0])
	other := writeFile(t, "swap", strings.Repeat("no swap area", 1<<10))
	h, err := Open("", lab.Dump(vmlab.ELF), other, os.O_RDONLY, "")
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	p, err := h.GetProc(t.Context(), lab.Truth().Witness(witness.RoleMain).Pid)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err = h.GetCmd(t.Context(), p, nil); !errors.Is(err, remora.ErrUnrecognized) || !strings.Contains(err.Error(), other) {
		t.Error(err)
	}
	if n, err := h.URead(t.Context(), make([]byte, 8), remora.Addr(witness.Base)); n != -1 || !errors.Is(err, remora.ErrUnrecognized) {
		t.Error(n, err)
	}
}

func openReal(t *testing.T, lab *vmlab.Lab, flag int) *Handle {
	t.Helper()
	h, err := Open("", lab.Dump(vmlab.ELF), lab.Dump(vmlab.Swap), flag, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

// testRealNames looks up symbols, and reads what the kernel says of itself by three ways.
func testRealNames(t *testing.T, h *Handle, lab *vmlab.Lab) {
	t.Helper()
	want := map[string][]vmlab.Symbol{}
	for _, s := range lab.Truth().Symbols() {
		want[s.Name] = append(want[s.Name], s)
	}
	list := []Nlist{{Name: "_stext"}, {Name: "no_symbol_has_this_name"}, {Name: "vfs_read"}, {Name: "linux_banner"}, {Name: ""}, {Name: "_text"}}
	missing, err := h.NList(t.Context(), list)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range list[:4] {
		if all := want[n.Name]; len(all) == 0 {
			missing--
		} else if n.Value != remora.Addr(all[0].Addr) || n.Type != all[0].Type {
			t.Errorf("%+v, and the guest has %+v", n, all)
		}
	}
	if missing != 0 || list[5].Value != 0 {
		t.Errorf("%d symbols too many are missing: %+v", missing, list)
	}
	at := list[3].Value
	if at == 0 {
		return // this kernel has functions alone
	}
	version := lab.Truth().File("proc/version")
	banner, phys := make([]byte, 64), make([]byte, 64)
	n, err := h.KRead(t.Context(), banner, at)
	if n != len(banner) || err != nil || !bytes.HasPrefix(version, banner) {
		t.Errorf("%d, %v: %q, want %q", n, err, banner, version)
	}
	pa, err := h.PhysAddr(t.Context(), KernelAS(), at)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := h.PRead(t.Context(), phys, pa); n != len(phys) || err != nil || !bytes.Equal(phys, banner) {
		t.Errorf("%d, %v: %q at physical %v", n, err, phys, pa)
	}
	if n, err := h.ARead(t.Context(), KernelAS(), phys, at); n != len(phys) || err != nil || !bytes.Equal(phys, banner) {
		t.Errorf("%d, %v: %q", n, err, phys)
	}
	wantFailedWrite(t, h, at)
}

// wantFailedWrite wants a handle that only reads to refuse.
func wantFailedWrite(t *testing.T, h *Handle, a remora.Addr) {
	t.Helper()
	if n, err := h.KWrite(t.Context(), []byte("x"), a); n != -1 || err == nil {
		t.Errorf("a write through O_RDONLY: %d, %v", n, err)
	}
}

// testRealProcesses goes over all processes.
func testRealProcesses(t *testing.T, h *Handle, lab *vmlab.Lab) {
	t.Helper()
	truth := lab.Truth()
	seen := map[int]bool{}
	vectors := 0
	for {
		p, err := h.NextProc(t.Context())
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		seen[p.PID] = true
		b := truth.File("proc/%d/stat", p.PID)
		if b == nil {
			continue // it began later
		}
		want, err := parseStat("stat", b)
		if err != nil {
			t.Fatal(err)
		}
		got := *p
		got.State, want.State = 0, 0 // the guest's is of another moment
		if !p.System {
			if got.User != want.User {
				t.Errorf("pid %d: %+v, want %+v", p.PID, got.User, want.User)
			}
		}
		got.User, want.User = User{}, User{}
		if p.System && strings.HasPrefix(want.Command, got.Command) {
			got.Command = want.Command // the guest adds what a worker does
		}
		if d := cmp.Diff(*want, got); d != "" {
			t.Errorf("pid %d: %s", p.PID, d)
		}
		vectors += testRealCommand(t, h, p, truth)
	}
	for name := range truth.Files {
		rest, ok := strings.CutPrefix(name, "proc/")
		digits, file, _ := strings.Cut(rest, "/")
		if pid, err := strconv.Atoi(digits); ok && err == nil && file == "stat" && !seen[pid] {
			t.Errorf("pid %d is not in the image", pid)
		}
	}
	if len(seen) < 20 || vectors < 2 {
		t.Errorf("%d processes, %d with arguments", len(seen), vectors)
	}
	t.Logf("%d processes, %d with arguments", len(seen), vectors)
}

func testRealCommand(t *testing.T, h *Handle, p *Proc, truth *vmlab.Truth) int {
	t.Helper()
	argv, envp, err := h.GetCmd(t.Context(), p, h.GetU(p))
	cmdline := truth.File("proc/%d/cmdline", p.PID)
	if p.System || len(cmdline) == 0 {
		if err == nil && len(argv) != 0 {
			t.Errorf("pid %d: %q", p.PID, argv)
		}
		return 0
	}
	if err != nil {
		t.Errorf("pid %d: %v", p.PID, err)
		return 0
	}
	if want := split(cmdline); !slices.Equal(argv, want) {
		t.Errorf("pid %d: %q, want %q", p.PID, argv, want)
	}
	if env := truth.File("proc/%d/environ", p.PID); env != nil && !slices.Equal(envp, split(env)) {
		t.Errorf("pid %d: %q, want %q", p.PID, envp, split(env))
	}
	return 1
}

// testRealWitness reads the memory of a process.
func testRealWitness(t *testing.T, h *Handle, lab *vmlab.Lab) {
	t.Helper()
	w := lab.Truth().Witness(witness.RoleMain)
	p, err := h.GetProc(t.Context(), w.Pid)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []*Proc{p} {
		b := make([]byte, 16)
		n, err := h.URead(t.Context(), b, witness.Base)
		if n != len(b) || err != nil {
			t.Fatalf("%d, %v", n, err)
		}
		again := make([]byte, len(b))
		if n, err := h.ARead(t.Context(), want.AS(), again, witness.Base); n != len(b) || err != nil || !bytes.Equal(b, again) {
			t.Errorf("%d, %v: %x, want %x", n, err, again, b)
		}
		pa, err := h.PhysAddr(t.Context(), want.AS(), witness.Base)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := h.PRead(t.Context(), again, pa); n != len(b) || err != nil || !bytes.Equal(b, again) {
			t.Errorf("%d, %v: %x, want %x", n, err, again, b)
		}
		if n, err := h.URead(t.Context(), b, 0x10); n != -1 || err == nil {
			t.Errorf("where nothing is mapped: %d, %v", n, err)
		}
	}
	if _, err := h.GetProc(t.Context(), 1<<22+1); err == nil {
		t.Error("there is a process that is not there")
	}
}

// TestRealKVMFiltered goes over an image of a crash without the memory of processes: they are
// all there, and their memory was not saved.
func TestRealKVMFiltered(t *testing.T) {
	lab := vmlab.OpenCrash(t, vmlab.Crashes()[0])
	whole, small := openDump(t, lab.Dump(vmlab.Vmcore), os.O_RDONLY, nil), openDump(t, lab.Dump(vmlab.MakedumpfileZlib31), os.O_RDONLY, nil)
	n := 0
	for {
		want, end := whole.NextProc(t.Context())
		p, err := small.NextProc(t.Context())
		if end == io.EOF && err == io.EOF {
			break
		}
		if end != nil || err != nil {
			t.Fatal(end, err)
		}
		if *p != *want {
			t.Errorf("%+v, want %+v", p, want)
		}
		argv, _, end := whole.GetCmd(t.Context(), want, nil)
		if end != nil || len(argv) == 0 {
			continue
		}
		n++
		_, _, err = small.GetCmd(t.Context(), p, nil)
		wantError(t, err, errno.EFAULT, remora.ErrNotSaved)
		if got, err := small.URead(t.Context(), make([]byte, 8), p.User.ArgStart); got != -1 {
			t.Errorf("pid %d: %d, %v", p.PID, got, err)
		}
	}
	if n < 2 {
		t.Errorf("%d processes with arguments", n)
	}
}

// TestRealKVMWrite changes bytes of a kernel and of a process in an image of a real one,
// and compares the whole file.
func TestRealKVMWrite(t *testing.T) {
	lab := vmlab.Open(t, vmlab.Machines()[0])
	want, err := os.ReadFile(lab.Dump(vmlab.ELF))
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "vmcore")
	if err := os.WriteFile(name, want, 0o600); err != nil {
		t.Fatal(err)
	}
	h := openDump(t, name, os.O_RDWR, nil)
	list := []Nlist{{Name: "linux_banner"}}
	if missing, err := h.NList(t.Context(), list); missing != 0 || err != nil {
		t.Fatal(missing, err)
	}
	banner := []byte(strings.TrimSuffix(string(lab.Truth().File("proc/version")), "\n"))
	n, err := h.KWrite(t.Context(), []byte("Remora"), list[0].Value)
	wantAll(t, n, err, 6)
	pid := lab.Truth().Witness(witness.RoleMain).Pid
	if _, err := h.GetProc(t.Context(), pid); err != nil {
		t.Fatal(err)
	}
	page := make([]byte, 64)
	n, err = h.URead(t.Context(), page, witness.Base)
	wantAll(t, n, err, len(page))
	n, err = h.UWrite(t.Context(), []byte("changed"), witness.Base+8)
	wantAll(t, n, err, 7)
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(name)
	if err != nil || len(got) != len(want) {
		t.Fatalf("%d bytes, want %d, %v", len(got), len(want), err)
	}
	var runs [][2]int // what differs, from and to
	for i := range got {
		if n := len(runs); got[i] == want[i] {
			continue
		} else if n > 0 && runs[n-1][1] == i {
			runs[n-1][1]++
		} else {
			runs = append(runs, [2]int{i, i + 1})
		}
	}
	seen := map[string]int{}
	for _, r := range runs {
		seen[string(got[r[0]:r[1]])]++
		if !bytes.HasPrefix(want[r[0]:], banner) && !bytes.HasPrefix(want[r[0]-8:], page) {
			t.Errorf("the file has %q at 0x%x instead of %q", got[r[0]:r[1]], r[0], want[r[0]:r[1]])
		}
	}
	if len(runs) != 2 || seen["Remora"] != 1 || seen["changed"] != 1 {
		t.Errorf("what differs: %v %v", runs, seen)
	}
}
