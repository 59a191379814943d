// SPDX-License-Identifier: Apache-2.0

package kvm

import (
	"context"
	"errors"
	"io/fs"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/compat/errno"
)

// Error is a call that failed: one for which C has -1 or NULL.
type Error struct {
	Call  string      // "kvm_kread"
	Errno errno.Errno // what C would find in errno
	Err   error       // why
}

func (e *Error) Error() string { return e.Call + ": " + e.Err.Error() }

// Unwrap gives the errno and the cause.
func (e *Error) Unwrap() []error { return []error{e.Errno, e.Err} }

// ErrNoProcess says that no process is current.
var ErrNoProcess = errors.New("no process is current: call GetProc, NextProc or GetU first")

// fail makes the error of a call, with the errno that fits the cause.
func fail(call string, err error) error {
	return &Error{Call: call, Errno: number(err), Err: err}
}

// number gives the errno of a cause. That of a process which is gone is what opening
// /proc/PID/as gives (R99).
func number(err error) errno.Errno {
	var own errno.Errno
	switch {
	case errors.As(err, &own):
		return own
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded), errors.Is(err, remora.ErrInDoubt):
		return errno.EINTR
	case errors.Is(err, fs.ErrClosed):
		return errno.EBADF
	case errors.Is(err, remora.ErrReadOnly):
		return errno.EROFS
	case errors.Is(err, remora.ErrGone), errors.Is(err, fs.ErrNotExist), errors.Is(err, ErrNoProcess):
		return errno.ENOENT
	case errors.Is(err, fs.ErrPermission):
		return errno.EACCES
	case errors.Is(err, errors.ErrUnsupported):
		return errno.ENOSYS
	case errors.Is(err, remora.ErrUnrecognized):
		return errno.EINVAL
	case errors.Is(err, remora.ErrBusy):
		return errno.EAGAIN
	case device(err):
		return errno.EIO
	case errors.Is(err, remora.ErrFault):
		return errno.EFAULT
	}
	return errno.EIO
}

// device says whether memory is there, and getting at it failed (R96, R100).
func device(err error) bool {
	for _, c := range [...]remora.Cause{remora.ErrDevice, remora.ErrIO, remora.ErrPoisoned, remora.ErrBeyondEOF,
		remora.ErrCorrupt, remora.ErrTruncated} {
		if errors.Is(err, c) {
			return true
		}
	}
	return false
}
