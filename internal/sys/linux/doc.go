// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package linux is the one door to the Linux kernel: raw calls, typed, without
// policy. Only this package imports golang.org/x/sys and syscall.
//
// Calls that may block go through the scheduler-aware form, so that other
// goroutines run on. Errors are the kernel's own Errno values; converting one to
// error allocates nothing.
package linux

import "golang.org/x/sys/unix"

// Errno is the kernel's error number. Zero is success.
type Errno = unix.Errno

// The error numbers that callers tell apart.
const (
	OK      = Errno(0)
	EPERM   = unix.EPERM
	ENOENT  = unix.ENOENT
	ESRCH   = unix.ESRCH
	EINTR   = unix.EINTR
	EIO     = unix.EIO
	EAGAIN  = unix.EAGAIN
	ENOMEM  = unix.ENOMEM
	EACCES  = unix.EACCES
	EFAULT  = unix.EFAULT
	EEXIST  = unix.EEXIST
	EINVAL  = unix.EINVAL
	ENOTSUP = unix.ENOTSUP
	ENOTTY  = unix.ENOTTY
	ENOSYS  = unix.ENOSYS
	ENODATA = unix.ENODATA
)
