// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64 || riscv64 || s390x || ppc64le || loong64 || mips64 || mips64le || ppc64)

package linux

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

func offsetCall(trap uintptr, fd int, buf []byte, off uint64) (int, Errno) {
	// buf lives for the whole call: it is an argument of the system call.
	n, _, errno := unix.Syscall6(trap, uintptr(fd),
		uintptr(unsafe.Pointer(unsafe.SliceData(buf))), uintptr(len(buf)), uintptr(off), 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

// seek sets the position. The result is an offset, not an error, also where it
// reads as a negative number: only EINVAL and the like are failures.
func seek(fd int, off uint64) Errno {
	at, _, errno := unix.Syscall(unix.SYS_LSEEK, uintptr(fd), uintptr(off), unix.SEEK_SET)
	if errno != 0 && at != uintptr(off) {
		return errno
	}
	return 0
}
