// SPDX-License-Identifier: Apache-2.0

package kvm

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/compat/errno"
)

// openProcs opens a fake with processes of these numbers, each of which has memory
// that begins with its number.
func openProcs(t *testing.T, pids ...int) (*Handle, *fake) {
	t.Helper()
	h, f := openFake(t, nil, "", os.O_RDWR)
	for _, pid := range pids {
		f.procs = append(f.procs, &Proc{PID: pid, Start: uint64(1000 * pid)})
		if err := f.addUser(t, pid, true).Poke([]byte{byte(pid)}, 0x10000); err != nil {
			t.Fatal(err)
		}
	}
	return h, f
}

// wantCurrent checks which process URead goes to; 0: none.
func wantCurrent(t *testing.T, h *Handle, pid int) {
	t.Helper()
	var b [1]byte
	n, err := h.URead(t.Context(), b[:], 0x10000)
	if pid == 0 {
		wantFailed(t, n, err, errno.ENOENT, ErrNoProcess)
		return
	}
	wantAll(t, n, err, 1)
	if int(b[0]) != pid {
		t.Errorf("process %d is current, want %d", b[0], pid)
	}
}

func wantNext(t *testing.T, h *Handle, pid int) *Proc {
	t.Helper()
	p, err := h.NextProc(t.Context())
	if err != nil || p.PID != pid {
		t.Fatalf("%+v, %v: want process %d", p, err, pid)
	}
	return p
}

func wantEnd(t *testing.T, h *Handle) {
	t.Helper()
	if p, err := h.NextProc(t.Context()); p != nil || err != io.EOF {
		t.Fatalf("%+v, %v: want the end of the list", p, err)
	}
}

// TestR98CurrentProcess: set by NextProc and GetProc, as the library does, and by
// GetU, as the manual promises.
func TestR98CurrentProcess(t *testing.T) {
	h, f := openProcs(t, 3, 5, 9)
	wantCurrent(t, h, 0)
	three := wantNext(t, h, 3)
	wantCurrent(t, h, 3)
	wantNext(t, h, 5)
	wantCurrent(t, h, 5)
	if _, err := h.GetProc(t.Context(), 9); err != nil {
		t.Fatal(err)
	}
	wantCurrent(t, h, 9)
	if u := h.GetU(three); u != &three.User {
		t.Errorf("the user area %p is not that inside the process", u)
	}
	wantCurrent(t, h, 3)
	if h.GetU(nil) != nil {
		t.Error("a user area of nothing")
	}
	wantCurrent(t, h, 3)
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if f.opened != f.closed {
		t.Errorf("%d spaces opened, %d closed", f.opened, f.closed)
	}
}

// TestR99OpenedOnlyWhenNeeded: a walk opens no memory, and one process has its memory
// open at a time.
func TestR99OpenedOnlyWhenNeeded(t *testing.T) {
	h, f := openProcs(t, 3, 5, 9)
	for range 2 {
		for _, pid := range []int{3, 5, 9} {
			wantNext(t, h, pid)
		}
		wantEnd(t, h)
		h.SetProc()
	}
	if f.opened != 0 {
		t.Fatalf("%d spaces opened", f.opened)
	}
	for i, pid := range []int{3, 5, 9} {
		p := wantNext(t, h, pid)
		wantCurrent(t, h, pid)
		h.GetU(p) // the same process: its memory stays open
		wantCurrent(t, h, pid)
		if f.opened != i+1 || f.closed != i {
			t.Errorf("%d spaces opened, %d closed", f.opened, f.closed)
		}
	}
	delete(f.users, 5)
	if _, err := h.GetProc(t.Context(), 5); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		n, err := h.URead(t.Context(), make([]byte, 1), 0x10000)
		wantFailed(t, n, err, errno.ENOENT, remora.ErrGone)
	}
}

func TestR102NextProcAndGetProcShareAPosition(t *testing.T) {
	h, f := openProcs(t, 3, 5, 9)
	three := wantNext(t, h, 3)
	wantNext(t, h, 5)
	wantNext(t, h, 9)
	wantEnd(t, h)
	wantEnd(t, h)
	wantCurrent(t, h, 9) // the last one stays loaded
	if three.PID != 3 {
		t.Error("the result of NextProc was overwritten")
	}
	p, err := h.GetProc(t.Context(), 3)
	if err != nil || p.PID != 3 {
		t.Fatalf("%+v, %v", p, err)
	}
	wantNext(t, h, 5) // behind what GetProc found
	_, err = h.GetProc(t.Context(), 4)
	wantError(t, err, errno.ESRCH, fs.ErrNotExist)
	wantEnd(t, h) // GetProc went through all of them
	wantCurrent(t, h, 0)
	h.SetProc()
	wantNext(t, h, 3)

	f.broken = &remora.Fault{Space: "kernel", Addr: 0x1000, Err: remora.ErrNotSaved}
	h.SetProc()
	for _, pid := range []int{3, 5, 9} {
		wantNext(t, h, pid)
	}
	_, err = h.NextProc(t.Context())
	wantError(t, err, errno.EFAULT, remora.ErrNotSaved)
	_, err = h.GetProc(t.Context(), 4)
	wantError(t, err, errno.EFAULT, remora.ErrNotSaved)
	if errors.Is(err, fs.ErrNotExist) {
		t.Error("a list that cannot be read does not say that there is no such process")
	}
}

// TestR106OneSlotPerHandle: two handles of one image do not disturb each other.
func TestR106OneSlotPerHandle(t *testing.T) {
	a, f := openProcs(t, 3, 5)
	b := New(f, false)
	wantNext(t, a, 3)
	wantCurrent(t, b, 0)
	wantNext(t, b, 3)
	wantNext(t, b, 5)
	wantCurrent(t, a, 3)
	wantCurrent(t, b, 5)
	wantNext(t, a, 5)
}
