// SPDX-License-Identifier: Apache-2.0

package errno

import (
	"errors"
	"io/fs"
	"testing"

	"github.com/remora-go/remora"
)

func TestNumbersAreLinuxs(t *testing.T) {
	for name, e := range map[string]Errno{"EPERM": 1, "ENOENT": 2, "ESRCH": 3, "EINTR": 4, "EIO": 5, "ENXIO": 6, "EBADF": 9,
		"EAGAIN": 11, "ENOMEM": 12, "EACCES": 13, "EFAULT": 14, "EBUSY": 16, "ENODEV": 19, "EINVAL": 22, "ENOSPC": 28, "EROFS": 30,
		"ERANGE": 34, "ENOSYS": 38, "EOVERFLOW": 75} {
		if e.Name() != name || e.Error() == "" || e.Error() == e.Name() {
			t.Errorf("error %d is %s, %q; want %s", uint16(e), e.Name(), e.Error(), name)
		}
	}
	if got := Errno(71); got.Error() != "error 71" || got.Name() != "errno 71" {
		t.Errorf("an unlisted number is %q, %q", got.Error(), got.Name())
	}
}

func TestErrnoIs(t *testing.T) {
	for _, c := range []struct {
		e    Errno
		is   error
		want bool
	}{
		{EFAULT, remora.ErrFault, true},
		{EIO, remora.ErrIO, true},
		{EIO, remora.ErrFault, true},
		{ESRCH, remora.ErrGone, true},
		{EPERM, fs.ErrPermission, true},
		{EACCES, fs.ErrPermission, true},
		{EROFS, fs.ErrPermission, true},
		{EINVAL, fs.ErrInvalid, true},
		{ENOENT, fs.ErrNotExist, true},
		{ENOSYS, errors.ErrUnsupported, true},
		{EFAULT, EFAULT, true},
		{EFAULT, remora.ErrUnmapped, false},
		{ESRCH, remora.ErrFault, false},
		{ENOMEM, remora.ErrFault, false},
		{EFAULT, EINVAL, false},
		{0, remora.ErrFault, false},
	} {
		if got := errors.Is(c.e, c.is); got != c.want {
			t.Errorf("errors.Is(%s, %v) is %v", c.e.Name(), c.is, got)
		}
	}
	if Errno(0).Err() != nil || EFAULT.Err() != EFAULT {
		t.Error("Err of zero is not nil, or of EFAULT not EFAULT")
	}
	if n := testing.AllocsPerRun(100, func() { errors.Is(EFAULT.Err(), remora.ErrFault) }); n != 0 {
		t.Errorf("an Errno allocates %v times", n)
	}
}
