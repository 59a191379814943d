// SPDX-License-Identifier: Apache-2.0

package kvm

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/compat/errno"
	"github.com/remora-go/remora/target"
)

// errRefusal is what a kernel says that does not let its memory be written.
var errRefusal error = &remora.AccessError{Target: "kernel", Act: "write the memory of", Reason: "a rule of the kernel"}

// ownKernel is the running system with another kernel's memory: that of an image. refused
// is what opening it for writing gives, nil where it can be.
type ownKernel struct {
	*Handle
	root   string
	file   string
	before []byte
	opened int
}

func newOwnKernel(t *testing.T, c *Config, write bool, refused error) *ownKernel {
	t.Helper()
	k := &ownKernel{root: t.TempDir()}
	k.file, k.before = writeDump(t, false)
	r := newRunning(k.root, c)
	r.kernel = func(_ context.Context, write bool) (*target.Kernel, error) {
		k.opened++
		if write && refused != nil {
			return nil, refused
		}
		return target.OpenImage([]string{k.file}, &target.Options{Write: write})
	}
	k.Handle = New(r, write)
	t.Cleanup(func() {
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	})
	return k
}

// wantFile checks whether the image is what it was.
func (k *ownKernel) wantFile(t *testing.T, changed bool) {
	t.Helper()
	if now, err := os.ReadFile(k.file); err != nil || bytes.Equal(now, k.before) == changed {
		t.Errorf("the file changed: %v, want %v (%v)", !changed, changed, err)
	}
}

// TestR96RunningKernel: counts and errnos as R96 has them, of a kernel that can be written
// and of one that cannot. It is opened when it is first needed, and once.
func TestR96RunningKernel(t *testing.T) {
	for _, refused := range []error{nil, errRefusal} {
		k := newOwnKernel(t, &Config{Write: true}, true, refused)
		if k.opened != 0 {
			t.Error("opened before it was needed")
		}
		buf := make([]byte, len(dumpWords))
		for range 2 {
			n, err := k.KRead(t.Context(), buf, dumpText)
			wantAll(t, n, err, len(buf))
			n, err = k.PRead(t.Context(), buf[:4], dumpLoad)
			wantAll(t, n, err, 4)
		}
		if want := map[bool]int{true: 1, false: 2}[refused == nil]; k.opened != want {
			t.Errorf("opened %d times, want %d", k.opened, want)
		}
		if string(buf) != dumpWords {
			t.Errorf("%q", buf)
		}
		n, err := k.KRead(t.Context(), buf, dumpText+page-4)
		wantShort(t, n, err, 4, dumpText+page, remora.ErrNotSaved)
		for _, a := range []remora.Addr{dumpText - 1, dumpText + 1<<20, 0, remora.MaxAddr} {
			n, err = k.KRead(t.Context(), buf, a)
			wantFailed(t, n, err, errno.EFAULT, remora.ErrUnmapped)
		}
		for _, c := range []struct {
			write transfer
			a     remora.Addr
		}{{k.KWrite, dumpText}, {k.Write, dumpText}, {k.PWrite, 0x5000}} {
			n, err := c.write(t.Context(), []byte("xy"), c.a)
			if refused == nil {
				wantAll(t, n, err, 2)
				continue
			}
			wantFailed(t, n, err, errno.EACCES, fs.ErrPermission)
			if errors.Is(err, remora.ErrReadOnly) || !strings.Contains(err.Error(), "a rule of the kernel") {
				t.Error(err)
			}
		}
		n, err = k.AWrite(t.Context(), AS{}, buf, 0)
		wantFailed(t, n, err, map[bool]errno.Errno{true: errno.EINVAL, false: errno.EACCES}[refused == nil], err)
		k.wantFile(t, refused == nil)
	}
}

// TestR96RunningKernelIsNotWritten: who only reads is told so, and nothing is opened for it.
func TestR96RunningKernelIsNotWritten(t *testing.T) {
	k := newOwnKernel(t, &Config{}, false, errRefusal)
	n, err := k.KWrite(t.Context(), []byte("x"), dumpText)
	wantFailed(t, n, err, errno.EBADF, remora.ErrReadOnly)
	if k.opened != 0 {
		t.Error("it was opened")
	}
}

