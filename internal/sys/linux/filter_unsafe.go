// SPDX-License-Identifier: Apache-2.0

//go:build linux

package linux

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// RefuseVM has process_vm_readv and process_vm_writev fail with errno in every
// thread of this process, and in what it executes, for good: seccomp(2).
func RefuseVM(errno Errno) Errno {
	const (
		load  = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		equal = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		ret   = unix.BPF_RET | unix.BPF_K
	)
	program := []unix.SockFilter{
		{Code: load, K: 0}, // seccomp_data.nr
		{Code: equal, K: unix.SYS_PROCESS_VM_READV, Jt: 2},
		{Code: equal, K: unix.SYS_PROCESS_VM_WRITEV, Jt: 1},
		{Code: ret, K: unix.SECCOMP_RET_ALLOW},
		{Code: ret, K: unix.SECCOMP_RET_ERRNO | uint32(errno)},
	}
	runtime.LockOSThread() // the flag is the thread's; TSYNC gives it to the others
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return errnoOf(err)
	}
	prog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	// prog, and what it points at, live for the whole call: it is an argument of it.
	r, _, e := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&prog)))
	if e == 0 && r != 0 { // the id of a thread that could not be brought along
		return EAGAIN
	}
	return e
}
