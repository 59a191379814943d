// SPDX-License-Identifier: Apache-2.0

//go:build linux

package linux

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// The protections and flags of MapAt, and the advice of Advise.
const (
	ProtNone  = unix.PROT_NONE
	ProtRead  = unix.PROT_READ
	ProtWrite = unix.PROT_WRITE
	ProtExec  = unix.PROT_EXEC

	MapPrivate   = unix.MAP_PRIVATE
	MapShared    = unix.MAP_SHARED
	MapAnonymous = unix.MAP_ANONYMOUS
	MapFixed     = unix.MAP_FIXED           // replaces what is there
	MapFree      = unix.MAP_FIXED_NOREPLACE // EEXIST where something is there
	MapNoReserve = unix.MAP_NORESERVE
	MapGrowsDown = unix.MAP_GROWSDOWN
	MapHugeTLB   = unix.MAP_HUGETLB // pages of the pool; ENOMEM where it has none

	AdviseDontNeed     = unix.MADV_DONTNEED
	AdviseHugePage     = unix.MADV_HUGEPAGE
	AdviseNoHugePage   = unix.MADV_NOHUGEPAGE
	AdvisePageOut      = unix.MADV_PAGEOUT
	AdviseGuardInstall = 102 // MADV_GUARD_INSTALL, since Linux 6.13
)

// MapAt is mmap(2) of this process.
func MapAt(a, size uint64, prot, flags, fd int, off int64) (uint64, Errno) {
	p, err := unix.MmapPtr(fd, off, pointer(a), uintptr(size), prot, flags)
	if err != nil {
		return 0, errnoOf(err)
	}
	return uint64(uintptr(p)), 0
}

// UnmapAt is munmap(2).
func UnmapAt(a, size uint64) Errno { return rangeCall(unix.SYS_MUNMAP, a, size, 0) }

// ProtectAt is mprotect(2).
func ProtectAt(a, size uint64, prot int) Errno { return rangeCall(unix.SYS_MPROTECT, a, size, prot) }

// Advise is madvise(2).
func Advise(a, size uint64, advice int) Errno { return rangeCall(unix.SYS_MADVISE, a, size, advice) }

// LockAt is mlock(2).
func LockAt(a, size uint64) Errno { return rangeCall(unix.SYS_MLOCK, a, size, 0) }

func rangeCall(trap uintptr, a, size uint64, arg int) Errno {
	_, _, errno := unix.Syscall(trap, uintptr(a), uintptr(size), uintptr(arg))
	return errno
}

// BytesAt is the memory of this process at a, which must be outside of Go's heap.
// It can be used for as long as it is mapped.
func BytesAt(a uint64, n int) []byte {
	// The memory is not Go's: the garbage collector neither moves nor frees it.
	return unsafe.Slice((*byte)(pointer(a)), n)
}

// pointer makes an address that came from the system into a pointer.
func pointer(a uint64) unsafe.Pointer {
	// Not into Go's heap, so there is no object that it could fail to keep alive.
	return unsafe.Add(nil, uintptr(a))
}
