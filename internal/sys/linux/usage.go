// SPDX-License-Identifier: Apache-2.0

//go:build linux

package linux

import (
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// CPUTime gives the time that a process has run for, all of its threads together, those
// that have ended too (clock_gettime(2) of its CPU clock).
func CPUTime(pid int) (time.Duration, error) {
	const sched = 2 // CPUCLOCK_SCHED, of clock_getcpuclockid(3)
	var t unix.Timespec
	err := unix.ClockGettime(int32(^pid<<3|sched), &t)
	return time.Duration(t.Nano()), err
}

// Peak gives the most memory that a process that has ended had resident, in bytes.
func Peak(s *os.ProcessState) int64 {
	if u, ok := s.SysUsage().(*syscall.Rusage); ok {
		return int64(u.Maxrss) << 10
	}
	return 0
}
