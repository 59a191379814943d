// SPDX-License-Identifier: Apache-2.0

//go:build linux

package linux

import "golang.org/x/sys/unix"

// PidfdThread lets a pidfd name one thread (PIDFD_THREAD, since Linux 6.9).
const PidfdThread = unix.O_EXCL

// PidfdNonblock lets a pidfd be waited for without a thread (PIDFD_NONBLOCK, Linux 5.10).
const PidfdNonblock = unix.PIDFD_NONBLOCK

// PidfdOpen is pidfd_open(2).
func PidfdOpen(pid, flags int) (int, Errno) {
	fd, err := unix.PidfdOpen(pid, flags)
	return fd, errnoOf(err)
}

// PidfdExited says whether what the pidfd names has exited. It never blocks.
func PidfdExited(fd int) bool {
	fds := [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(fds[:], 0)
		if err == unix.EINTR {
			continue
		}
		return n != 0 || err != nil
	}
}

// Open is open(2) with O_CLOEXEC.
func Open(path string, flags int) (int, Errno) {
	for {
		fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0)
		if err != unix.EINTR {
			return fd, errnoOf(err)
		}
	}
}

// The flags of Open.
const (
	RDONLY = unix.O_RDONLY
	RDWR   = unix.O_RDWR
)

// Close is close(2); a negative descriptor is ignored.
func Close(fd int) {
	if fd >= 0 {
		_ = unix.Close(fd)
	}
}

// errnoOf gives the number in an error of x/sys.
func errnoOf(err error) Errno {
	if err == nil {
		return 0
	}
	if errno, ok := err.(Errno); ok {
		return errno
	}
	return EIO
}
