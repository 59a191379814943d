// SPDX-License-Identifier: Apache-2.0

package kvm

import (
	"bytes"
	"context"
	"errors"
	"os"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/compat/errno"
)

type transfer func(context.Context, []byte, remora.Addr) (int, error)

func TestR94ReadAndWriteAreTheKernels(t *testing.T) {
	h, f := openFake(t, nil, "", os.O_RDWR)
	f.procs = []*Proc{{PID: 1}}
	f.addUser(t, 1, false)
	if _, err := h.NextProc(t.Context()); err != nil { // a current process changes nothing
		t.Fatal(err)
	}
	want := pattern(remora.Range{Start: 100, Size: 50})
	for _, read := range []transfer{h.KRead, h.Read} {
		got := make([]byte, 50)
		n, err := read(t.Context(), got, kernelBase+100)
		wantAll(t, n, err, 50)
		if !bytes.Equal(got, want) {
			t.Error("wrong bytes")
		}
		n, err = read(t.Context(), got, 0x10000)
		wantFailed(t, n, err, errno.EFAULT, remora.ErrUnmapped)
	}
	for i, write := range []transfer{h.KWrite, h.Write} {
		b := []byte{0xA0 + byte(i), 1, 2}
		n, err := write(t.Context(), b, kernelBase+200)
		wantAll(t, n, err, 3)
		got := make([]byte, 3)
		if err := f.phys.Peek(got, 200); err != nil || !bytes.Equal(got, b) {
			t.Errorf("% x, %v: want % x", got, err, b)
		}
	}
}

func TestR95NothingIsAlwaysZero(t *testing.T) {
	h, f := openFake(t, nil, "", os.O_RDONLY)
	try := func() {
		t.Helper()
		for _, call := range []transfer{h.KRead, h.KWrite, h.Read, h.Write, h.URead, h.UWrite, h.PRead, h.PWrite} {
			for _, a := range []remora.Addr{0, 1, 0x10000, kernelBase, remora.MaxAddr} {
				for _, p := range [][]byte{nil, {}} {
					n, err := call(t.Context(), p, a)
					wantAll(t, n, err, 0)
				}
			}
		}
		n, err := h.ARead(t.Context(), AS{}, nil, 0)
		wantAll(t, n, err, 0)
		n, err = h.AWrite(t.Context(), AS{}, nil, 0)
		wantAll(t, n, err, 0)
	}
	try() // no process is current
	f.procs = []*Proc{{PID: 1}, {PID: 2, System: true}}
	for range f.procs {
		if _, err := h.NextProc(t.Context()); err != nil {
			t.Fatal(err)
		}
		try() // one that is gone, one without memory
	}
	if f.opened != 0 {
		t.Error("memory was opened for nothing")
	}
	h.Close()
	try()
}

// TestR97ImageAccess: page by page up to the first that is not there; -1 when that
// is the first; a read-only handle refuses every write.
func TestR97ImageAccess(t *testing.T) {
	h, f := openFake(t, nil, "", os.O_RDWR)
	buf := make([]byte, 100)
	n, err := h.KRead(t.Context(), buf, kernelBase+2*page-30)
	wantShort(t, n, err, 30, kernelBase+2*page, remora.ErrUnmapped)
	if !bytes.Equal(buf[:30], pattern(remora.Range{Start: 2*page - 30, Size: 30})) {
		t.Error("wrong bytes")
	}
	n, err = h.KRead(t.Context(), buf, kernelBase+2*page)
	wantFailed(t, n, err, errno.EFAULT, remora.ErrUnmapped)
	n, err = h.KWrite(t.Context(), make([]byte, 100), kernelBase+2*page-30)
	wantShort(t, n, err, 30, kernelBase+2*page, remora.ErrUnmapped)
	n, err = h.KWrite(t.Context(), buf, kernelBase+2*page)
	wantFailed(t, n, err, errno.EFAULT, remora.ErrUnmapped)

	// A process of an image is no file of /proc: there is no 0 for nothing.
	f.procs = []*Proc{{PID: 7}}
	f.addUser(t, 7, false)
	if _, err := h.NextProc(t.Context()); err != nil {
		t.Fatal(err)
	}
	n, err = h.URead(t.Context(), buf, 0x12000-30)
	wantShort(t, n, err, 30, 0x12000, remora.ErrUnmapped)
	n, err = h.URead(t.Context(), buf, 0x12000)
	wantFailed(t, n, err, errno.EFAULT, remora.ErrUnmapped)

	ro, _ := openFake(t, nil, "", os.O_RDONLY)
	for _, write := range []transfer{ro.KWrite, ro.Write, ro.PWrite} {
		n, err = write(t.Context(), buf, kernelBase)
		wantFailed(t, n, err, errno.EBADF, remora.ErrReadOnly)
	}
}

