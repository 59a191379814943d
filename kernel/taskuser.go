// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"fmt"

	"github.com/remora-go/remora"
)

// TaskUser is what is known of a process besides its Task: the group and the session that
// it is in, and where in its memory its arguments and its environment are. Addresses are
// 0 of a process that has no memory.
type TaskUser struct {
	Group, Session   int // by the number of their leader, 0: none
	ArgStart, ArgEnd remora.Addr
	EnvStart, EnvEnd remora.Addr
}

// userFields are the members that are read for that.
type userFields struct {
	argStart, argEnd, envStart, envEnd field // struct mm_struct
	signalPIDs                         field // struct signal_struct, since 4.19
	leader, pids                       field // struct task_struct, before
	link                               field // struct pid_link
	numbers, nr                        field // struct pid and struct upid
}

// Kinds of numbers (enum pid_type), since 4.19. Before that there was no kind for
// processes, and the others came one earlier.
const (
	pidGroup   = 2
	pidSession = 3
)

func (k *Kernel) findUserFields(ctx context.Context) (*userFields, error) {
	t, err := k.Types(ctx)
	if err != nil {
		return nil, err
	}
	f := &userFields{}
	err = t.fields(ctx, wanted{&f.argStart, "mm_struct.arg_start", false}, wanted{&f.argEnd, "mm_struct.arg_end", false},
		wanted{&f.envStart, "mm_struct.env_start", false}, wanted{&f.envEnd, "mm_struct.env_end", false},
		wanted{&f.signalPIDs, "signal_struct.pids", true}, wanted{&f.leader, "task_struct.group_leader", true},
		wanted{&f.pids, "task_struct.pids", true}, wanted{&f.link, "pid_link.pid", true},
		wanted{&f.numbers, "pid.numbers", false}, wanted{&f.nr, "upid.nr", false})
	if err != nil {
		return nil, fmt.Errorf("arguments and groups of processes: %w", err)
	}
	return f, nil
}

// TaskUser reads it for the process of t.
func (k *Kernel) TaskUser(ctx context.Context, t *Task) (*TaskUser, error) {
	f, err := k.userFields.do(ctx, k.findUserFields)
	if err != nil {
		return nil, err
	}
	u := &TaskUser{}
	r := k.reader(ctx)
	if t.MM != 0 {
		u.ArgStart, u.ArgEnd = r.ptr(t.MM, f.argStart), r.ptr(t.MM, f.argEnd)
		u.EnvStart, u.EnvEnd = r.ptr(t.MM, f.envStart), r.ptr(t.MM, f.envEnd)
	}
	u.Group, u.Session = f.number(r, t, pidGroup), f.number(r, t, pidSession)
	if r.err != nil {
		return nil, fmt.Errorf("the process %d: %w", t.PID, r.err)
	}
	return u, nil
}

// number gives the number of a kind that a process has, in the first pid namespace.
func (f *userFields) number(r *reader, t *Task, kind uint64) int {
	word := field{size: 8}
	var pid remora.Addr
	switch {
	case f.signalPIDs.has() && t.signal != 0:
		word.off = f.signalPIDs.off + 8*kind
		pid = r.ptr(t.signal, word)
	case f.leader.has() && f.pids.has() && f.link.has():
		word.off = f.pids.off + (kind-1)*uint64(f.pids.elem) + f.link.off
		pid = r.ptr(r.ptr(t.Addr, f.leader), word)
	}
	if pid == 0 {
		return 0
	}
	nr := f.nr
	nr.off += f.numbers.off
	return int(int32(r.uint(pid, nr)))
}
