// SPDX-License-Identifier: Apache-2.0

package rwmem

import (
	"context"
	"errors"
	"strings"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/compat/errno"
)

// Error is why a call ended. It Is its Errno and its cause; FreeBSD's callers have
// the first of them, and those of the simple forms neither (R78).
type Error struct {
	Errno  errno.Errno // 0 for a simple form that was asked for no bytes (R79)
	Op     remora.Op
	Space  string      // whose memory; empty where no memory was the reason
	Addr   remora.Addr // the first byte that was not moved
	Caller bool        // it was the vector's side that failed, not the process's
	Err    error       // what was found there
}

func (e *Error) Error() string {
	var b strings.Builder
	if e.Op&remora.Write != 0 {
		b.WriteString("write ")
	} else {
		b.WriteString("read ")
	}
	b.WriteString(e.Space + ":" + e.Addr.String() + ": ")
	if e.Errno != 0 {
		b.WriteString(e.Errno.Error())
	}
	if e.Err != nil {
		if e.Errno != 0 {
			b.WriteString(": ")
		}
		b.WriteString(e.Err.Error())
	}
	return b.String()
}

// Unwrap gives the number and the cause.
func (e *Error) Unwrap() []error {
	if e.Errno == 0 {
		return []error{e.Err}
	}
	return []error{e.Errno, e.Err}
}

// The reasons that are not of the memory.
var (
	ErrNotHeld = errors.New("the process is not held")
	ErrExiting = errors.New("the process is exiting")
	ErrNothing = errors.New("no bytes were asked for")
)

// number gives the error number of a cause: ENOMEM for a shortage of resources, and
// EFAULT for every other failure of memory (R73).
func number(err error) errno.Errno {
	switch {
	case errors.Is(err, errno.ENOMEM), errors.Is(err, remora.ErrBusy), shortage(err):
		return errno.ENOMEM
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded), errors.Is(err, remora.ErrInDoubt):
		return errno.EINTR
	case errors.Is(err, remora.ErrReadOnly):
		return errno.EPERM
	}
	return errno.EFAULT
}
