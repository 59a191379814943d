// SPDX-License-Identifier: Apache-2.0

package kvm

import (
	"context"
	"errors"

	"slices"
	"strings"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/compat/errno"
)

// lay puts text at a, and gives the range.
func lay(t *testing.T, f *fake, pid int, a remora.Addr, text string) (start, end remora.Addr) {
	t.Helper()
	if err := f.users[pid].Poke([]byte(text), a); err != nil {
		t.Fatal(err)
	}
	return a, a + remora.Addr(len(text))
}

func TestR104GetCmd(t *testing.T) {
	for _, c := range []struct {
		name, args, env string
		between         string // between arguments and environment
		argv, envp      []string
	}{
		{"plain", "prog\x00-x\x00", "A=1\x00B=2\x00", "", []string{"prog", "-x"}, []string{"A=1", "B=2"}},
		{"empty strings", "prog\x00\x00\x00", "\x00A=\x00", "", []string{"prog", "", ""}, []string{"", "A="}},
		{"no arguments", "", "A=1\x00", "", nil, []string{"A=1"}},
		{"no environment", "prog\x00", "", "", []string{"prog"}, nil},
		{"environment without an end", "prog\x00", "A=1\x00B=2", "", []string{"prog"}, []string{"A=1", "B=2"}},
		{"title", "worker: idle for long", "rest\x00B=2\x00", "", []string{"worker: idle for longrest"}, []string{"rest", "B=2"}},
		{"title that ends within", "idle\x00dirt", "A=1\x00", "", []string{"idle"}, []string{"A=1"}},
		{"title apart from the environment", "worker: idle", "A=1\x00", "--", []string{"worker: idle"}, []string{"A=1"}},
		{"empty title", "\x00dirt", "A=1\x00", "", []string{""}, []string{"A=1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, f := openProcs(t, 3, 5)
			p := f.procs[1]
			p.User.ArgStart, p.User.ArgEnd = lay(t, f, 5, 0x10100, c.args)
			_, after := lay(t, f, 5, p.User.ArgEnd, c.between)
			p.User.EnvStart, p.User.EnvEnd = lay(t, f, 5, after, c.env)
			p, err := h.GetProc(t.Context(), 5)
			if err != nil {
				t.Fatal(err)
			}
			for _, u := range []*User{nil, h.GetU(p)} {
				argv, envp, err := h.GetCmd(t.Context(), p, u)
				if err != nil || !slices.Equal(argv, c.argv) || !slices.Equal(envp, c.envp) {
					t.Errorf("%q, %q, %v: want %q and %q", argv, envp, err, c.argv, c.envp)
				}
			}
		})
	}
}

// TestR104GetCmdOfAnother: it is the process that was asked for, whichever is current.
func TestR104GetCmdOfAnother(t *testing.T) {
	h, f := openProcs(t, 3, 5)
	for i, name := range []string{"three\x00", "five\x00"} {
		u := &f.procs[i].User
		u.ArgStart, u.ArgEnd = lay(t, f, f.procs[i].PID, 0x10100, name)
		u.EnvStart, u.EnvEnd = u.ArgEnd, u.ArgEnd
	}
	three := wantNext(t, h, 3)
	wantNext(t, h, 5)
	if argv, _, err := h.GetCmd(t.Context(), three, nil); err != nil || !slices.Equal(argv, []string{"three"}) {
		t.Errorf("%q, %v", argv, err)
	}
	wantCurrent(t, h, 5)
}

func TestR104GetCmdFails(t *testing.T) {
	h, f := openProcs(t, 3)
	good := User{ArgStart: 0x10100, ArgEnd: 0x10200, EnvStart: 0x10200, EnvEnd: 0x10300}
	for _, c := range []struct {
		name   string
		p      Proc
		number errno.Errno
		is     error
	}{
		{"system process", Proc{PID: 3, Start: 3000, System: true, User: good}, errno.EIO, remora.ErrUnmapped},
		{"no argv", Proc{PID: 3, Start: 3000, User: User{EnvStart: 0x10200, EnvEnd: 0x10300}}, errno.EFAULT, errno.EFAULT},
		{"no envp", Proc{PID: 3, Start: 3000, User: User{ArgStart: 0x10200, ArgEnd: 0x10300}}, errno.EFAULT, errno.EFAULT},
		{"argv into a hole", Proc{PID: 3, Start: 3000, User: User{0x11f00, 0x12100, 0x10200, 0x10300}}, errno.EFAULT, remora.ErrUnmapped},
		{"envp into a hole", Proc{PID: 3, Start: 3000, User: User{0x10100, 0x10200, 0x11f00, 0x12100}}, errno.EFAULT, remora.ErrUnmapped},
		{"too long", Proc{PID: 3, Start: 3000, User: User{0x10100, 0x10100 + maxCommand + 1, 0x10200, 0x10300}}, errno.EOVERFLOW, errno.EOVERFLOW},
		{"gone", Proc{PID: 4, User: good}, errno.ENOENT, remora.ErrGone},
	} {
		argv, envp, err := h.GetCmd(t.Context(), &c.p, nil)
		if argv != nil || envp != nil {
			t.Errorf("%s: %q, %q", c.name, argv, envp)
		}
		t.Log(c.name, err)
		wantError(t, err, c.number, c.is)
	}
	_, _, err := h.GetCmd(t.Context(), nil, nil)
	wantError(t, err, errno.EINVAL, errno.EINVAL)
	if f.opened != f.closed {
		t.Errorf("%d spaces opened, %d closed", f.opened, f.closed)
	}
}

// moving is an image whose processes change.
type moving struct {
	*fake
	now Proc
	err error
}

func (m *moving) Refresh(_ context.Context, _ *Proc) (*Proc, error) { return &m.now, m.err }

// TestGetCmdOfAProcessThatMoved: what was read is nobody's arguments when another
// program began meanwhile.
func TestGetCmdOfAProcessThatMoved(t *testing.T) {
	_, f := openProcs(t, 3)
	p := f.procs[0]
	p.User.ArgStart, p.User.ArgEnd = lay(t, f, 3, 0x10100, "three\x00")
	p.User.EnvStart, p.User.EnvEnd = p.User.ArgEnd, p.User.ArgEnd
	m := &moving{fake: f, now: *p}
	h := New(m, false)
	if argv, _, err := h.GetCmd(t.Context(), p, nil); err != nil || strings.Join(argv, " ") != "three" {
		t.Errorf("%q, %v", argv, err)
	}
	m.now.User.ArgStart++
	_, _, err := h.GetCmd(t.Context(), p, nil)
	wantError(t, err, errno.EAGAIN, errno.EAGAIN)
	m.err = errors.Join(remora.ErrGone)
	_, _, err = h.GetCmd(t.Context(), p, nil)
	wantError(t, err, errno.ENOENT, remora.ErrGone)
}
