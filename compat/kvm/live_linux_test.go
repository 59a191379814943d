// SPDX-License-Identifier: Apache-2.0

package kvm

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/compat/errno"
	"github.com/remora-go/remora/internal/vmlab"
)

// guestTest is this package's tests, as a guest has them.
const guestTest = "/bin/kvm.test"

// TestLiveGuest holds what libkvm's functions do with kernels that run against what these
// say of themselves: from outside, and from inside.
func TestLiveGuest(t *testing.T) {
	for _, m := range vmlab.Guests() {
		t.Run(m.String(), func(t *testing.T) {
			a := vmlab.StartAgent(t, m, &vmlab.AgentOptions{Tests: []string{"compat/kvm"}})
			t.Run("inside", func(t *testing.T) { testInside(t, a) })
			t.Run("churn", func(t *testing.T) { testChurn(t, &liveGuest{a, "qemu:" + a.QMP()}) })
			for _, name := range []string{"qemu:" + a.QMP(), "gdb:" + a.Stub()} {
				kind, _, _ := strings.Cut(name, ":")
				t.Run(kind, func(t *testing.T) {
					g := &liveGuest{a, name}
					g.testHostName(t)
					g.testProcesses(t)
					g.testProcess(t)
					g.testReadOnly(t)
				})
			}
			t.Run("end", func(t *testing.T) { testEnd(t, &liveGuest{a, "qemu:" + a.QMP()}) })
		})
	}
}

// testInside runs the tests of the running system where all of them can be: as root, with
// a /proc/kcore. None is skipped.
func testInside(t *testing.T, a *vmlab.Agent) {
	const setting = "/proc/sys/kernel/kptr_restrict"
	if err := a.WriteFile(t.Context(), setting, []byte("1")); err != nil {
		t.Fatal(err)
	}
	b, err := a.ReadFile(t.Context(), "/proc/kallsyms")
	if err != nil {
		t.Fatal(err)
	}
	stext := ""
	for line := range strings.Lines(string(b)) {
		if at, ok := strings.CutSuffix(line, " T _stext\n"); ok {
			stext = "_stext is at 0x" + at
		}
	}
	g := &insideGuest{a, setting}
	out := g.run(t, "1", "Live|Example_live") // addresses are shown to root
	g.wants(t, out, "--- PASS: TestR96LiveKernelOfTheRunningSystem", "--- PASS: TestR96LiveVmalloc", "areas are as they should be",
		"--- PASS: TestR99LiveProcessMemory", "--- PASS: Example_live", `the kernel: "Linux version", <nil>`,
		"the kernel is read", "CONFIG_STRICT_DEVMEM", stext)
	out = g.run(t, "2", "TestR91Live|TestR96Live") // and to nobody
	g.wants(t, out, "the kernel is read", "where areas are is hidden", stext)
}

// insideGuest runs the tests in a guest.
type insideGuest struct {
	*vmlab.Agent
	setting string
}

// run gives what the tests print. None may be skipped.
func (g *insideGuest) run(t *testing.T, restrict, tests string) string {
	t.Helper()
	if err := g.WriteFile(t.Context(), g.setting, []byte(restrict)); err != nil {
		t.Fatal(err)
	}
	r, err := g.RunIn(t.Context(), []string{"REMORA_REQUIRE=all"}, guestTest, "-test.v", "-test.run", tests, "-test.skip", "TestLiveGuest")
	if err != nil {
		t.Fatal(err)
	}
	if r.Exit != 0 || strings.Contains(r.Stdout, "SKIP") {
		t.Errorf("exit %d:\n%s%s", r.Exit, r.Stdout, r.Stderr)
	}
	return r.Stdout + r.Stderr
}

func (g *insideGuest) wants(t *testing.T, out string, texts ...string) {
	t.Helper()
	for _, want := range texts {
		if want == "" || !strings.Contains(out, want) {
			t.Errorf("the tests do not say %q:\n%s", want, out)
		}
	}
}

// liveGuest is a guest by one of its names.
type liveGuest struct {
	*vmlab.Agent
	name string
}

// with opens the guest for as long as use takes: behind a stub it stands still meanwhile.
func (g *liveGuest) with(t *testing.T, flag int, use func(h *Handle)) {
	t.Helper()
	h, err := Open("", g.name, "", flag, "")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	}()
	use(h)
}