// TestR105PhysAddrOfTheRunningKernel is what the page tables say.
func TestR105PhysAddrOfTheRunningKernel(t *testing.T) {
	k := newOwnKernel(t, &Config{}, false, nil)
	if pa, err := k.PhysAddr(t.Context(), KernelAS(), dumpText+0x2345); err != nil || pa != dumpLoad+0x2345 {
		t.Errorf("%v, %v", pa, err)
	}
	for _, va := range []remora.Addr{dumpText + 1<<20, 0, remora.MaxAddr} {
		if pa, err := k.PhysAddr(t.Context(), KernelAS(), va); pa != remora.MaxAddr || err == nil {
			t.Errorf("%v: %v, %v: want none", va, pa, err)
		}
	}
}

// TestOverlayOfTheRunningKernel: a write to memory is seen in both views, the kernel is not
// even opened for writing, and its memory stays.
func TestOverlayOfTheRunningKernel(t *testing.T) {
	k := newOwnKernel(t, &Config{Overlay: true}, true, errRefusal)
	n, err := k.KWrite(t.Context(), []byte("kept"), dumpText+4)
	wantAll(t, n, err, 4)
	got := make([]byte, 4)
	for _, c := range []struct {
		read transfer
		a    remora.Addr
	}{{k.KRead, dumpText + 4}, {k.PRead, dumpLoad + 4}} {
		clear(got)
		n, err = c.read(t.Context(), got, c.a)
		wantAll(t, n, err, 4)
		if string(got) != "kept" {
			t.Errorf("%q", got)
		}
	}
	if k.opened != 1 {
		t.Errorf("opened %d times", k.opened)
	}
	k.wantFile(t, false)
}

// TestRunningKernelThatCannotBeHad: what refuses is told by each call, and the next one
// tries again.
func TestRunningKernelThatCannotBeHad(t *testing.T) {
	for _, c := range []struct {
		err    error
		number errno.Errno
		is     error
	}{
		{fs.ErrNotExist, errno.ENOSYS, errors.ErrUnsupported},
		{errRefusal, errno.EACCES, fs.ErrPermission},
	} {
		k := newOwnKernel(t, &Config{Write: true}, true, c.err)
		r := k.img.(*running)
		have := r.kernel
		r.kernel = func(context.Context, bool) (*target.Kernel, error) { return nil, c.err }
		for _, call := range []transfer{k.KRead, k.KWrite, k.PRead, k.PWrite} {
			n, err := call(t.Context(), make([]byte, 8), dumpText)
			wantFailed(t, n, err, c.number, c.is)
		}
		if pa, err := k.PhysAddr(t.Context(), KernelAS(), dumpText); pa != remora.MaxAddr || !errors.Is(err, c.is) {
			t.Errorf("%v, %v", pa, err)
		}
		r.kernel = have
		n, err := k.KRead(t.Context(), make([]byte, 8), dumpText)
		wantAll(t, n, err, 8)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	n, err := newOwnKernel(t, &Config{Write: true}, true, nil).KRead(ctx, make([]byte, 8), dumpText)
	wantFailed(t, n, err, errno.EINTR, context.Canceled)
}

// TestR91SymbolsOfTheRunningSystem: those of /proc/kallsyms where memory has none, and then
// both are told of where that has none either.
func TestR91SymbolsOfTheRunningSystem(t *testing.T) {
	k := newOwnKernel(t, &Config{}, false, nil)
	write := func(text string) {
		if err := os.WriteFile(filepath.Join(k.root, "kallsyms"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	list := []Nlist{{Name: "_stext"}, {Name: "none"}}
	n, err := k.NList(t.Context(), list)
	wantFailed(t, n, err, errno.ENOENT, fs.ErrNotExist)
	write("0000000000000000 T _stext\n")
	n, err = k.NList(t.Context(), list)
	wantFailed(t, n, err, errno.EACCES, fs.ErrPermission)
	if !strings.Contains(err.Error(), "kptr_restrict") || !strings.Contains(err.Error(), "not from memory") {
		t.Error(err)
	}
	write("ffffffff81000000 T _stext\n")
	if n, err = k.NList(t.Context(), list); n != 1 || err != nil || list[0].Value != 0xffffffff81000000 || list[0].Type != 'T' {
		t.Errorf("%d, %v, %+v", n, err, list)
	}
}
