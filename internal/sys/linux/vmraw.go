// SPDX-License-Identifier: Apache-2.0

//go:build linux

package linux

import "golang.org/x/sys/unix"

// VMRaw is VM with every argument as given, right or wrong: in registers, so what
// does not fit into one is cut off. Memory that the vectors name is the caller's to keep.
func VMRaw(write bool, pid, lvec, liovcnt, rvec, riovcnt, flags uint64) (int, Errno) {
	n, _, errno := unix.Syscall6(vmTrap(write), uintptr(pid), uintptr(lvec), uintptr(liovcnt), uintptr(rvec), uintptr(riovcnt), uintptr(flags))
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

func vmTrap(write bool) uintptr {
	if write {
		return unix.SYS_PROCESS_VM_WRITEV
	}
	return unix.SYS_PROCESS_VM_READV
}
