// SPDX-License-Identifier: Apache-2.0

package processvm

import (
	"context"
	"errors"
	"io/fs"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/compat/errno"
)

func TestOutcome(t *testing.T) {
	local, remote := iov(at(localBase, 10), at(localBase+100, 10)), iov(at(base, 5), at(0x9000, 0), at(0x9000, 10))
	for _, c := range []struct {
		n    int
		e    errno.Errno
		addr remora.Addr // 0: no fault
		text string
	}{
		{15, 0, 0, ""},
		{3, 0, base + 3, "read pid 20:0x10003: bad address"},
		{5, 0, 0x9000, "read pid 20:0x9000: bad address"},
		{0, errno.EFAULT, base, "read pid 20:0x10000: bad address"},
		{0, errno.ESRCH, 0, "process_vm_readv: pid 20: no such process"},
		{0, errno.EPERM, 0, "process_vm_readv: pid 20: operation not permitted"},
	} {
		err := Outcome(false, targetPID, local, remote, c.n, c.e)
		var f *remora.Fault
		switch isFault := errors.As(err, &f); {
		case err == nil && c.text == "":
		case err == nil || err.Error() != c.text:
			t.Errorf("%d and %s: %v", c.n, c.e.Name(), err)
		case isFault != (c.addr != 0) || isFault && f.Addr != c.addr || isFault != errors.Is(err, remora.ErrFault):
			t.Errorf("%d and %s: %#v", c.n, c.e.Name(), err)
		}
	}
	err := Outcome(true, 7, local, remote, 0, errno.EPERM)
	if !errors.Is(err, fs.ErrPermission) || err.Error() != "process_vm_writev: pid 7: operation not permitted" {
		t.Error(err)
	}
	huge := one(base, 1<<40)
	if err := Outcome(false, 7, huge, huge, MaxRW, 0); err != ErrMore {
		t.Error(err)
	}
	var f *remora.Fault
	if err := Outcome(false, 7, one(0, 20), one(^uint64(0)-9, 20), 10, 0); !errors.As(err, &f) || !f.Past {
		t.Errorf("%#v", err)
	}
}

func TestTotalAndAt(t *testing.T) {
	vec := iov(at(5, 0), at(0x100, 3), at(7, 0), at(0x200, 2))
	if n := Total(vec); n != 5 {
		t.Error(n)
	}
	if n := Total(iov(at(0, 1<<63), at(0, 1<<63))); n != ^uint64(0) {
		t.Error(n)
	}
	for n, want := range []remora.Addr{0x100, 0x101, 0x102, 0x200, 0x201, 0x202, 0x202} {
		if got := At(vec, uint64(n)); got != want {
			t.Errorf("byte %d is at %v, want %v", n, got, want)
		}
	}
	if got := At(nil, 3); got != 0 {
		t.Error(got)
	}
}

func TestAllGoesOnPastIOVMax(t *testing.T) {
	w := newWorld(t, nil)
	w.fill(w.remote, base, 8, rw)
	var local, remote []Iovec
	for i := range uint64(3000) {
		local = append(local, at(localBase+10*i, 7), at(0, 0))
		remote = append(remote, at(kernelAddr, 0), at(base+7*i, 7))
	}
	ctx := context.Background()
	n, err := w.sys.ReadAll(ctx, w.caller, targetPID, local, remote)
	if n != 21000 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	w.holds(w.local, localBase+10*2999, base+7*2999, 7)
	remote[4001].Base = base + 8*ps - 3
	n, err = w.sys.WriteAll(ctx, w.caller, targetPID, local, remote)
	var f *remora.Fault
	if n != 14003 || !errors.As(err, &f) || f.Addr != base+8*ps {
		t.Errorf("%d, %v", n, err)
	}
	n, err = w.sys.ReadAll(ctx, w.caller, noOne, local, remote)
	if n != 0 || !errors.Is(err, errno.ESRCH) || !errors.Is(err, remora.ErrGone) {
		t.Errorf("%d, %v", n, err)
	}
	if n, err = w.sys.ReadAll(ctx, w.caller, noOne, nil, remote); n != 0 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
}
