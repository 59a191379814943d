// SPDX-License-Identifier: Apache-2.0

package kvm

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/remora-go/remora"
)

// statLine is a /proc/PID/stat of Linux 6.x.
const statLine = "4242 (%s) S 17 4242 4200 34816 4242 4194304 105 0 0 0 0 0 0 0 20 0 1 0 987654 3100672 403 18446744073709551615 " +
	"94008 94009 140722 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0 94101 94102 94103 140731 140742 140742 140799 0\n"

func stat(name string) string { return strings.ReplaceAll(statLine, "%s", name) }

func TestParseStat(t *testing.T) {
	for _, name := range []string{"cat", "a b", "", ")", "x) R 1 2 3 (y", "((", "new\nline", "15 bytes long.."} {
		got, err := parseStat("stat", []byte(stat(name)))
		want := &Proc{PID: 4242, PPID: 17, PGID: 4242, SID: 4200, Command: name, State: 'S', Start: 987654,
			User: User{ArgStart: 140731, ArgEnd: 140742, EnvStart: 140742, EnvEnd: 140799}}
		if err != nil || !cmp.Equal(got, want) {
			t.Errorf("%q: %v, %s", name, err, cmp.Diff(want, got))
		}
	}
	kernel := strings.Replace(stat("kthreadd"), " 4194304 ", " 2129984 ", 1)
	if p, err := parseStat("stat", []byte(kernel)); err != nil || !p.System {
		t.Errorf("%+v, %v: want a system process", p, err)
	}
	for _, n := range []int{22, 44, 48} { // the last four came with Linux 3.5
		p, err := parseStat("stat", []byte(strings.Join(strings.Fields(stat("cat"))[:n], " ")))
		if err != nil || p.Start != 987654 || p.User.EnvEnd != 0 {
			t.Errorf("%d fields: %+v, %v", n, p, err)
		}
	}
	short := strings.Join(strings.Fields(stat("cat"))[:21], " ")
	for _, bad := range []string{"", "x", "(", ")(", "4242", "4242 cat S 1 2", "x (cat) S 1 2", "4242 (cat) S 1 2", short,
		strings.Replace(stat("cat"), " 17 ", " x ", 1), strings.Replace(stat("cat"), " 987654 ", " -1 ", 1),
		strings.Replace(stat("cat"), " S ", " SS ", 1)} {
		var e *remora.FormatError
		if p, err := parseStat("stat", []byte(bad)); p != nil || !errors.As(err, &e) {
			t.Errorf("%q: %+v, %v", bad, p, err)
		}
	}
}

// TestWalk is a walk over files that look like /proc.
func TestWalk(t *testing.T) {
	root := t.TempDir()
	add := func(dir, text string) {
		if err := os.Mkdir(filepath.Join(root, dir), 0o700); err != nil {
			t.Fatal(err)
		}
		if text == "" {
			return
		}
		if err := os.WriteFile(filepath.Join(root, dir, "stat"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, pid := range []string{"10", "9", "1", "100"} {
		add(pid, strings.Replace(stat("p"+pid), "4242", pid, 1))
	}
	add("50", "") // has exited since the list was made
	add("self", stat("self"))
	add("0", stat("zero"))
	add("-3", stat("minus"))
	h := New(newRunning(root, &Config{}), false)
	defer h.Close()
	for range 2 {
		for _, pid := range []int{1, 9, 10, 100} {
			wantNext(t, h, pid)
		}
		wantEnd(t, h)
		h.SetProc()
	}
	if p, err := h.GetProc(t.Context(), 10); err != nil || p.Command != "p10" {
		t.Errorf("%+v, %v", p, err)
	}
	wantNext(t, h, 100)
	if err := os.WriteFile(filepath.Join(root, "9", "stat"), []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	h.SetProc()
	wantNext(t, h, 1)
	for range 2 { // it does not go past what it cannot read
		if _, err := h.NextProc(t.Context()); err == io.EOF || !errors.Is(err, remora.ErrCorrupt) {
			t.Error(err)
		}
	}
}

// TestWalkPastHiddenProcesses: with hidepid=1 the processes of others are listed, and
// nothing else of them may be known.
func TestWalkPastHiddenProcesses(t *testing.T) {
	root := t.TempDir()
	for _, pid := range []string{"7", "8", "9"} {
		if err := os.Mkdir(filepath.Join(root, pid), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	r := newRunning(root, &Config{})
	r.read = func(path string) ([]byte, error) {
		pid := filepath.Base(filepath.Dir(path))
		if pid == "8" {
			return nil, &os.PathError{Op: "open", Path: path, Err: os.ErrPermission}
		}
		return []byte(strings.Replace(stat("seen"), "4242", pid, 1)), nil
	}
	h := New(r, false)
	defer h.Close()
	wantNext(t, h, 7)
	if p := wantNext(t, h, 8); p.State != '?' || p.Command != "" {
		t.Errorf("%+v", p)
	}
	wantNext(t, h, 9)
	wantEnd(t, h)
}
