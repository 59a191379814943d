// SPDX-License-Identifier: Apache-2.0

//go:build linux

package linux

import (
	"encoding/binary"
	"os"

	"golang.org/x/sys/unix"
)

// WordSize is the number of bytes that one PEEK or POKE moves: those of a pointer
// of this build (man 2 ptrace).
const WordSize = 4 << (^uintptr(0) >> 63)

// Word is one word of the target's memory, in the order of its bytes there.
type Word [WordSize]byte

// ERANGE is also given here for an address that does not fit a pointer of this
// build: it is refused, never cut short.
const ERANGE = unix.ERANGE

// stopEvent is PTRACE_EVENT_STOP, the event of every stop of a seized thread that
// is not the delivery of a signal: PTRACE_INTERRUPT and group-stop.
const stopEvent = unix.PTRACE_EVENT_STOP

func ptrace(request, tid int, addr, data uintptr) Errno {
	_, _, errno := unix.Syscall6(unix.SYS_PTRACE, uintptr(request), uintptr(tid), addr, data, 0, 0)
	return errno
}

// Seize is PTRACE_SEIZE without options: the thread runs on, and is let go when the
// calling thread ends. It may block while the target is inside execve(2). EPERM:
// not permitted, or traced already, or a zombie. ESRCH: no such thread.
func Seize(tid int) Errno { return ptrace(unix.PTRACE_SEIZE, tid, 0, 0) }

// Interrupt is PTRACE_INTERRUPT: it asks a seized thread to stop, and does not wait.
// ESRCH: it is not a tracee of the calling thread.
func Interrupt(tid int) Errno { return ptrace(unix.PTRACE_INTERRUPT, tid, 0, 0) }

// Cont is PTRACE_CONT: the stopped thread runs on, with signal sig delivered, if
// that is not 0.
func Cont(tid, sig int) Errno { return ptrace(unix.PTRACE_CONT, tid, 0, uintptr(sig)) }

// Detach is PTRACE_DETACH without a signal: the stopped thread is let go, back into
// group-stop if its process is in one. ESRCH: it is not stopped, or has been killed.
func Detach(tid int) Errno { return ptrace(unix.PTRACE_DETACH, tid, 0, 0) }

// Stopped says how a thread that the calling thread traces is stopped: with sig 0 by
// a stop event, else at the delivery of signal sig. ESRCH: it is not stopped. It
// is PTRACE_GETSIGINFO, and so leaves what wait(2) would report unreported.
func Stopped(tid int) (sig int, errno Errno) {
	var info unix.Siginfo
	if errno := signalInfo(tid, &info); errno != 0 {
		return 0, errno
	}
	// A stop event has the exit code of the stop as its code (ptrace_do_notify).
	if info.Code == info.Signo|stopEvent<<8 {
		return 0, 0
	}
	return int(info.Signo), 0
}

// Peek is PTRACE_PEEKDATA: one word from a stopped thread's memory, whatever its
// protection. EIO: some byte of it cannot be read. ERANGE: see there.
func Peek(tid int, a uint64, w *Word) Errno {
	if a > uint64(^uintptr(0)) {
		return ERANGE
	}
	return peek(tid, uintptr(a), w)
}

// Poke is PTRACE_POKEDATA: one word into a stopped thread's memory, whatever its
// protection. EIO: some byte of it cannot be written, but those before it may have
// been, unless the word is aligned (R70).
func Poke(tid int, a uint64, w *Word) Errno {
	if a > uint64(^uintptr(0)) {
		return ERANGE
	}
	var v uintptr
	if WordSize == 8 {
		v = uintptr(binary.NativeEndian.Uint64(w[:]))
	} else {
		v = uintptr(binary.NativeEndian.Uint32(w[:]))
	}
	return ptrace(unix.PTRACE_POKEDATA, tid, uintptr(a), v)
}

// TakeStop takes the report of a stop, if there is one, from the queue of wait(2),
// so that nobody else who waits for this thread gets it. It never blocks and never
// reaps.
func TakeStop(tid int) {
	var info unix.Siginfo
	_ = unix.Waitid(unix.P_PID, tid, &info, unix.WSTOPPED|unix.WNOHANG|unix.WALL, nil)
}

// Reap takes the exit status of one traced thread, if it has ended, and says
// whether it had. It never blocks. It must not be used on the leader of a
// thread group, whose status belongs to its parent.
func Reap(tid int) bool {
	const options = unix.WEXITED | unix.WNOHANG | unix.WALL
	var info unix.Siginfo
	// A stopped tracee is reported whatever the options (wait_task_stopped), so look
	// first and leave such a report where it is.
	err := unix.Waitid(unix.P_PID, tid, &info, options|unix.WNOWAIT, nil)
	if err != nil || info.Signo == 0 || info.Code > cldDumped {
		return false
	}
	return unix.Waitid(unix.P_PID, tid, &info, options, nil) == nil
}

// cldDumped is CLD_DUMPED, the last of the codes of SIGCHLD that mean an end.
const cldDumped = 3

// ThreadID is the number of the calling thread: gettid(2).
func ThreadID() int { return unix.Gettid() }

// ThreadEnded says whether a thread of this process is no more.
func ThreadEnded(tid int) bool {
	return unix.Tgkill(os.Getpid(), tid, 0) == unix.ESRCH
}

// AppendTasks appends the numbers of the threads that an open /proc/PID/task lists
// to ids. buf is scratch of at least 512 bytes. The list is that of one moment only
// while no thread begins or ends. ENOENT: the process is gone.
func AppendTasks(ids []int, fd int, buf []byte) ([]int, Errno) {
	if _, err := unix.Seek(fd, 0, unix.SEEK_SET); err != nil {
		return ids, errnoOf(err)
	}
	for {
		n, err := unix.Getdents(fd, buf)
		if err != nil || n <= 0 {
			return ids, errnoOf(err)
		}
		for rest := buf[:n]; len(rest) > direntName; {
			size := int(binary.NativeEndian.Uint16(rest[direntSize:]))
			if size <= direntName || size > len(rest) {
				return ids, EIO
			}
			if id := decimal(rest[direntName:size]); id > 0 {
				ids = append(ids, id)
			}
			rest = rest[size:]
		}
	}
}

// Offsets in struct linux_dirent64 (man 2 getdents).
const (
	direntSize = 16
	direntName = 19
)

// decimal gives the number that b names up to a NUL, or 0 if it is not one.
func decimal(b []byte) int {
	id := 0
	for _, c := range b {
		switch {
		case c == 0:
			return id
		case c < '0' || c > '9' || id > 1<<26:
			return 0
		}
		id = id*10 + int(c-'0')
	}
	return id
}
