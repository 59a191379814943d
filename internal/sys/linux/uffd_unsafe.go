// SPDX-License-Identifier: Apache-2.0

//go:build linux

package linux

import (
	"encoding/binary"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The requests of a userfaultfd (linux/userfaultfd.h).
const (
	uffdAPI        = 0xc018aa3f // UFFDIO_API
	uffdRegister   = 0xc020aa00 // UFFDIO_REGISTER
	uffdUnregister = 0x8010aa01 // UFFDIO_UNREGISTER
	uffdCopy       = 0xc028aa03 // UFFDIO_COPY

	uffdVersion     = 0xaa
	uffdMissing     = 1    // UFFDIO_REGISTER_MODE_MISSING
	uffdPagefault   = 0x12 // UFFD_EVENT_PAGEFAULT
	uffdMessageSize = 32   // struct uffd_msg
)

// UserFault is userfaultfd(2), ready for use, and not blocking. EPERM: only the
// privileged may serve the faults of the kernel (vm.unprivileged_userfaultfd).
func UserFault() (int, Errno) {
	fd, _, errno := unix.Syscall(unix.SYS_USERFAULTFD, unix.O_CLOEXEC|unix.O_NONBLOCK, 0, 0)
	if errno != 0 {
		return -1, errno
	}
	if errno := uffdCall(int(fd), uffdAPI, &[5]uint64{uffdVersion}); errno != 0 {
		Close(int(fd))
		return -1, errno
	}
	return int(fd), 0
}

// UserFaultRegister has the accesses to pages that are not there wait for
// UserFaultCopy, in memory of this process.
func UserFaultRegister(fd int, a, size uint64) Errno {
	return uffdCall(fd, uffdRegister, &[5]uint64{a, size, uffdMissing})
}

// UserFaultUnregister ends what UserFaultRegister began. Those who wait go on, to
// find a page of zeros.
func UserFaultUnregister(fd int, a, size uint64) Errno {
	return uffdCall(fd, uffdUnregister, &[5]uint64{a, size})
}

// uffdCopyArg is struct uffdio_copy of the kernel, in its own layout.
type uffdCopyArg struct {
	dst               uint64
	src               kptr
	size, mode, moved uint64
}

// UserFaultCopy puts page at a, and wakes who waits for it. EEXIST: a page is there.
func UserFaultCopy(fd int, a uint64, page []byte) Errno {
	arg := uffdCopyArg{dst: a, size: uint64(len(page))}
	arg.src.p = unsafe.Pointer(unsafe.SliceData(page)) // arg is alive while the kernel reads page
	// arg lives for the whole call: it is an argument of the system call.
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uffdCopy, uintptr(unsafe.Pointer(&arg)))
	return errno
}

// UserFaultNext gives the address of the next access that waits, and has not been
// given before. EAGAIN: there is none.
func UserFaultNext(fd int) (a uint64, write bool, errno Errno) {
	var msg [uffdMessageSize]byte
	for {
		n, err := unix.Read(fd, msg[:])
		switch {
		case err != nil:
			return 0, false, errnoOf(err)
		case n < len(msg):
			return 0, false, EIO
		case msg[0] == uffdPagefault:
			return binary.NativeEndian.Uint64(msg[16:]), msg[8]&1 != 0, 0
		}
	}
}

func uffdCall(fd int, request uintptr, arg *[5]uint64) Errno {
	// arg lives for the whole call: it is an argument of the system call.
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(unsafe.Pointer(arg)))
	return errno
}