// hostName gives where the guest has the name of its host.
func hostName(t *testing.T, h *Handle) remora.Addr {
	t.Helper()
	const nodename = 65 // in struct new_utsname, behind the sysname
	list := []Nlist{{Name: "init_uts_ns"}}
	if n, err := h.NList(t.Context(), list); n != 0 || err != nil {
		t.Fatal(n, err)
	}
	b := make([]byte, 64)
	n, err := h.KRead(t.Context(), b, list[0].Value)
	wantAll(t, n, err, len(b))
	at := bytes.Index(b, []byte("Linux\x00"))
	if at < 0 {
		t.Fatalf("%q", b)
	}
	return list[0].Value + remora.Addr(at) + nodename
}

// testHostName changes the name of the guest's host by its virtual and its physical
// address, and asks the guest.
func (g *liveGuest) testHostName(t *testing.T) {
	const file = "/proc/sys/kernel/hostname"
	if err := g.WriteFile(t.Context(), file, []byte("before")); err != nil {
		t.Fatal(err)
	}
	was := []byte("before\x00")
	for _, physical := range []bool{false, true} {
		now := fmt.Appendf(nil, "by-%t\x00", physical)
		g.with(t, os.O_RDWR, func(h *Handle) {
			at := hostName(t, h)
			pa, err := h.PhysAddr(t.Context(), KernelAS(), at)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range []struct {
				read transfer
				a    remora.Addr
			}{{h.KRead, at}, {h.PRead, pa}} {
				b := make([]byte, len(was))
				n, err := c.read(t.Context(), b, c.a)
				wantAll(t, n, err, len(b))
				if !bytes.Equal(b, was) {
					t.Errorf("%q, want %q", b, was)
				}
			}
			write, a := h.KWrite, at
			if physical {
				write, a = h.PWrite, pa
			}
			n, err := write(t.Context(), now, a)
			wantAll(t, n, err, len(now))
		})
		b, err := g.ReadFile(t.Context(), file)
		if want := string(now[:len(now)-1]) + "\n"; err != nil || string(b) != want {
			t.Errorf("the guest says that it is %q, want %q (%v)", b, want, err)
		}
		was = now
	}
}

// testProcesses goes over all processes: those are there that the guest has before and
// after, with the same arguments.
func (g *liveGuest) testProcesses(t *testing.T) {
	read := func(pid int, name string) []byte {
		b, err := g.ReadFile(t.Context(), fmt.Sprintf("/proc/%d/%s", pid, name))
		if err != nil {
			return nil
		}
		return b
	}
	type one struct {
		Proc
		argv []string
	}
	var got []one
	g.with(t, os.O_RDONLY, func(h *Handle) {
		for {
			p, err := h.NextProc(t.Context())
			if err == io.EOF {
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			argv, _, err := h.GetCmd(t.Context(), p, h.GetU(p))
			if err != nil && !p.System && p.State != 'Z' {
				t.Errorf("%d %q: %v", p.PID, p.Command, err)
			}
			got = append(got, one{*p, argv})
		}
	})
	same := 0
	for _, p := range got {
		b := read(p.PID, "stat")
		if b == nil {
			continue // it has ended
		}
		want, err := parseStat("stat", b)
		if err != nil {
			t.Fatal(err)
		}
		if p.System && strings.HasPrefix(want.Command, p.Command) {
			want.Command = p.Command // the guest adds what a worker does
		}
		if !p.same(want) || p.PGID != want.PGID || p.SID != want.SID || p.Command != want.Command || p.PPID != want.PPID || p.System != want.System || p.User != want.User && !p.System {
			t.Errorf("%+v, want %+v", p.Proc, want)
		}
		if cmdline := read(p.PID, "cmdline"); len(cmdline) > 0 && !slices.Equal(p.argv, split(cmdline)) {
			t.Errorf("%d: %q, want %q", p.PID, p.argv, split(cmdline))
		}
		same++
	}
	t.Logf("%d processes", same)
	if same < 20 || got[0].PID != 1 {
		t.Errorf("%d processes, of %d", same, len(got))
	}
}

// shows starts the job "show" in the guest, and gives where its text is.
func (g *liveGuest) shows(t *testing.T, text string) (*vmlab.Started, remora.Addr) {
	t.Helper()
	s, err := g.Start(t.Context(), guestTest, showName, text)
	if err != nil {
		t.Fatal(err)
	}
	line := awaitLine(t, s, 0)
	at, err := strconv.ParseUint(line, 0, 64)
	if err != nil {
		t.Fatal(line, err)
	}
	return s, remora.Addr(at)
}

// awaitLine waits until a program has printed its line of a number, counted from 0.
func awaitLine(t *testing.T, s *vmlab.Started, number int) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		r, err := s.Output(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if lines := strings.SplitAfter(r.Stdout, "\n"); len(lines) > number+1 {
			return strings.TrimSuffix(lines[number], "\n")
		}
	}
}