// TestDamageIsNotAHole: what is there and cannot be had is EIO, in any space.
func TestDamageIsNotAHole(t *testing.T) {
	h, f := openFake(t, nil, "", os.O_RDWR)
	f.procs = []*Proc{{PID: 7}}
	u := f.addUser(t, 7, true)
	if _, err := h.NextProc(t.Context()); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 100)
	for i, cause := range []remora.Cause{remora.ErrIO, remora.ErrPoisoned, remora.ErrDevice, remora.ErrCorrupt, remora.ErrTruncated, remora.ErrBeyondEOF} {
		at := remora.Addr(100 * i)
		f.phys.Inject(at, remora.Read, cause)
		u.Inject(0x10000+at, remora.Read, cause)
		n, err := h.KRead(t.Context(), buf, kernelBase+at)
		wantFailed(t, n, err, errno.EIO, cause)
		n, err = h.URead(t.Context(), buf, 0x10000+at)
		wantFailed(t, n, err, errno.EIO, cause)
	}
}

// TestR100LiveUserAccess is R100 on any system; the same on a real process is in the
// tests for Linux.
func TestR100LiveUserAccess(t *testing.T) {
	h, f := openFake(t, nil, "", os.O_RDWR)
	f.procs = []*Proc{{PID: 7}, {PID: 8, System: true}}
	u := f.addUser(t, 7, true)
	if _, err := h.NextProc(t.Context()); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 100)
	n, err := h.URead(t.Context(), buf, 0x12000-30)
	wantShort(t, n, err, 30, 0x12000, remora.ErrUnmapped)
	n, err = h.URead(t.Context(), buf, 0x12000)
	wantShort(t, n, err, 0, 0x12000, remora.ErrUnmapped)
	n, err = h.UWrite(t.Context(), buf, 0x12000-30)
	wantShort(t, n, err, 30, 0x12000, remora.ErrUnmapped)
	n, err = h.UWrite(t.Context(), buf, 0x12000)
	wantFailed(t, n, err, errno.EIO, remora.ErrUnmapped)

	n, err = h.URead(t.Context(), buf, 0x13000) // PROT_NONE
	wantAll(t, n, err, 100)
	if !bytes.Equal(buf, pattern(remora.Range{Start: 0x13000, Size: 100})) {
		t.Error("wrong bytes")
	}
	n, err = h.UWrite(t.Context(), []byte("through"), 0x13000)
	wantAll(t, n, err, 7)
	if err := u.Peek(buf[:7], 0x13000); err != nil || string(buf[:7]) != "through" {
		t.Errorf("%q, %v", buf[:7], err)
	}

	if _, err := h.NextProc(t.Context()); err != nil {
		t.Fatal(err)
	}
	n, err = h.URead(t.Context(), buf, 0x10000)
	if n != 0 || !errors.Is(err, remora.ErrUnmapped) {
		t.Errorf("system process: %d, %v: want 0", n, err)
	}
	n, err = h.UWrite(t.Context(), buf, 0x10000)
	wantFailed(t, n, err, errno.EIO, remora.ErrUnmapped)
}

func TestR101NoCurrentProcessIsRefused(t *testing.T) {
	h, f := openFake(t, nil, "", os.O_RDWR)
	f.procs = []*Proc{{PID: 7}}
	f.addUser(t, 7, true)
	refused := func(when string) {
		t.Helper()
		before := f.phys.Clone()
		for _, call := range []transfer{h.URead, h.UWrite} {
			n, err := call(t.Context(), []byte{1, 2, 3}, 0x100) // there is physical memory at this address
			wantFailed(t, n, err, errno.ENOENT, ErrNoProcess)
		}
		if d := before.Diff(f.phys); d != "" {
			t.Errorf("%s: physical memory was changed: %s", when, d)
		}
	}
	refused("fresh handle")
	if _, err := h.NextProc(t.Context()); err != nil {
		t.Fatal(err)
	}
	n, err := h.URead(t.Context(), make([]byte, 3), 0x10000)
	wantAll(t, n, err, 3)
	h.SetProc()
	refused("after SetProc")
	if _, err := h.GetProc(t.Context(), 99); err == nil {
		t.Fatal("found 99")
	}
	refused("after a GetProc in vain")
	if f.opened != f.closed {
		t.Errorf("%d spaces opened, %d closed", f.opened, f.closed)
	}
}

