// SPDX-License-Identifier: Apache-2.0

package kvm

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/compat/errno"
	"github.com/remora-go/remora/internal/vmlab"
)

// testChurn goes over the processes of a guest while more come and go: what is read of one
// is its own.
func testChurn(t *testing.T, g *liveGuest) {
	var all []*vmlab.Started
	for range 2 {
		s, err := g.Start(t.Context(), guestTest, churnName)
		if err != nil {
			t.Fatal(err)
		}
		awaitLine(t, s, 0)
		all = append(all, s)
	}
	seen, gone := map[string]bool{}, 0
	g.with(t, os.O_RDONLY, func(h *Handle) {
		for walks := 0; walks < 1000 && len(seen) < 20; walks++ {
			for {
				p, err := h.NextProc(t.Context())
				if err == io.EOF {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				if p.System || p.PID <= all[1].PID {
					continue
				}
				argv, envp, err := h.GetCmd(t.Context(), p, nil)
				switch {
				case errors.Is(err, remora.ErrGone), errors.Is(err, errno.EAGAIN), err != nil && changed(t, h, p):
					gone++ // or another program now, or not yet one
				case err != nil:
					t.Errorf("%+v: %v", p, err)
				case len(argv) == 2 && argv[0] == waitName:
					seen[argv[1]] = true
					if len(envp) != 1 || envp[0] != "NUMBER="+argv[1] {
						t.Errorf("%+v: %q, %q", p, argv, envp)
					}
				case !slices.Equal(argv, []string{guestTest, churnName}): // not yet another program
					t.Errorf("%+v: %q, %q", p, argv, envp)
				}
			}
			h.SetProc()
		}
	})
	t.Logf("%d processes were seen whole, and %d were gone meanwhile", len(seen), gone)
	if len(seen) < 20 {
		t.Error("too few to say anything")
	}
	for _, s := range all {
		if r, err := s.End(t.Context()); err != nil || r.Stderr != "" {
			t.Errorf("%+v, %v", r, err)
		}
	}
}

// changed says whether a process that could not be read is in the midst of an execve: it does
// not know yet where its arguments are, or knows of another place by now.
func changed(t *testing.T, h *Handle, p *Proc) bool {
	if p.User.ArgStart == 0 || p.User.EnvStart == 0 {
		return true
	}
	now, err := h.img.(Refresher).Refresh(t.Context(), p)
	return errors.Is(err, remora.ErrGone) || err == nil && now.User != p.User
}

// testGone has the process of a handle begin another program and end. Behind a stub nothing
// happens while a handle is open.
func (g *liveGuest) testGone(t *testing.T, s *vmlab.Started, p *Proc, at remora.Addr) {
	if strings.HasPrefix(g.name, "gdb:") {
		if _, err := s.End(t.Context()); err != nil {
			t.Fatal(err)
		}
		g.with(t, os.O_RDWR, func(h *Handle) { wantGone(t, h, p, at) })
		return
	}
	g.with(t, os.O_RDWR, func(h *Handle) {
		h.GetU(p)
		b := make([]byte, 4)
		n, err := h.URead(t.Context(), b, at)
		wantAll(t, n, err, len(b))
		if err := s.Tell(t.Context(), "exec\n"); err != nil {
			t.Fatal(err)
		}
		// The other program is followed, and its memory is another one.
		line := awaitLine(t, s, 2)
		there, err := strconv.ParseUint(line, 0, 64)
		if err != nil {
			t.Fatal(line, err)
		}
		n, err = h.URead(t.Context(), b, remora.Addr(there))
		wantAll(t, n, err, len(b))
		if string(b) != "exec" {
			t.Errorf("%q", b)
		}
		if _, err := s.End(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantGone(t, h, p, at)
	})
}

// wantGone checks that a process that has ended is not there, and none in its place.
func wantGone(t *testing.T, h *Handle, p *Proc, at remora.Addr) {
	t.Helper()
	h.GetU(p)
	for _, call := range []transfer{h.URead, h.UWrite} {
		n, err := call(t.Context(), make([]byte, 4), at)
		wantFailed(t, n, err, errno.ENOENT, remora.ErrGone)
	}
	_, _, err := h.GetCmd(t.Context(), p, nil)
	wantError(t, err, errno.ENOENT, remora.ErrGone)
	_, err = h.GetProc(t.Context(), p.PID)
	wantError(t, err, errno.ESRCH, fs.ErrNotExist)
}

// testEnd ends QEMU: each call says that the guest is gone, and none that a list has ended.
func testEnd(t *testing.T, g *liveGuest) {
	h, err := Open("", g.name, "", os.O_RDWR, "")
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	at := hostName(t, h)
	p := getProc(t, h, 1)
	pa, err := h.PhysAddr(t.Context(), KernelAS(), at)
	if err != nil {
		t.Fatal(err)
	}
	qemu, err := os.FindProcess(g.PID())
	if err != nil {
		t.Fatal(err)
	}
	if err := qemu.Kill(); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 8)
	for n := 0; n != -1; { // until its end is noticed what memory had may be read
		if n, err = h.PRead(t.Context(), b, pa); n != -1 && n != len(b) {
			t.Fatal(n, err)
		}
	}
	wantError(t, err, errno.ENOENT, remora.ErrGone)
	for _, c := range []struct {
		call transfer
		a    remora.Addr
	}{{h.KRead, at}, {h.KWrite, at}, {h.PRead, pa}, {h.PWrite, pa}, {h.URead, p.User.ArgStart}, {h.UWrite, p.User.ArgStart}} {
		n, err := c.call(t.Context(), b, c.a)
		wantFailed(t, n, err, errno.ENOENT, remora.ErrGone)
	}
	if p, err := h.NextProc(t.Context()); p != nil || !errors.Is(err, remora.ErrGone) {
		t.Errorf("%+v, %v", p, err)
	}
	if _, err := h.GetProc(t.Context(), 1); !errors.Is(err, remora.ErrGone) {
		t.Error(err)
	}
	if _, _, err := h.GetCmd(t.Context(), p, nil); !errors.Is(err, remora.ErrGone) {
		t.Error(err)
	}
}
