// SPDX-License-Identifier: Apache-2.0

//go:build linux

package linux

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// The bits of MapQuery.Flags and MapQuery.VMAFlags (enum procmap_query_flags in
// linux/fs.h).
const (
	VMARead        = 0x01
	VMAWrite       = 0x02
	VMAExec        = 0x04
	VMAShared      = 0x08 // VM_MAYSHARE
	QueryCoverNext = 0x10 // the mapping that holds the address, else the next one
	QueryFile      = 0x20
)

// MapQuery is struct procmap_query of the kernel, in its own layout.
type MapQuery struct {
	Size, Flags, Addr       uint64
	Start, End, VMAFlags    uint64
	PageSize, Offset, Inode uint64
	DevMajor, DevMinor      uint32
	NameSize, BuildIDSize   uint32
	Name, BuildID           kptr
}

// procmapQuery is PROCMAP_QUERY: _IOWR('f', 17, struct procmap_query).
const procmapQuery = 0xc0000000 | uint32(unsafe.Sizeof(MapQuery{}))<<16 | 'f'<<8 | 17

// QueryMap asks a /proc/PID/maps descriptor for the mapping at q.Addr (since
// Linux 6.11). ENOENT: none. ESRCH: that address space is gone. ENOTTY: this
// kernel cannot.
func QueryMap(fd int, q *MapQuery) Errno {
	q.Size = uint64(unsafe.Sizeof(*q))
	// q lives for the whole call: it is an argument of the system call.
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(procmapQuery), uintptr(unsafe.Pointer(q)))
	return errno
}

// QueryMapName is QueryMap with room for the name, which is what the maps file
// shows: the first q.NameSize bytes, of which the last is NUL. Where there is no name
// that is 0, and name is left as it was.
func QueryMapName(fd int, q *MapQuery, name []byte) Errno {
	q.NameSize = uint32(len(name))
	q.Name.p = unsafe.Pointer(unsafe.SliceData(name)) // q is alive while the kernel fills name
	errno := QueryMap(fd, q)
	q.Name.p = nil
	return errno
}
