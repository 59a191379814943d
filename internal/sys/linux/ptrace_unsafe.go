// SPDX-License-Identifier: Apache-2.0

//go:build linux

package linux

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

func signalInfo(tid int, info *unix.Siginfo) Errno {
	// info lives for the whole call: it is an argument of the system call.
	_, _, errno := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_GETSIGINFO, uintptr(tid), 0,
		uintptr(unsafe.Pointer(info)), 0, 0)
	return errno
}

// peek uses the system call itself, which stores the word at its fourth argument;
// the library's function returns it instead.
func peek(tid int, a uintptr, w *Word) Errno {
	// w lives for the whole call: it is an argument of the system call.
	_, _, errno := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_PEEKDATA, uintptr(tid), a,
		uintptr(unsafe.Pointer(w)), 0, 0)
	return errno
}
