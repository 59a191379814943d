// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"fmt"
	"iter"
	"math/bits"
	"time"

	"github.com/remora-go/remora"
)

// Task is a thread, as the kernel had it when the image was made. Of a process it stands
// for the first thread.
type Task struct {
	Addr remora.Addr // of its struct task_struct

	// As the first pid namespace numbers them.
	PID  int // of the thread; 0 of a processor's idle task
	TGID int // of the process
	PPID int // of the process that is its parent; 0: none

	// NSPIDs are the numbers of the thread, in the first pid namespace and in each that
	// it is in below. A thread that is nearly gone has none.
	NSPIDs []int

	Comm     string // the name, at most 15 bytes, as it is
	State    State
	ExitCode int    // of a zombie, as wait(2) gives it
	Flags    uint64 // PF_* of the kernel's include/linux/sched.h
	CPU      int    // that it runs on, or ran on last
	Creds    Creds

	Start     time.Duration // since the system started, without the time that it was suspended
	StartBoot time.Duration // with that
	UTime     time.Duration // in user mode, as far as it was accounted
	STime     time.Duration // in the kernel

	MM    remora.Addr // its struct mm_struct; 0 of kernel threads, and of threads that are past exit
	Stack remora.Addr // where its kernel stack begins
	SP    remora.Addr // the stack pointer, of a thread that does not run

	// Problem says what of it could not be read, and is missing above.
	Problem error

	parent remora.Addr
	cred   remora.Addr
	pid    remora.Addr // struct pid
	signal remora.Addr
	next   remora.Addr // the links of the list of processes
	prev   remora.Addr
	group  remora.Addr // the link of the next thread
	runs   remora.Addr // the struct cfs_rq of its processor
}

// Creds are the ids that a task acts by (struct cred): real, effective, saved, and those
// for files.
type Creds struct {
	UID, EUID, SUID, FSUID uint32
	GID, EGID, SGID, FSGID uint32
}

// Flags of a task that are the same in all kernels (include/linux/sched.h).
const (
	flagExiting      = 0x00000004
	flagKernelThread = 0x00200000
)

// KernelThread says that the task is one of the kernel's own.
func (t *Task) KernelThread() bool { return t.Flags&flagKernelThread != 0 }

// Idle says that the task is what a processor does when there is nothing to do.
func (t *Task) Idle() bool { return t.PID == 0 }

// State is what a thread does, by the letters of ps(1): R running, or ready to; S asleep; D
// asleep and not to be woken by signals; T stopped by a signal; t stopped by a tracer; X
// dead; Z a zombie; P parked; I an idle kernel thread; ? not known.
type State byte

func (s State) String() string { return string(rune(s)) }

// stateOf tells the state as the kernel tells it in /proc/PID/stat (task_state_index and
// task_state_array). The bits are those of 4.14 and later.
func stateOf(state, exit uint64) State {
	const (
		uninterruptible = 0x2
		report          = 0x7f
		noLoad          = 0x400
		rtLockWait      = 0x1000
		frozen          = 0x8000
		idle            = uninterruptible | noLoad
	)
	what := (state | exit) & report
	switch {
	case state&idle == idle:
		return 'I'
	case state&(rtLockWait|frozen) != 0:
		what = uninterruptible
	}
	return State("RSDTtXZP"[bits.Len64(what)])
}

// Tasks lists the processes by their first threads: the idle tasks of the processors, and
// then in the order in which the processes were made. What is missing from the list
// is an error with no task, behind which more tasks may come: where the list of
// processes is broken they are found by their numbers.
func (k *Kernel) Tasks(ctx context.Context) iter.Seq2[*Task, error] {
	return func(yield func(*Task, error) bool) {
		tr, err := k.taskReader(ctx)
		if err != nil {
			yield(nil, err)
			return
		}
		tr.all(k, yield)
	}
}

// Threads lists the threads of a process, the first one first. t is any of them, and is on
// the list in any case. What is missing is an error with no task, as for Tasks.
func (k *Kernel) Threads(ctx context.Context, t *Task) iter.Seq2[*Task, error] {
	return func(yield func(*Task, error) bool) {
		tr, err := k.taskReader(ctx)
		if err != nil {
			yield(nil, err)
			return
		}
		tr.threads(t, func() (map[int][]remora.Addr, error) {
			if k.info.Live {
				return tr.allThreads()
			}
			return k.threads.do(ctx, func(context.Context) (map[int][]remora.Addr, error) { return tr.allThreads() })
		}, yield)
	}
}

// Task gives the thread of a number, in the first pid namespace. 0 is the idle task of the
// first processor. A *NoTaskError says that there is none.
func (k *Kernel) Task(ctx context.Context, pid int) (*Task, error) {
	tr, err := k.taskReader(ctx)
	if err != nil {
		return nil, err
	}
	return tr.find(pid)
}

// TaskAt gives the thread whose struct task_struct is at a.
func (k *Kernel) TaskAt(ctx context.Context, a remora.Addr) (*Task, error) {
	tr, err := k.taskReader(ctx)
	if err != nil {
		return nil, err
	}
	t, err := tr.read(a)
	if err != nil {
		return nil, err
	}
	return t, tr.fill([]*Task{t})
}

// Children lists the processes that have memory of their own, by their numbers.
func (k *Kernel) Children(ctx context.Context) iter.Seq2[remora.Child, error] {
	return func(yield func(remora.Child, error) bool) {
		for t, err := range k.Tasks(ctx) {
			switch {
			case err != nil:
				if !yield(remora.Child{}, err) {
					return
				}
			case t.MM != 0 && !t.KernelThread():
				if !yield(remora.Child{ID: int64(t.PID), Name: t.Comm}, nil) {
					return
				}
			}
		}
	}
}

// NoTaskError says that a kernel has no thread of a number.
type NoTaskError struct {
	Name string // of the kernel
	PID  int
}

func (e *NoTaskError) Error() string {
	return fmt.Sprintf("%s: there is no process or thread %d", e.Name, e.PID)
}

// Is says that the error is a remora.ErrGone.
func (e *NoTaskError) Is(target error) bool { return target == remora.ErrGone }
