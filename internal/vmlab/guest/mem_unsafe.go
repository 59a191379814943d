// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64 || riscv64)

package main

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// mapAt maps size bytes at addr, where nothing may be yet. fd is -1 for no file.
func mapAt(addr, size uint64, prot, flags, fd int) ([]byte, error) {
	// unsafe: an address that is nobody's yet; nothing is read through it here.
	want := *(*unsafe.Pointer)(unsafe.Pointer(&addr))
	p, err := unix.MmapPtr(fd, 0, want, uintptr(size), prot, flags|unix.MAP_FIXED_NOREPLACE)
	if err != nil {
		return nil, err
	}
	// unsafe: the mapping is of this size, outside Go's heap, and is never taken down.
	return unsafe.Slice((*byte)(p), size), nil
}

// addressOf gives where a mapping begins.
func addressOf(p []byte) uint64 {
	// unsafe: an address as a number.
	return uint64(uintptr(unsafe.Pointer(unsafe.SliceData(p))))
}

// pointerTo gives where a mapping begins, as the system calls take it.
func pointerTo(p []byte) unsafe.Pointer {
	// unsafe: a pointer into a mapping, which Go's collector leaves alone.
	return unsafe.Pointer(unsafe.SliceData(p))
}

// setName names the calling thread. The name ends with a zero.
func setName(name []byte) error {
	// unsafe: the kernel copies the name during the call.
	return unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(unsafe.SliceData(name))), 0, 0, 0)
}
