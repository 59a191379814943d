// SPDX-License-Identifier: Apache-2.0

//go:build linux

package linux

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// DiesWithParent gives the attributes of a process in a group of its own that is
// killed when the thread that started it ends.
func DiesWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL, Setpgid: true}
}

// OwnGroup gives the attributes of a process in a group of its own: see KillGroup.
func OwnGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// KillGroup kills all processes of the group that a process began.
func KillGroup(pid int) Errno { return errnoOf(unix.Kill(-pid, unix.SIGKILL)) }

// OwnSession gives the attributes of a process in a session of its own, which no terminal
// sends signals to.
func OwnSession() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

// Lock takes the file's lock (flock) for this open file alone, and waits for it. It
// goes when the file is closed.
func Lock(f *os.File) Errno {
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if err != unix.EINTR {
			return errnoOf(err)
		}
	}
}

// TryLock is Lock, but gives EAGAIN where it would wait.
func TryLock(f *os.File) Errno { return errnoOf(unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)) }

// LimitFileSize bounds, for this process and its children, how long a file may become
// (RLIMIT_FSIZE).
func LimitFileSize(n uint64) Errno {
	return errnoOf(unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: n, Max: n}))
}

// BytesOnDisk gives what a file takes of its disk: less than its length if it has holes.
func BytesOnDisk(info os.FileInfo) int64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Blocks * 512
	}
	return info.Size()
}
