// SPDX-License-Identifier: Apache-2.0

package proc

import "fmt"

// Options says how a process is opened. Nil is the same as the zero Options.
type Options struct {
	// Write opens for writing too. Without it a write is remora.ErrReadOnly.
	Write bool

	// FollowExec lets the handle go on with the new program after an execve. Without
	// it every call after the execve is remora.ErrGone.
	FollowExec bool

	// Unchecked drops the check after each transfer that the bytes came from the
	// process and the address space that were opened. What is lost: when the process
	// exits and its number is used again, or when it calls execve, a transfer may
	// reach the new one. With Force it drops the look at the map before a transfer too:
	// an access below a stack then makes the stack grow, and reads zeros.
	Unchecked bool

	// Parallel is the number of threads for one large read; 0 and 1 mean one.
	Parallel int

	// MapShared reads shared mappings (a memfd, shared memory, a mapped file) through a
	// mapping of our own that is kept, where the system lets us have one: it is opened
	// by /proc/PID/map_files, which needs CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN,
	// else by /proc/PID/fd. After each copy the target's mapping is looked up again
	// (PROCMAP_QUERY, Linux 6.11), so that the answer is that of an ordinary read.
	// One limit: guard pages and a userfaultfd that come to a mapping after the first
	// read of it are not seen.
	MapShared bool

	// MapUnchecked is MapShared without that look-up: blind to munmap, mprotect and
	// mremap in the target.
	MapUnchecked bool

	// Door is the way into the process; DoorAuto takes the first that works.
	Door Door
}

// Door is a way into the memory of a process.
type Door uint8

// The doors, in the order in which DoorAuto tries them. The meaning of a transfer
// is that of process_vm_readv(2) through each of them.
const (
	DoorAuto   Door = iota
	DoorVM          // process_vm_readv(2) and process_vm_writev(2)
	DoorMem         // /proc/PID/mem
	DoorPtrace      // ptrace(2) PEEK and POKE; stops the process for each call
)

var doorNames = [...]string{"auto", "process_vm", "proc-mem", "ptrace"}

func (d Door) String() string {
	if int(d) < len(doorNames) {
		return doorNames[d]
	}
	return fmt.Sprintf("door %d", uint8(d))
}
