// SPDX-License-Identifier: Apache-2.0

//go:build linux

package linux

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Mem is pread(2), or pwrite(2) if write, at an unsigned offset: the form that
// /proc/PID/mem takes. An offset from 2^63 up is EINVAL there (R67); see MemSeek.
func Mem(write bool, fd int, buf []byte, off uint64) (int, Errno) {
	trap := uintptr(unix.SYS_PREAD64)
	if write {
		trap = unix.SYS_PWRITE64
	}
	return offsetCall(trap, fd, buf, off)
}

// MemSeek is lseek(2) and read(2) or write(2): two calls, which reach offsets
// from 2^63 up. The descriptor's position is shared, so callers serialise.
//
// The last 4096 offsets cannot be told from the errors of lseek, and a transfer that
// reaches the last of them is EOVERFLOW. No process has memory there, so it is EIO,
// and a transfer up to there is cut short.
func MemSeek(write bool, fd int, buf []byte, off uint64) (int, Errno) {
	const errors = ^uint64(0) - 4095
	if off >= errors {
		return 0, EIO
	}
	buf = buf[:min(uint64(len(buf)), errors-off)]
	if errno := seek(fd, off); errno != 0 {
		return 0, errno
	}
	trap := uintptr(unix.SYS_READ)
	if write {
		trap = unix.SYS_WRITE
	}
	// buf lives for the whole call: it is an argument of the system call.
	n, _, errno := unix.Syscall(trap, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(buf))), uintptr(len(buf)))
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

// MemV is preadv(2): the buffers take the bytes from off on one after another. Both halves
// of the offset are passed on every machine; those of 64 bits drop the upper one
// (pos_from_hilo in fs/read_write.c).
func MemV(fd int, local []Local, off uint64) (int, Errno) {
	// The array lives for the whole call: it is an argument of the system call.
	n, _, errno := unix.Syscall6(unix.SYS_PREADV, uintptr(fd),
		uintptr(unsafe.Pointer(unsafe.SliceData(local))), uintptr(len(local)), uintptr(off), uintptr(off>>32), 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}
