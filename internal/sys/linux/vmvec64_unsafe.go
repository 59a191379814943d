// SPDX-License-Identifier: Apache-2.0

//go:build linux && !(386 || arm || mips || mipsle)

package linux

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// VMVec is VMRaw with vectors at hand, of any length, whose elements name any address.
func VMVec[T ~struct{ Base, Len uint64 }](write bool, pid int, local, remote []T, flags uint64) (int, Errno) {
	// A T is a struct iovec here. Both arrays live for the whole call: they are arguments
	// of the system call.
	n, _, errno := unix.Syscall6(vmTrap(write), uintptr(pid),
		uintptr(unsafe.Pointer(unsafe.SliceData(local))), uintptr(len(local)), // see above
		uintptr(unsafe.Pointer(unsafe.SliceData(remote))), uintptr(len(remote)), // see above
		uintptr(flags))
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}
