// SPDX-License-Identifier: Apache-2.0

package processvm

import (
	"errors"
	"strconv"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/compat/errno"
)

// ErrMore says that a call has moved as many bytes as one call can, and more are left (R11). ReadAll
// and WriteAll go on.
var ErrMore = errors.New("more bytes than one call moves")

// CallError is an error number other than EFAULT.
type CallError struct {
	Call  string // process_vm_readv or process_vm_writev
	PID   int
	Errno errno.Errno
}

func (e *CallError) Error() string {
	return e.Call + ": pid " + strconv.Itoa(e.PID) + ": " + e.Errno.Error()
}

// Unwrap gives the number.
func (e *CallError) Unwrap() error { return e.Errno }

// Outcome turns the result of a call into an error, for those who want all bytes or to
// know what is wrong. It is nil when n is all that both vectors have room for.
//
// A short count, or EFAULT, is a *remora.Fault with the remote address of the first byte that was
// not moved. The system does not tell on which side the fault was: where the local memory is
// in doubt, it is at byte n of the local vector (At). Other numbers are a *CallError.
func Outcome(write bool, pid int, local, remote []Iovec, n int, e errno.Errno) error {
	return outcome(write, pid, local, remote, uint64(n), e)
}

func outcome(write bool, pid int, local, remote []Iovec, n uint64, e errno.Errno) error {
	want := min(Total(local), Total(remote))
	switch {
	case e != 0 && e != errno.EFAULT:
		call := "process_vm_readv"
		if write {
			call = "process_vm_writev"
		}
		return &CallError{Call: call, PID: pid, Errno: e}
	case e == 0 && n >= want:
		return nil
	case e == 0 && n == MaxRW:
		return ErrMore
	}
	a := At(remote, n)
	return &remora.Fault{Space: "pid " + strconv.Itoa(pid), Op: operation(write), Addr: a, Past: a == 0 && n > 0, Err: errno.EFAULT}
}
