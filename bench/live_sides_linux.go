// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"time"

	"github.com/remora-go/remora/bench/internal/measure"
)

// The names of sides.
const (
	byRemora    = "Remora"
	byUnchecked = "Remora, Unchecked"
	byTwo       = "Remora, two threads"
	byVM        = "process_vm_readv in C"
	byVMWrite   = "process_vm_writev in C"
	byVMTwo     = "process_vm_readv in C, two threads"
	byEach      = "process_vm_readv in C, one call a range"
	byMem       = "/proc/PID/mem in C"
	byMemEach   = "/proc/PID/mem in C, one call a range"
	byPages     = "process_vm_readv in C, one call a page"
	byXSys      = "x/sys in Go"
	byDelve     = "Delve"
	byGDB       = "gdb"
	byCopy      = "memcpy in C"
	byCall      = "getppid in C"
)

// way is how a side does work of some kind.
type way struct {
	name, program string
	verb          string
	how           string
}

// kinds are the ways to do work of each kind, Remora's first. What they are asked is the verb
// and what follows it is the same for all.
func kinds() map[string][]way {
	const (
		delve = "pkg/proc/native of Delve, attached before (its CPU time has that): Memory().ReadMemory"
		gdb   = "Inferior.read_memory in gdb's Python, attached before (its CPU time has that)"
	)
	return map[string][]way{
		"read": {
			{byRemora, "remora", "read", "Memory.ReadV"},
			{byUnchecked, "remora-unchecked", "read", "Memory.ReadV, opened with Unchecked"},
			{byTwo, "remora-2", "read", "Memory.ReadV, opened with Parallel: 2"},
			{byVM, "C", "read", "process_vm_readv(2)"},
			{byMem, "C", "pread", "pread(2) of /proc/PID/mem"},
			{byPages, "C", "pages", "process_vm_readv(2) of each page by itself"},
			{byXSys, "x/sys", "read", "unix.ProcessVMReadv"},
			{byDelve, "delve", "read", delve},
			{byGDB, "gdb", "read", gdb},
		},
		"write": {
			{byRemora, "remora", "write", "Memory.WriteV"},
			{byVMWrite, "C", "write", "process_vm_writev(2)"},
			{byMem, "C", "pwrite", "pwrite(2) of /proc/PID/mem"},
			{byXSys, "x/sys", "write", "unix.ProcessVMWritev"},
			{byDelve, "delve", "write", "pkg/proc/native of Delve, attached before: Memory().WriteMemory"},
			{byGDB, "gdb", "write", "Inferior.write_memory in gdb's Python, attached before"},
		},
		"ranges": {
			{byRemora, "remora", "scatter", "Memory.ReadV of all ranges in one call"},
			{byUnchecked, "remora-unchecked", "scatter", "Memory.ReadV of all ranges in one call, opened with Unchecked"},
			{byVM, "C", "vector", "process_vm_readv(2) of 1,024 ranges a call, and on behind each that faults"},
			{byEach, "C", "each", "process_vm_readv(2) of each range by itself"},
			{byMemEach, "C", "preach", "pread(2) of /proc/PID/mem of each range by itself"},
			{byXSys, "x/sys", "vector", "unix.ProcessVMReadv of 1,024 ranges a call, and on behind each that faults"},
			{byDelve, "delve", "each", delve + " of each range by itself"},
			{byGDB, "gdb", "each", gdb + ", of each range by itself"},
		},
		"space": {
			{byRemora, "remora", "space", "Regions, and Memory.ReadV of 1 MiB a call"},
			{byTwo, "remora-2", "space", "Regions, and Memory.ReadV of 1 MiB a call, of one half in each of two goroutines"},
			{byVM, "C", "space", "/proc/PID/maps, and process_vm_readv(2) of 1 MiB a call"},
			{byMem, "C", "prspace", "/proc/PID/maps, and pread(2) of /proc/PID/mem, 1 MiB a call"},
			{byPages, "C", "pgspace", "/proc/PID/maps, and process_vm_readv(2) of each page by itself"},
			{byXSys, "x/sys", "space", "/proc/PID/maps, and unix.ProcessVMReadv of 1 MiB a call"},
			{byDelve, "delve", "space", "/proc/PID/maps, and " + delve + " of 1 MiB a call"},
			{byGDB, "gdb", "space", "/proc/PID/maps, and " + gdb + ", 1 MiB a call"},
		},
		"sparse": {
			{byRemora, "remora", "sparse", "Process.Present, and Memory.ReadV of 1 MiB a call"},
			{byVM, "C", "sparse", "PAGEMAP_SCAN (ioctl_pagemap_scan(2)), and process_vm_readv(2) of 1 MiB a call"},
			{byMem, "C", "prsparse", "the entries of /proc/PID/pagemap, and pread(2) of /proc/PID/mem for each run of pages"},
		},
		"start": {
			{byRemora, "remora", "open", "target.Open, Memory.ReadAt, Close"},
			{byMem, "C", "open", "open(2), pread(2) and close(2) of /proc/PID/mem"},
			{byDelve, "delve", "open", "native.Attach, Memory().ReadMemory, Detach"},
			{byGDB, "gdb", "open", "attach, Inferior.read_memory in Python, detach"},
		},
	}
}

// sides gives the sides of those names that do work of a kind; rest is what their verbs are
// told after the process.
func (l *live) sides(kind, rest string, names ...string) []measure.Side {
	var sides []measure.Side
	for _, name := range names {
		for _, w := range kinds()[kind] {
			if p := l.programs[w.program]; w.name == name && p != nil {
				work := fmt.Sprintf("%s %d %s", w.verb, l.process.Pid(), rest)
				sides = append(sides, measure.Side{Name: name, How: w.how, By: p, Work: work})
			}
		}
	}
	return sides
}

// limit is a limit of the machine: what it takes to copy as many bytes, or to make a call.
func (l *live) limit(size int) measure.Side {
	if size < 64<<10 {
		return measure.Side{Name: byCall, How: "syscall(SYS_getppid)", By: l.programs["C"], Work: "getppid", Other: true}
	}
	return measure.Side{Name: byCopy, How: "memcpy(3) in one process", By: l.programs["C"], Work: fmt.Sprint("copy ", size), Other: true}
}

// rawGoal is what a row about so many bytes is to reach: as fast as the fastest of these sides;
// where a call is short, as far from it as Go's way to make a system call is.
func rawGoal(size int, names ...string) measure.Goal {
	if size < 64<<10 {
		return measure.Goal{By: names, Ratio: 1, Plus: 250 * time.Nanosecond}
	}
	return measure.Goal{By: names, Ratio: 1.03}
}
