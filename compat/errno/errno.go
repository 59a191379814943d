// SPDX-License-Identifier: Apache-2.0

// Package errno holds the error numbers that the interfaces under compat promise
// to their callers. The numbers are Linux's, on every system, so that an engine
// which runs elsewhere gives the same results; for the numbers up to ERANGE those
// of FreeBSD and illumos are the same.
//
// An Errno is a constant error: making one, or converting one to error, allocates
// nothing.
package errno

import (
	"errors"
	"io/fs"
	"strconv"

	"github.com/remora-go/remora"
)

// Errno is a Linux error number. Zero is no error, and is never returned as one:
// see Err.
type Errno uint16

// The numbers of asm-generic/errno-base.h and errno.h that the interfaces use.
const (
	EPERM     Errno = 1  // not permitted
	ENOENT    Errno = 2  // no such file
	ESRCH     Errno = 3  // no such process, or it has no memory
	EINTR     Errno = 4  // a signal came
	EIO       Errno = 5  // reading or writing failed
	ENXIO     Errno = 6  // no such device or address
	EBADF     Errno = 9  // not open, or not open for that
	EAGAIN    Errno = 11 // try again
	ENOMEM    Errno = 12 // no memory for the call itself
	EACCES    Errno = 13 // no right to the file
	EFAULT    Errno = 14 // an address that cannot be accessed
	EBUSY     Errno = 16 // in use
	ENODEV    Errno = 19 // no such device
	EINVAL    Errno = 22 // an argument that is never right
	ENOSPC    Errno = 28 // no room left
	EROFS     Errno = 30 // read-only file system
	ERANGE    Errno = 34 // result too large
	ENOSYS    Errno = 38 // the system has no such call
	EOVERFLOW Errno = 75 // a value does not fit
)

// entry is what is known of one number: its name, the text of strerror(3) in lower
// case, and what errors.Is finds in it.
type entry struct {
	name, text string
	is         error
}

func (e Errno) entry() entry {
	switch e {
	case EPERM:
		return entry{"EPERM", "operation not permitted", fs.ErrPermission}
	case ENOENT:
		return entry{"ENOENT", "no such file or directory", fs.ErrNotExist}
	case ESRCH:
		return entry{"ESRCH", "no such process", remora.ErrGone}
	case EINTR:
		return entry{"EINTR", "interrupted system call", nil}
	case EIO:
		return entry{"EIO", "input/output error", remora.ErrIO}
	case ENXIO:
		return entry{"ENXIO", "no such device or address", nil}
	case EBADF:
		return entry{"EBADF", "bad file descriptor", nil}
	case EAGAIN:
		return entry{"EAGAIN", "resource temporarily unavailable", nil}
	case ENOMEM:
		return entry{"ENOMEM", "cannot allocate memory", nil}
	case EACCES:
		return entry{"EACCES", "permission denied", fs.ErrPermission}
	case EFAULT:
		return entry{"EFAULT", "bad address", remora.ErrFault}
	case EBUSY:
		return entry{"EBUSY", "device or resource busy", nil}
	case ENODEV:
		return entry{"ENODEV", "no such device", nil}
	case EINVAL:
		return entry{"EINVAL", "invalid argument", fs.ErrInvalid}
	case ENOSPC:
		return entry{"ENOSPC", "no space left on device", nil}
	case EROFS:
		return entry{"EROFS", "read-only file system", fs.ErrPermission}
	case ERANGE:
		return entry{"ERANGE", "numerical result out of range", nil}
	case ENOSYS:
		return entry{"ENOSYS", "function not implemented", errors.ErrUnsupported}
	case EOVERFLOW:
		return entry{"EOVERFLOW", "value too large for defined data type", nil}
	}
	return entry{}
}

// Error gives the text of strerror(3), in lower case.
func (e Errno) Error() string {
	if t := e.entry().text; t != "" {
		return t
	}
	return "error " + strconv.Itoa(int(e))
}

// Name gives the constant's name, "EFAULT", or "errno 71" for one without.
func (e Errno) Name() string {
	switch n := e.entry().name; {
	case n != "":
		return n
	case e == 0:
		return "0"
	}
	return "errno " + strconv.Itoa(int(e))
}

// Is says that EFAULT is remora.ErrFault, ESRCH remora.ErrGone, EIO remora.ErrIO
// and with it a fault, EPERM, EACCES and EROFS fs.ErrPermission, EINVAL
// fs.ErrInvalid, ENOENT fs.ErrNotExist, and ENOSYS errors.ErrUnsupported.
func (e Errno) Is(target error) bool {
	is := e.entry().is
	return is != nil && (is == target || errors.Is(is, target))
}

// Err gives e as an error, nil for zero.
func (e Errno) Err() error {
	if e == 0 {
		return nil
	}
	return e
}
