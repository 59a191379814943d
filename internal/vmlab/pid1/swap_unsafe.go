// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64 || riscv64)

package pid1

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// swapOnFile is swapon(2).
func swapOnFile(name string) error {
	p, err := unix.BytePtrFromString(name)
	if err != nil {
		return err
	}
	// unsafe: the kernel copies the name during the call.
	if _, _, e := unix.Syscall(unix.SYS_SWAPON, uintptr(unsafe.Pointer(p)), 0, 0); e != 0 {
		return e
	}
	return nil
}
