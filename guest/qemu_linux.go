// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"fmt"
	"os"
	"time"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/access"
	"github.com/remora-go/remora/internal/sys/linux"
)

// mapRegion maps here what a region of the process maps, and gives 0 where it cannot.
func mapRegion(pid int, r *remora.Region) uint64 {
	fd, ok := linux.OpenMapped(pid, uint64(r.Start), uint64(r.Start)+r.Size, r.Inode, r.Major, r.Minor)
	if !ok {
		return 0
	}
	defer linux.Close(fd)
	st, errno := linux.StatFile(fd)
	if errno != 0 || !st.Regular || st.Inode != r.Inode || st.DevMajor != r.Major || st.DevMinor != r.Minor {
		return 0
	}
	base, errno := linux.MapAt(0, r.Size, linux.ProtRead, linux.MapShared|linux.MapNoReserve, fd, int64(r.Offset))
	if errno != 0 {
		return 0
	}
	return base
}

func unmap(base, size uint64) { linux.UnmapAt(base, size) }

// copyMapped copies memory that is mapped here, as a part of a read of whole bytes, and says
// whether all of it was there.
func copyMapped(dst []byte, from uint64, whole int) bool {
	_, ok := linux.CopyMapped(dst, from, whole)
	return ok
}

// touchMapped brings the bytes at addresses that are mapped here into the caches.
func touchMapped(places []uint64) { linux.TouchMapped(places) }

// near is how many bytes a read has at most for which it matters how many they are.
const near = linux.Near

// processOf gives the process that a thread belongs to, 0 if there is none.
func processOf(tid int) int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", tid))
	if err != nil {
		return 0
	}
	st, err := access.ParseStatus(b)
	if err != nil {
		return 0
	}
	return st.Tgid
}

// watchProcess sees to it that the exit of QEMU's process is noticed when it happens.
func (q *QEMU) watchProcess() {
	if q.process == nil {
		return
	}
	fd, errno := linux.PidfdOpen(q.pid, linux.PidfdNonblock)
	if errno != 0 {
		return // the connection tells
	}
	f := os.NewFile(uintptr(fd), "pidfd")
	raw, err := f.SyscallConn()
	if err != nil {
		f.Close()
		return
	}
	if linux.PidfdExited(fd) {
		q.lose("QEMU has exited")
	}
	q.watch.stop = func() { f.SetReadDeadline(time.Unix(1, 0)) }
	q.watch.tasks.Go(func() {
		defer f.Close()
		if raw.Read(func(fd uintptr) bool { return linux.PidfdExited(int(fd)) }) == nil {
			q.lose("QEMU has exited")
		}
	})
}

// memoryFile gives a file that has no name here.
func memoryFile(name string) (*os.File, error) {
	fd, errno := linux.Memfd(name)
	if errno != 0 {
		return nil, fmt.Errorf("memfd_create: %w", errno)
	}
	return os.NewFile(uintptr(fd), name), nil
}
