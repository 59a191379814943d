// SPDX-License-Identifier: Apache-2.0

//go:build linux && (386 || arm || mips || mipsle)

package linux

import (
	"math"
	"unsafe"

	"golang.org/x/sys/unix"
)

// VMVec is VMRaw with vectors at hand, of any length, whose elements name any address. What
// a 32-bit system cannot name stands for its last address, or for a length that is negative.
func VMVec[T ~struct{ Base, Len uint64 }](write bool, pid int, local, remote []T, flags uint64) (int, Errno) {
	type element struct{ base, size uint32 }
	narrow := func(vec []T) []element {
		if len(vec) > IOVMax {
			return nil // its number alone is looked at
		}
		narrowed := make([]element, len(vec), len(vec)+1)
		for i := range vec {
			v := struct{ Base, Len uint64 }(vec[i])
			narrowed[i] = element{uint32(min(v.Base, math.MaxUint32)), uint32(min(v.Len, math.MaxUint32))}
		}
		return narrowed
	}
	l, r := narrow(local), narrow(remote)
	// Both arrays live for the whole call: they are arguments of the system call.
	n, _, errno := unix.Syscall6(vmTrap(write), uintptr(pid),
		uintptr(unsafe.Pointer(unsafe.SliceData(l))), uintptr(len(local)), // see above
		uintptr(unsafe.Pointer(unsafe.SliceData(r))), uintptr(len(remote)), // see above
		uintptr(flags))
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}
