// SPDX-License-Identifier: Apache-2.0

//go:build linux && 386

package linux

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

func offsetCall(trap uintptr, fd int, buf []byte, off uint64) (int, Errno) {
	// buf lives for the whole call: it is an argument of the system call.
	n, _, errno := unix.Syscall6(trap, uintptr(fd),
		uintptr(unsafe.Pointer(unsafe.SliceData(buf))), uintptr(len(buf)),
		uintptr(off&0xffffffff), uintptr(off>>32), 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

func seek(fd int, off uint64) Errno {
	var at int64
	// at lives for the whole call: it is an argument of the system call.
	_, _, errno := unix.Syscall6(unix.SYS__LLSEEK, uintptr(fd),
		uintptr(off>>32), uintptr(off&0xffffffff), uintptr(unsafe.Pointer(&at)), unix.SEEK_SET, 0)
	if off >= 1<<63 && errno == Errno(-uint32(off)) {
		// The kernel gives a position above 2^63 as its low half, even where
		// that is the same as an error number (_llseek in fs/read_write.c).
		return 0
	}
	return errno
}