// testProcess changes the memory of a process, which prints it; then the process begins
// another program, and then it ends.
func (g *liveGuest) testProcess(t *testing.T) {
	const was, now = "as it was made", "as it was left"
	s, at := g.shows(t, was)
	var p *Proc
	g.with(t, os.O_RDWR, func(h *Handle) {
		p = getProc(t, h, s.PID)
		if argv, envp, err := h.GetCmd(t.Context(), p, nil); err != nil || !slices.Equal(argv, []string{guestTest, showName, was}) || !slices.Contains(envp, "PATH=/bin") {
			t.Errorf("%q, %q, %v", argv, envp, err)
		}
		b := make([]byte, len(was))
		for _, read := range []transfer{h.URead, func(ctx context.Context, b []byte, a remora.Addr) (int, error) { return h.ARead(ctx, p.AS(), b, a) }} {
			n, err := read(t.Context(), b, at)
			wantAll(t, n, err, len(b))
			if string(b) != was {
				t.Errorf("%q", b)
			}
		}
		pa, err := h.PhysAddr(t.Context(), p.AS(), at)
		if err != nil {
			t.Fatal(err)
		}
		n, err := h.PRead(t.Context(), b, pa)
		wantAll(t, n, err, len(b))
		if string(b) != was {
			t.Errorf("%q at physical %v", b, pa)
		}
		n, err = h.URead(t.Context(), b, 0x10)
		wantShort(t, n, err, 0, 0x10, remora.ErrUnmapped)
		n, err = h.UWrite(t.Context(), b, 0x10)
		wantFailed(t, n, err, errno.EIO, remora.ErrUnmapped)
		n, err = h.UWrite(t.Context(), []byte(now[:6]), at)
		wantAll(t, n, err, 6)
		n, err = h.AWrite(t.Context(), p.AS(), []byte(now[6:]), at+6)
		wantAll(t, n, err, len(now)-6)
	})
	if err := s.Tell(t.Context(), "show\n"); err != nil {
		t.Fatal(err)
	}
	if line := awaitLine(t, s, 1); line != now {
		t.Errorf("the process says %q, want %q", line, now)
	}
	g.testGone(t, s, p, at)
}

// testReadOnly: a handle that only reads refuses, and so does one that keeps what is
// written in memory leave the guest alone.
func (g *liveGuest) testReadOnly(t *testing.T) {
	const file = "/proc/sys/kernel/hostname"
	was, err := g.ReadFile(t.Context(), file)
	if err != nil {
		t.Fatal(err)
	}
	g.with(t, os.O_RDONLY, func(h *Handle) {
		at := hostName(t, h)
		h.GetU(getProc(t, h, 1))
		for _, write := range []transfer{h.KWrite, h.Write, h.PWrite, h.UWrite} {
			n, err := write(t.Context(), []byte("other"), at)
			wantFailed(t, n, err, errno.EBADF, remora.ErrReadOnly)
		}
	})
	h, err := OpenWith(t.Context(), &Options{Overlay: true}, "", g.name, "", os.O_RDWR, "")
	if err != nil {
		t.Fatal(err)
	}
	at := hostName(t, h)
	n, err := h.KWrite(t.Context(), []byte("other"), at)
	wantAll(t, n, err, 5)
	b := make([]byte, 5)
	n, err = h.KRead(t.Context(), b, at)
	wantAll(t, n, err, 5)
	if string(b) != "other" {
		t.Errorf("%q", b)
	}
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	if now, err := g.ReadFile(t.Context(), file); err != nil || !bytes.Equal(now, was) {
		t.Errorf("%q, want %q (%v)", now, was, err)
	}
}
