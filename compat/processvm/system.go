// SPDX-License-Identifier: Apache-2.0

package processvm

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/compat/errno"
)

// Granularity says what of the other process's memory is moved, or not, as one.
type Granularity uint8

// The granularities.
const (
	Page    Granularity = iota // pages: Linux since 3.15 (R23)
	Element                    // elements of the remote vector, and all local memory is checked first: as the manual says
	Batch                      // batches of 1,024 pages of an element: Linux before 3.15
)

// Options say what a System is like. The zero Options are Linux on x86-64.
type Options struct {
	Granularity Granularity
	PageSize    uint64 // bytes, a power of two; 0: 4096
	UserEnd     uint64 // the first address behind those that a caller may name (R8); 0: 0x7ffffffff000

	// ArrayFirst is Linux before 6.4: an entry of an array that cannot be read decides even
	// behind a bad length (R7), and a single local element is checked with all of its length,
	// like one of several (R10).
	ArrayFirst bool

	// ExecuteOnly says that the processor cannot load from memory that may only be executed,
	// as x86-64 can without protection keys. It matters to the caller's own memory alone (R38).
	ExecuteOnly bool

	// Permit says whether caller may access target, which is another process with
	// memory of its own. Nil: by the Subjects of the two (R51-R58).
	Permit func(caller, target *Process) bool
	Facts  Facts // what else matters to the Subjects

	// Allocate is asked where the kernel allocates memory, and says whether there is
	// any (R15). Nil: there always is.
	Allocate func(size uint64) bool
}

// Process is an entry of the table. It is not changed after Set; to change a process,
// Set another with the same PID.
type Process struct {
	PID     int
	Threads []int // the ids of its other threads: they name it as well (R16)

	// Memory is its address space; nil if it has none: a zombie, or a kernel thread.
	Memory *remora.Memory

	// LeaderExited says that the first thread has ended and others live: PID then
	// names a task without memory, while Threads name the process (R17).
	LeaderExited bool

	// Subject is what Permit is about where there is no Permit. A process without one
	// may access, and be accessed by, every other.
	Subject *Subject

	mu       sync.Mutex
	verdicts map[*Subject]bool // of callers that have asked
}

// System is a table of processes, one pid namespace, that read and write one another's memory.
// It may be used by many goroutines.
type System struct {
	opt   Options
	calls sync.Pool // of *call

	mu    sync.RWMutex
	tasks map[int32]task
}

// task is what an id stands for.
type task struct {
	process *Process
	exited  bool // the thread has ended
}

// NewSystem gives a System without processes. Nil options are the zero Options. It
// panics when the page size is not a power of two from 16 on.
func NewSystem(o *Options) *System {
	s := &System{tasks: map[int32]task{}}
	if o != nil {
		s.opt = *o
	}
	if s.opt.PageSize == 0 {
		s.opt.PageSize = 4096
	}
	if s.opt.UserEnd == 0 {
		s.opt.UserEnd = 0x7ffffffff000
	}
	if p := s.opt.PageSize; p&(p-1) != 0 || p < 16 || p > 1<<30 {
		panic(fmt.Sprintf("processvm: page size %d", p))
	}
	s.calls.New = func() any { return newCall(s) }
	return s
}

var errID = errors.New("ids of tasks are from 1 to 2147483647, and each names one")

// Set puts a process into the table, in place of one with the same PID. It fails when
// an id is none, or names a thread of another process.
func (s *System) Set(p *Process) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	ids := append([]int{p.PID}, p.Threads...)
	seen := map[int]bool{}
	for _, id := range ids {
		if id < 1 || id > math.MaxInt32 || seen[id] {
			return fmt.Errorf("process %d, task %d: %w", p.PID, id, errID)
		}
		seen[id] = true
		if t, ok := s.tasks[int32(id)]; ok && t.process.PID != p.PID {
			return fmt.Errorf("process %d, task %d, which is of process %d: %w", p.PID, id, t.process.PID, errID)
		}
	}
	s.remove(p.PID)
	for i, id := range ids {
		s.tasks[int32(id)] = task{p, i == 0 && p.LeaderExited}
	}
	return nil
}

// Remove takes a process and its threads out of the table. Calls that run go on (R50).
func (s *System) Remove(pid int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remove(pid)
}

func (s *System) remove(pid int) {
	for id, t := range s.tasks {
		if t.process.PID == pid {
			delete(s.tasks, id)
		}
	}
}

// find gives the process that an id names and its memory, or the number that stands for
// the failure.
func (s *System) find(id int32) (*Process, *remora.Memory, errno.Errno) {
	s.mu.RLock()
	t, ok := s.tasks[id]
	s.mu.RUnlock()
	if !ok || t.exited || t.process.Memory == nil {
		return nil, nil, errno.ESRCH
	}
	return t.process, t.process.Memory, 0
}

// Readv is process_vm_readv called by caller: bytes go from the remote elements, in the memory
// of process pid, to the local ones, in the caller's. Either the count or the number is zero.
func (s *System) Readv(ctx context.Context, caller *Process, pid int, local, remote []Iovec, flags uint64) (int, errno.Errno) {
	return s.run(ctx, caller, false, int32(pid), vector{vec: local}, vector{vec: remote}, flags)
}

// Writev is process_vm_writev called by caller: bytes go from the local elements to the remote
// ones.
func (s *System) Writev(ctx context.Context, caller *Process, pid int, local, remote []Iovec, flags uint64) (int, errno.Errno) {
	return s.run(ctx, caller, true, int32(pid), vector{vec: local}, vector{vec: remote}, flags)
}

// Syscall is either of the two with both vectors in the caller's memory, from where they
// are read as the kernel reads them: in the caller's byte order, and with elements of 8 bytes where
// its pointers have 4 (R59).
func (s *System) Syscall(ctx context.Context, caller *Process, write bool, a Args) (int, errno.Errno) {
	compat := false
	if caller.Memory != nil && caller.Memory.Info().PtrSize == 4 {
		compat = true
		a.Lvec, a.Liovcnt, a.Rvec, a.Riovcnt, a.Flags = low(a.Lvec), low(a.Liovcnt), low(a.Rvec), low(a.Riovcnt), low(a.Flags)
	}
	local := vector{inMemory: true, compat: compat, addr: a.Lvec, count: low(a.Liovcnt)} // R3
	remote := vector{inMemory: true, compat: compat, addr: a.Rvec, count: a.Riovcnt}
	return s.run(ctx, caller, write, int32(a.PID), local, remote, a.Flags)
}

func low(v uint64) uint64 { return uint64(uint32(v)) }

// run makes one call with pooled scratch.
func (s *System) run(ctx context.Context, caller *Process, write bool, pid int32, local, remote vector, flags uint64) (int, errno.Errno) {
	c := s.calls.Get().(*call)
	c.ctx, c.caller, c.write = ctx, caller, write
	n, e := c.rw(pid, local, remote, flags)
	c.reset()
	s.calls.Put(c)
	return n, e
}
