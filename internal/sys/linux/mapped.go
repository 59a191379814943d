// SPDX-License-Identifier: Apache-2.0

//go:build linux

package linux

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
)

// Near is how many bytes a read has at most of which the result is best left in the
// processor's caches. A larger one takes half as long if it goes past them, one that they
// hold takes that much longer.
const Near = 8 << 20

// pastCaches is from how many bytes on the runtime makes a copy past the caches.
const pastCaches = 1 << 20

// CopyMapped fills dst from memory that is mapped here, from an address on. It is a part of
// a read of whole bytes. Where a page cannot be had, which is a SIGBUS, ok is false, fault is
// an address in that page, and dst is spoilt: the file was cut short, or is damaged there.
func CopyMapped(dst []byte, from uint64, whole int) (fault uint64, ok bool) {
	old := debug.SetPanicOnFault(true)
	defer func() {
		debug.SetPanicOnFault(old)
		if e, faulted := recover().(interface{ Addr() uintptr }); faulted {
			fault, ok = uint64(e.Addr()), false
		}
	}()
	src := BytesAt(from, len(dst))
	if whole <= Near {
		for len(dst) >= pastCaches {
			n := copy(dst[:pastCaches/2], src)
			dst, src = dst[n:], src[n:]
		}
	}
	copy(dst, src)
	return 0, true
}

// TouchMapped loads the bytes at addresses that are mapped here, so that copies from there find
// them in the caches: no load waits for the one before it, as copies do. Where one faults it
// gives up; CopyMapped will tell.
func TouchMapped(places []uint64) {
	old := debug.SetPanicOnFault(true)
	defer func() {
		debug.SetPanicOnFault(old)
		_ = recover()
	}()
	sum := byte(0)
	for _, a := range places {
		sum += BytesAt(a, 1)[0]
	}
	runtime.KeepAlive(sum) // or the loads would be left out as useless
}

// OpenMapped opens, for reading, the file that a process maps at [start, end): by its
// entry in map_files, which needs a capability, else by a descriptor that the process has
// of a file with that inode. ok is false where neither can be had. By the time it is open
// the process may map something else there.
func OpenMapped(pid int, start, end, inode uint64, major, minor uint32) (fd int, ok bool) {
	if fd, errno := Open(fmt.Sprintf("/proc/%d/map_files/%x-%x", pid, start, end), RDONLY); errno == 0 {
		return fd, true
	}
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return -1, false
	}
	for _, e := range entries {
		path := dir + "/" + e.Name()
		st, errno := StatPath(path)
		if errno != 0 || !st.Regular || st.Inode != inode || st.DevMajor != major || st.DevMinor != minor {
			continue
		}
		if fd, errno := Open(path, RDONLY); errno == 0 {
			return fd, true
		}
	}
	return -1, false
}
