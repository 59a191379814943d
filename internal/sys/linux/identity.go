// SPDX-License-Identifier: Apache-2.0

//go:build linux

package linux

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// RunAs gives the attributes of a process that runs with these ids, in no further
// group, with only the capabilities of those numbers.
func RunAs(uid, gid uint32, caps []uintptr) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{
		Credential:  &syscall.Credential{Uid: uid, Gid: gid, Groups: []uint32{}},
		AmbientCaps: caps,
	}
}

// Become changes the ids of every thread of this process, for good. With an id that
// is not 0 all capabilities are lost, and so is the dumpable flag (R54).
func Become(uid, gid int) Errno {
	if err := unix.Setgroups(nil); err != nil {
		return errnoOf(err)
	}
	if err := unix.Setresgid(gid, gid, gid); err != nil {
		return errnoOf(err)
	}
	return errnoOf(unix.Setresuid(uid, uid, uid))
}

// SetDumpable is PR_SET_DUMPABLE.
func SetDumpable(on bool) Errno {
	var v uintptr
	if on {
		v = 1
	}
	return errnoOf(unix.Prctl(unix.PR_SET_DUMPABLE, v, 0, 0, 0))
}

// ExecSelf is execve(2) of the program that runs, with the same arguments and
// environment. It returns only when that fails.
func ExecSelf() Errno { return errnoOf(unix.Exec("/proc/self/exe", os.Args, os.Environ())) }

// ExitThread ends the calling thread alone, which the goroutine must be locked to. The
// scheduler takes it for a system call that does not end.
func ExitThread() { _, _, _ = unix.Syscall(unix.SYS_EXIT, 0, 0, 0) }

// AwaitExit waits until a child of this process has exited, and leaves it a zombie.
func AwaitExit(pid int) Errno {
	for {
		var info unix.Siginfo
		err := unix.Waitid(unix.P_PID, pid, &info, unix.WEXITED|unix.WNOWAIT, nil)
		if err != unix.EINTR {
			return errnoOf(err)
		}
	}
}

// Memfd is memfd_create(2) with O_CLOEXEC: a file that has no name.
func Memfd(name string) (int, Errno) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	return fd, errnoOf(err)
}

// sysMemfdSecret has this number wherever it is there.
const sysMemfdSecret = 447

// MemfdSecret is memfd_secret(2): a file whose pages nobody else can reach, not even
// the kernel. ENOSYS: this one has none.
func MemfdSecret() (int, Errno) {
	fd, _, errno := unix.Syscall(sysMemfdSecret, unix.O_CLOEXEC, 0, 0)
	return int(fd), errno
}
