// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"fmt"
	"os"

	"github.com/remora-go/remora/internal/sys/linux"
)

// Facilities tries, on this process itself, what this package can make use of. What
// may be done to another process is another question.
func Facilities() []Facility {
	maps, _ := linux.Open("/proc/self/maps", linux.RDONLY)
	defer linux.Close(maps)
	pagemap, _ := linux.Open("/proc/self/pagemap", linux.RDONLY)
	defer linux.Close(pagemap)
	return []Facility{
		tryVMSelf(),
		tryMemFile(),
		tryForce(),
		tryPidfd(),
		tryPidfdThread(),
		tryQuery(maps),
		tryScan(pagemap),
		tryGuard(pagemap),
		tryMapFiles(),
	}
}

// found fills in the result of a try.
func (f Facility) found(errno linux.Errno, why string) Facility {
	if f.Works = errno == 0; f.Works {
		f.Remedy = ""
		return f
	}
	if f.Why = why; why == "" {
		f.Why = errno.Error()
	}
	return f
}

func tryVMSelf() Facility {
	f := Facility{Name: FacilityVM, Use: "the fastest way in, many ranges in one call",
		Remedy: "/proc/PID/mem is used instead; containers: allow it in the seccomp profile"}
	errno := tryVM(os.Getpid())
	if errno == 0 {
		return f.found(0, "")
	}
	return f.found(errno, whyNotVM(errno))
}

func tryMemFile() Facility {
	fd, errno := linux.Open("/proc/self/mem", linux.RDWR)
	linux.Close(fd)
	return Facility{Name: "/proc/PID/mem", Use: "the second way in, and the one that ignores protections",
		Remedy: "mount proc on /proc"}.found(errno, "")
}

// What is said where /proc/PID/mem heeds protections: since Linux 6.12 that can be chosen
// (proc_mem_foll_force in fs/proc/base.c), and stable kernels before it have it too.
const (
	noForce     = "this kernel lets /proc/PID/mem ignore no protection (proc_mem.force_override, CONFIG_PROC_MEM_*)"
	forceRemedy = "boot with proc_mem.force_override=always"
)

func tryForce() Facility {
	errno := linux.ForcedWrite()
	why := ""
	if errno == linux.EIO {
		why = noForce
	}
	return Facility{Name: "forced writes", Use: "writing read-only memory of another process through /proc/PID/mem",
		Remedy: "ptrace is used instead; or " + forceRemedy}.found(errno, why)
}

func tryPidfd() Facility {
	fd, errno := linux.PidfdOpen(os.Getpid(), 0)
	linux.Close(fd)
	return Facility{Name: "pidfd", Use: "holding a process, so that its number cannot come to mean another",
		Remedy: "needs Linux 5.3; containers: allow pidfd_open in the seccomp profile"}.found(errno, "")
}

func tryPidfdThread() Facility {
	fd, errno := linux.PidfdOpen(os.Getpid(), linux.PidfdThread)
	linux.Close(fd)
	return Facility{Name: "pidfd of a thread", Use: "holding a process by one of its threads",
		Remedy: "needs Linux 6.9; threads are held by their process instead"}.found(errno, "")
}

func tryQuery(maps int) Facility {
	q := linux.MapQuery{Flags: linux.QueryCoverNext}
	return Facility{Name: "PROCMAP_QUERY", Use: "asking for one mapping, and whether the address space still is the same",
		Remedy: "needs Linux 6.11; the map is read as text instead"}.found(linux.QueryMap(maps, &q), "")
}

func tryScan(pagemap int) Facility {
	_, _, errno := linux.ScanPages(pagemap, 0, uint64(os.Getpagesize()), linux.PagePresent, linux.PagePresent, make([]linux.PageRegion, 1))
	return Facility{Name: "PAGEMAP_SCAN", Use: "finding the pages that are present, for reading with Resident",
		Remedy: "needs Linux 6.7; pagemap is read page by page instead"}.found(errno, "")
}

// tryGuard makes a guard page, and looks whether it can be told from another page.
func tryGuard(pagemap int) Facility {
	f := Facility{Name: "guard pages", Use: "telling a guard page, which the map does not show, from other faults",
		Remedy: "needs Linux 6.15; the cause of such a fault stays open"}
	size := uint64(os.Getpagesize())
	a, errno := linux.MapAt(0, size, linux.ProtRead, linux.MapPrivate|linux.MapAnonymous, -1, 0)
	if errno != 0 {
		return f.found(errno, "")
	}
	defer linux.UnmapAt(a, size)
	if errno := linux.Advise(a, size, linux.AdviseGuardInstall); errno != 0 {
		f.Remedy = "needs Linux 6.13; without them there is nothing to tell apart"
		return f.found(errno, fmt.Sprintf("this kernel makes none (MADV_GUARD_INSTALL: %v)", errno))
	}
	var regions [1]linux.PageRegion
	n, _, errno := linux.ScanPages(pagemap, a, a+size, linux.PageGuard, linux.PageGuard, regions[:])
	if errno == 0 && n != 1 {
		errno = linux.ENOTSUP
	}
	return f.found(errno, fmt.Sprintf("PAGEMAP_SCAN does not show them (%v)", errno))
}

func tryMapFiles() Facility {
	f := Facility{Name: "map_files", Use: "telling a fault beyond the end of a file, and opening what is mapped",
		Remedy: "run as root, or give the program the capability: setcap cap_checkpoint_restore+ep PROGRAM"}
	file, err := os.Open("/proc/self/maps")
	if err != nil {
		return f.found(linux.EIO, err.Error())
	}
	defer file.Close()
	for reg, err := range ParseMaps(file) {
		switch {
		case err != nil:
			return f.found(linux.EIO, err.Error())
		case reg.Inode == 0:
			continue
		}
		_, errno := linux.StatMapped(os.Getpid(), uint64(reg.Start), uint64(reg.Last())+1)
		why := ""
		if errno == linux.EPERM || errno == linux.EACCES {
			why = "/proc/PID/map_files needs CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN"
		}
		return f.found(errno, why)
	}
	return f.found(linux.ENOENT, "no file is mapped")
}
