// SPDX-License-Identifier: Apache-2.0

//go:build linux

package linux

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// IOVMax is the largest number of elements in a vector (UIO_MAXIOV, R4).
const IOVMax = 1024

// MaxRW is the largest number of bytes that one call moves (MAX_RW_COUNT, R11).
const MaxRW = 0x7ffff000

// Local is one element of the caller's side of a vector.
type Local = unix.Iovec

// Remote is one element of the target's side of a vector.
type Remote = unix.RemoteIovec

// SetLocal points l at buf, which must not be empty.
func SetLocal(l *Local, buf []byte) {
	l.Base = &buf[0]
	l.SetLen(len(buf))
}

// VM is process_vm_readv(2), or process_vm_writev(2) if write. Both vectors hold
// one to IOVMax elements. It gives the bytes moved, or an error number and
// nothing moved.
func VM(write bool, pid int, local []Local, remote []Remote) (int, Errno) {
	trap := uintptr(unix.SYS_PROCESS_VM_READV)
	if write {
		trap = unix.SYS_PROCESS_VM_WRITEV
	}
	// Both arrays live for the whole call: they are arguments of the system call.
	n, _, errno := unix.Syscall6(trap, uintptr(pid),
		uintptr(unsafe.Pointer(&local[0])), uintptr(len(local)),
		uintptr(unsafe.Pointer(&remote[0])), uintptr(len(remote)), 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

// VMOne is VM for one range; buf must not be empty.
func VMOne(write bool, pid int, buf []byte, a uint64) (int, Errno) {
	var (
		local  Local
		remote Remote
	)
	SetLocal(&local, buf)
	remote.Base, remote.Len = uintptr(a), len(buf)
	trap := uintptr(unix.SYS_PROCESS_VM_READV)
	if write {
		trap = unix.SYS_PROCESS_VM_WRITEV
	}
	// Both elements live for the whole call: they are arguments of the system call.
	n, _, errno := unix.Syscall6(trap, uintptr(pid),
		uintptr(unsafe.Pointer(&local)), 1, uintptr(unsafe.Pointer(&remote)), 1, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}
