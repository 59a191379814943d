// SPDX-License-Identifier: Apache-2.0

package kvm

import (
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/remora-go/remora/internal/specimen/specimentest"
)

// wantCommand compares GetCmd with /proc.
func wantCommand(t *testing.T, h *Handle, pid int) (argv, envp []string) {
	t.Helper()
	p := getProc(t, h, pid)
	argv, envp, err := h.GetCmd(t.Context(), p, h.GetU(p))
	if err != nil {
		t.Fatal(err)
	}
	cmdline, err := procStrings(t, pid, "cmdline")
	if err != nil {
		t.Fatal(err)
	}
	environ, err := procStrings(t, pid, "environ")
	if err != nil {
		t.Fatal(err)
	}
	if !cmp.Equal(argv, cmdline) || !cmp.Equal(envp, environ) {
		t.Errorf("pid %d: %s%s", pid, cmp.Diff(cmdline, argv), cmp.Diff(environ, envp))
	}
	return argv, envp
}

func TestR104LiveGetCmdIsProc(t *testing.T) {
	h := openRunningSystem(t, nil, os.O_RDWR)
	wantCommand(t, h, os.Getpid())
	wantCommand(t, h, specimentest.Start(t, nil).Pid())
	for _, c := range []struct{ args, env []string }{
		{nil, nil},
		{[]string{"a b", "", "\xff\xfe", "--x=y", ""}, []string{"A=1", "B=", "C", "=odd", "A=2"}},
		{[]string{"", ""}, []string{"", ""}},
		{[]string{strings.Repeat("long ", 10000)}, []string{"LONG=" + strings.Repeat("x", 100000)}},
	} {
		pid := startWaiting(t, c.args, c.env)
		argv, _ := wantCommand(t, h, pid)
		if !slices.Equal(argv[1:], c.args) {
			t.Errorf("%q, want %q", argv[1:], c.args)
		}
	}
}

// TestR104LiveGetCmdOfATitle: a process that has written over its arguments, within them,
// into the environment, and beyond a page.
func TestR104LiveGetCmdOfATitle(t *testing.T) {
	h := openRunningSystem(t, nil, os.O_RDWR)
	long := []string{strings.Repeat("y", 6000)}
	for _, c := range []struct {
		name  string
		args  []string
		title func(u *User) string
	}{
		{"within", nil, func(u *User) string { return "\x00" + strings.Repeat("t", int(u.ArgEnd-u.ArgStart)-1) }},
		{"into the environment", nil, func(u *User) string { return strings.Repeat("t", int(u.ArgEnd-u.ArgStart)+3) + "\x00" }},
		{"all of it", nil, func(u *User) string { return strings.Repeat("t", int(u.EnvEnd-u.ArgStart)) }},
		{"more than a page", long, func(u *User) string { return strings.Repeat("t", int(u.ArgEnd-u.ArgStart)+10) + "\x00" }},
		{"NUL at the end alone", nil, func(u *User) string { return strings.Repeat("t", int(u.ArgEnd-u.ArgStart)-1) + "\x00" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			pid := startWaiting(t, c.args, []string{"SOME=thing", "OTHER=thing"})
			p := getProc(t, h, pid)
			n, err := h.UWrite(t.Context(), []byte(c.title(&p.User)), p.User.ArgStart)
			if err != nil {
				t.Fatal(n, err)
			}
			if argv, _ := wantCommand(t, h, pid); len(argv) != 1 {
				t.Errorf("%d strings, want one title", len(argv))
			}
		})
	}
}

// TestR104LiveGetCmdOfAll: every process that is there and may be read, unless it changes
// meanwhile.
func TestR104LiveGetCmdOfAll(t *testing.T) {
	specimentest.Start(t, nil)
	h := openRunningSystem(t, nil, os.O_RDONLY)
	same, before := 0, descriptors(t)
	for {
		p, err := h.NextProc(t.Context())
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		cmdline, err1 := procStrings(t, p.PID, "cmdline")
		environ, err2 := procStrings(t, p.PID, "environ")
		argv, envp, err := h.GetCmd(t.Context(), p, nil)
		again, err3 := procStrings(t, p.PID, "cmdline")
		againEnv, err4 := procStrings(t, p.PID, "environ")
		if err1 != nil || err2 != nil || err3 != nil || err4 != nil || !slices.Equal(cmdline, again) || !slices.Equal(environ, againEnv) {
			continue
		}
		if p.System || p.State == 'Z' || len(cmdline) == 0 {
			if err == nil && len(argv) > 0 {
				t.Errorf("pid %d: %q, though /proc has nothing", p.PID, argv)
			}
			continue
		}
		if err != nil {
			if !processNumbers(t)[p.PID] {
				continue
			}
			t.Errorf("pid %d: %v", p.PID, err)
			continue
		}
		if !slices.Equal(argv, cmdline) || !slices.Equal(envp, environ) {
			t.Errorf("pid %d: %s%s", p.PID, cmp.Diff(cmdline, argv), cmp.Diff(environ, envp))
			continue
		}
		same++
	}
	if same < 2 {
		t.Errorf("%d processes compared", same)
	}
	h.SetProc()
	if after := descriptors(t); after != before {
		t.Errorf("%d open files before, %d after", before, after)
	}
}
