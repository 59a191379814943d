// SPDX-License-Identifier: Apache-2.0

//go:build linux

package linux

import "golang.org/x/sys/unix"

// Place lets a thread run on those processors alone, or on any when none is named
// (sched_setaffinity(2)).
func Place(tid int, cpus ...int) error {
	var set unix.CPUSet
	for _, cpu := range cpus {
		set.Set(cpu)
	}
	if len(cpus) == 0 {
		set.Fill()
	}
	return unix.SchedSetaffinity(tid, &set)
}
