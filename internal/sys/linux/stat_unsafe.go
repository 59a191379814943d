// SPDX-License-Identifier: Apache-2.0

//go:build linux

package linux

import (
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// FileStat is what a mapping needs to know of its file.
type FileStat struct {
	Size               uint64 // bytes
	Blocks             uint64 // of 512 bytes that are allocated
	Inode              uint64
	DevMajor, DevMinor uint32
	Device             bool // a character or block device
	Regular            bool
}

// StatMapped gives the file mapped at [start, end) in a process, by
// /proc/PID/map_files (which needs CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE, else
// EPERM). It allocates nothing.
func StatMapped(pid int, start, end uint64) (FileStat, Errno) {
	var room [64]byte
	path := append(room[:0], "/proc/"...)
	path = strconv.AppendInt(path, int64(pid), 10)
	path = append(path, "/map_files/"...)
	path = strconv.AppendUint(path, start, 16)
	path = append(path, '-')
	path = strconv.AppendUint(path, end, 16)
	return statx(unix.AT_FDCWD, append(path, 0), 0)
}

// StatPath gives the file that a path leads to.
func StatPath(path string) (FileStat, Errno) {
	return statx(unix.AT_FDCWD, append([]byte(path), 0), 0)
}

// StatFile gives the file behind a descriptor.
func StatFile(fd int) (FileStat, Errno) { return statx(fd, []byte{0}, unix.AT_EMPTY_PATH) }

// statx is statx(2) of a path that ends with a NUL.
func statx(at int, path []byte, flags int) (FileStat, Errno) {
	var st unix.Statx_t
	// path and st live for the whole call: they are arguments of the system call.
	_, _, errno := unix.Syscall6(unix.SYS_STATX, uintptr(at), uintptr(unsafe.Pointer(&path[0])), uintptr(flags),
		unix.STATX_SIZE|unix.STATX_INO|unix.STATX_TYPE|unix.STATX_BLOCKS, uintptr(unsafe.Pointer(&st)), 0)
	if errno != 0 {
		return FileStat{}, errno
	}
	kind := st.Mode & unix.S_IFMT
	return FileStat{
		Size: st.Size, Blocks: st.Blocks, Inode: st.Ino, DevMajor: st.Dev_major, DevMinor: st.Dev_minor,
		Device: kind == unix.S_IFCHR || kind == unix.S_IFBLK, Regular: kind == unix.S_IFREG,
	}, 0
}

// FileSystem tells the kinds of file system that matter to a mapping.
type FileSystem uint8

// The kinds of file system.
const (
	OnStorage FileSystem = iota
	InMemory             // tmpfs, memfd, shared memory
	Secret               // memfd_secret: not for others to read
)

// FileSystemOf gives the kind of file system behind a descriptor.
func FileSystemOf(fd int) (FileSystem, Errno) {
	const secretMem = 0x5345434d // SECRETMEM_MAGIC in linux/magic.h
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil {
		return 0, errnoOf(err)
	}
	switch int64(st.Type) {
	case unix.TMPFS_MAGIC:
		return InMemory, 0
	case secretMem:
		return Secret, 0
	}
	return OnStorage, 0
}

// FileSystemMagic gives the number that names the kind of file system behind a
// descriptor (statfs(2), linux/magic.h).
func FileSystemMagic(fd int) (uint32, Errno) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil {
		return 0, errnoOf(err)
	}
	return uint32(st.Type), 0 // 32 bits, whatever the width and sign of the field
}

// ForcedWrite writes through /proc/self/mem to a page of our own that is mapped
// read-only. OK: this kernel lets /proc/PID/mem ignore protections. EIO: it does
// not (proc_mem.force_override, CONFIG_PROC_MEM_*).
func ForcedWrite() Errno {
	page, err := unix.Mmap(-1, 0, unix.Getpagesize(), unix.PROT_READ, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return errnoOf(err)
	}
	defer unix.Munmap(page)
	fd, errno := Open("/proc/self/mem", RDWR)
	if errno != 0 {
		return errno
	}
	defer Close(fd)
	// The address stays valid: the page is unmapped only on return.
	_, errno = Mem(true, fd, []byte{1}, uint64(uintptr(unsafe.Pointer(&page[0]))))
	if errno == 0 && page[0] != 1 {
		return EIO
	}
	return errno
}
