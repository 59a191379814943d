// SPDX-License-Identifier: Apache-2.0

//go:build linux

package linux

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// IOVMax is the largest number of elements in a vector (UIO_MAXIOV, R4).
const IOVMax = 1024

// MaxRW is the largest number of bytes that one call moves (MAX_RW_COUNT, R11).
const MaxRW = 0x7ffff000

// Local is one element of the caller's side of a vector.
type Local = unix.Iovec

// Remote is one element of the target's side of a vector.
type Remote = unix.RemoteIovec

// SetLocal points l at buf, which must not be empty.
func SetLocal(l *Local, buf []byte) {
	l.Base = &buf[0]
	l.SetLen(len(buf))
}

// Stream is the caller's side of a vector. To the kernel that is one stream of bytes, so
// buffers that lie one behind the other are one element. Addresses are made numbers here
// to compare them, and no number is made an address again.
type Stream struct {
	vec [IOVMax]Local
	n   int
	end uintptr // of the last element, whose length is set when that is known
}

// Add appends buf, which must not be empty, and gives the element that it is in.
func (s *Stream) Add(buf []byte) int {
	p := unsafe.SliceData(buf)               // cheaper than &buf[0], so that the compiler inlines Add
	if uintptr(unsafe.Pointer(p)) != s.end { // a number to compare
		s.open(p)
	}
	s.end += uintptr(len(buf))
	return s.n - 1
}

// open begins a new element at p.
func (s *Stream) open(p *byte) {
	s.shut()
	s.vec[s.n].Base = p
	s.end = uintptr(unsafe.Pointer(p)) // a number to compare
	s.n++
}

// shut sets the length of the last element.
func (s *Stream) shut() {
	if s.n > 0 {
		l := &s.vec[s.n-1]
		l.SetLen(int(s.end - uintptr(unsafe.Pointer(l.Base)))) // a difference
	}
}

// From gives the vector from buf on, which lies in element i. What comes before cannot
// be had any more.
func (s *Stream) From(i int, buf []byte) []Local {
	s.shut()
	l := &s.vec[i]
	// A difference of two addresses.
	l.SetLen(int(l.Len) - int(uintptr(unsafe.Pointer(&buf[0]))-uintptr(unsafe.Pointer(l.Base))))
	l.Base = &buf[0]
	return s.vec[i:s.n]
}

// Reset forgets all buffers.
func (s *Stream) Reset() {
	clear(s.vec[:s.n])
	s.n, s.end = 0, 0
}

// VM is process_vm_readv(2), or process_vm_writev(2) if write. Both vectors hold
// one to IOVMax elements. It gives the bytes moved, or an error number and
// nothing moved.
func VM(write bool, pid int, local []Local, remote []Remote) (int, Errno) {
	trap := uintptr(unix.SYS_PROCESS_VM_READV)
	if write {
		trap = unix.SYS_PROCESS_VM_WRITEV
	}
	// Both arrays live for the whole call: they are arguments of the system call.
	n, _, errno := unix.Syscall6(trap, uintptr(pid),
		uintptr(unsafe.Pointer(&local[0])), uintptr(len(local)),
		uintptr(unsafe.Pointer(&remote[0])), uintptr(len(remote)), 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

// VMOne is VM for one range; buf must not be empty.
func VMOne(write bool, pid int, buf []byte, a uint64) (int, Errno) {
	var (
		local  Local
		remote Remote
	)
	SetLocal(&local, buf)
	remote.Base, remote.Len = uintptr(a), len(buf)
	trap := uintptr(unix.SYS_PROCESS_VM_READV)
	if write {
		trap = unix.SYS_PROCESS_VM_WRITEV
	}
	// Both elements live for the whole call: they are arguments of the system call.
	n, _, errno := unix.Syscall6(trap, uintptr(pid),
		uintptr(unsafe.Pointer(&local)), 1, uintptr(unsafe.Pointer(&remote)), 1, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}
