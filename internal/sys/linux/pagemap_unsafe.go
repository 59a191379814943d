// SPDX-License-Identifier: Apache-2.0

//go:build linux

package linux

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// The page categories of PAGEMAP_SCAN (linux/fs.h).
const (
	PagePresent = 1 << 3
	PageSwapped = 1 << 4
	PageZero    = 1 << 5 // the shared zero page
	PageGuard   = 1 << 8 // since Linux 6.15
)

// PageRegion is struct page_region: a run of pages of the same categories.
type PageRegion struct{ Start, End, Categories uint64 }

// pmScanArg is struct pm_scan_arg of the kernel, in its own layout.
type pmScanArg struct {
	size, flags, start, end, walkEnd uint64
	vec                              kptr
	vecLen, maxPages                 uint64
	inverted, mask, anyOf, returned  uint64
}

// pagemapScan is PAGEMAP_SCAN: _IOWR('f', 16, struct pm_scan_arg).
const pagemapScan = 0xc0000000 | uint32(unsafe.Sizeof(pmScanArg{}))<<16 | 'f'<<8 | 16

// ScanPages asks a /proc/PID/pagemap descriptor for the runs of pages in
// [start, end) that have any category in anyOf, and reports those in report (since
// Linux 6.7). It gives the number of regions, and the address where the walk ended:
// end, or less when regions is full.
func ScanPages(fd int, start, end, anyOf, report uint64, regions []PageRegion) (n int, walked uint64, errno Errno) {
	arg := pmScanArg{start: start, end: end, anyOf: anyOf, returned: report, vecLen: uint64(len(regions))}
	arg.vec.p = unsafe.Pointer(unsafe.SliceData(regions)) // arg is alive while the kernel fills regions
	arg.size = uint64(unsafe.Sizeof(arg))
	// arg lives for the whole call: it is an argument of the system call.
	r, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(pagemapScan), uintptr(unsafe.Pointer(&arg)))
	if errno != 0 {
		return 0, start, errno
	}
	return int(r), arg.walkEnd, 0
}

// SpaceUsed asks a /proc/PID/pagemap descriptor whether the address space has a user still:
// OK if so, ESRCH if not. The kernel looks for one before anything else, and takes no lock
// (pagemap_read in fs/proc/task_mmu.c). What is asked for is a single byte, which is no entry: EINVAL,
// or nothing at all where there is no user.
func SpaceUsed(fd int) Errno {
	var b [1]byte
	n, errno := offsetCall(unix.SYS_PREAD64, fd, b[:], 0)
	switch {
	case errno == EINVAL:
		return OK
	case errno == 0 && n == 0:
		return ESRCH
	case errno == 0: // the kernel has come to give parts of entries
		return ENOTSUP
	}
	return errno
}