func TestR105PhysAddr(t *testing.T) {
	h, f := openFake(t, nil, "", os.O_RDONLY)
	f.procs = []*Proc{{PID: 7}}
	f.addUser(t, 7, false)
	a, err := h.PhysAddr(t.Context(), KernelAS(), kernelBase+0x1234)
	if a != 0x1234 || err != nil {
		t.Errorf("%v, %v: want 0x1234", a, err)
	}
	fails := func(as AS, at remora.Addr, number errno.Errno, is error) {
		t.Helper()
		a, err := h.PhysAddr(t.Context(), as, at)
		if a != remora.MaxAddr {
			t.Errorf("%v: want all ones", a)
		}
		wantError(t, err, number, is)
	}
	fails(KernelAS(), 0x10, errno.EFAULT, remora.ErrNoTable)
	fails(f.procs[0].AS(), 0x10000, errno.ENOSYS, errors.ErrUnsupported)
	fails(AS{}, 0x10000, errno.EINVAL, errno.EINVAL)
	fails((&Proc{PID: 9}).AS(), 0x10000, errno.ENOENT, remora.ErrGone)
}

func TestPhysicalAndNamedSpaces(t *testing.T) {
	h, f := openFake(t, nil, "", os.O_RDWR)
	f.procs = []*Proc{{PID: 7}, {PID: 8}}
	f.addUser(t, 7, true)
	u := f.addUser(t, 8, true)
	if err := u.Poke([]byte("eight"), 0x10000); err != nil {
		t.Fatal(err)
	}
	if _, err := h.GetProc(t.Context(), 7); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 5)
	n, err := h.ARead(t.Context(), f.procs[1].AS(), got, 0x10000) // not the current one
	wantAll(t, n, err, 5)
	if string(got) != "eight" {
		t.Errorf("%q", got)
	}
	if f.opened != 1 || f.closed != 1 {
		t.Errorf("%d spaces opened, %d closed: want one of each", f.opened, f.closed)
	}
	n, err = h.AWrite(t.Context(), f.procs[1].AS(), []byte("EIGHT"), 0x10000)
	wantAll(t, n, err, 5)
	if err := u.Peek(got, 0x10000); err != nil || string(got) != "EIGHT" {
		t.Errorf("%q, %v", got, err)
	}

	n, err = h.PWrite(t.Context(), []byte("phys"), 0x300)
	wantAll(t, n, err, 4)
	for _, read := range []transfer{
		h.PRead,
		func(ctx context.Context, p []byte, a remora.Addr) (int, error) {
			return h.ARead(ctx, PhysicalAS(), p, a)
		},
		func(ctx context.Context, p []byte, a remora.Addr) (int, error) {
			return h.ARead(ctx, KernelAS(), p, kernelBase+a)
		},
	} {
		n, err = read(t.Context(), got[:4], 0x300)
		wantAll(t, n, err, 4)
		if string(got[:4]) != "phys" {
			t.Errorf("%q", got[:4])
		}
	}
	n, err = h.PRead(t.Context(), got, 2*page)
	wantFailed(t, n, err, errno.EFAULT, remora.ErrUnmapped)
	for _, as := range []AS{{}, (*Proc)(nil).AS()} {
		n, err = h.ARead(t.Context(), as, got, 0x300)
		wantFailed(t, n, err, errno.EINVAL, errno.EINVAL)
	}
}

// TestOverlayKeepsWritesInMemory: what is written is seen in every view of the image,
// and nothing below is changed.
func TestOverlayKeepsWritesInMemory(t *testing.T) {
	h, f := openFake(t, &Options{Overlay: true}, "", os.O_RDWR)
	if f.config.Write || !f.config.Overlay {
		t.Fatalf("configuration %+v", f.config)
	}
	before := f.phys.Clone()
	n, err := h.KWrite(t.Context(), []byte("kept"), kernelBase+0x400)
	wantAll(t, n, err, 4)
	got := make([]byte, 4)
	n, err = h.PRead(t.Context(), got, 0x400)
	wantAll(t, n, err, 4)
	if string(got) != "kept" {
		t.Errorf("%q", got)
	}
	if d := before.Diff(f.phys); d != "" {
		t.Errorf("the image was changed: %s", d)
	}
	ro, _ := openFake(t, &Options{Overlay: true}, "", os.O_RDONLY)
	n, err = ro.KWrite(t.Context(), []byte("x"), kernelBase)
	wantFailed(t, n, err, errno.EBADF, remora.ErrReadOnly)
}

// TestImageThatCannotBeWritten: the handle may write, the image may not.
func TestImageThatCannotBeWritten(t *testing.T) {
	h := New(newFake(t, &Config{}), true)
	defer h.Close()
	n, err := h.KWrite(t.Context(), []byte{1}, kernelBase)
	wantFailed(t, n, err, errno.EROFS, remora.ErrReadOnly)
}

func TestContextEndsACall(t *testing.T) {
	h, _ := openFake(t, nil, "", os.O_RDONLY)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	n, err := h.KRead(ctx, make([]byte, 3), kernelBase)
	wantFailed(t, n, err, errno.EINTR, context.Canceled)
}
