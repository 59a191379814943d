// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"fmt"

	"github.com/remora-go/remora"
)

// taskFields are the members that are read of tasks and of what hangs on them.
type taskFields struct {
	// struct task_struct
	pid, tgid, comm, state, exitState, exitCode, flags                      field
	parent, cred, mm, signal, threadPID, pidLinks                           field
	tasks, threadNode, threadGroup                                          field
	cpu, runs                                                               field
	startTime, startBoot, utime, stime, stack, sp                           field
	uid, euid, suid, fsuid, gid, egid, sgid, fsgid                          field // struct cred
	threadHead                                                              field // struct signal_struct
	pidLevel, pidTasks, pidNumbers, upidNR, upidNS, nsIDR, idrHead, idrBase field // struct pid and its namespace

	upidSize uint64

	task, creds, pids frame
}

// members says what each is called.
func (f *taskFields) members() []wanted {
	return []wanted{
		{&f.pid, "task_struct.pid", false},
		{&f.tgid, "task_struct.tgid", false},
		{&f.comm, "task_struct.comm", false},
		{&f.state, "task_struct.__state", false},
		{&f.exitState, "task_struct.exit_state", false},
		{&f.exitCode, "task_struct.exit_code", false},
		{&f.flags, "task_struct.flags", false},
		{&f.parent, "task_struct.real_parent", false},
		{&f.cred, "task_struct.real_cred", false},
		{&f.mm, "task_struct.mm", false},
		{&f.signal, "task_struct.signal", false},
		{&f.threadPID, "task_struct.thread_pid", true},
		{&f.pidLinks, "task_struct.pid_links", true},
		{&f.tasks, "task_struct.tasks", false},
		{&f.threadNode, "task_struct.thread_node", true},
		{&f.threadGroup, "task_struct.thread_group", true},
		{&f.cpu, "task_struct.thread_info.cpu", true},
		{&f.runs, "task_struct.se.cfs_rq", true},
		{&f.startTime, "task_struct.start_time", true},
		{&f.startBoot, "task_struct.start_boottime", true},
		{&f.utime, "task_struct.utime", true},
		{&f.stime, "task_struct.stime", true},
		{&f.stack, "task_struct.stack", true},
		{&f.sp, "task_struct.thread.sp", true},
		{&f.uid, "cred.uid", false},
		{&f.euid, "cred.euid", false},
		{&f.suid, "cred.suid", false},
		{&f.fsuid, "cred.fsuid", false},
		{&f.gid, "cred.gid", false},
		{&f.egid, "cred.egid", false},
		{&f.sgid, "cred.sgid", false},
		{&f.fsgid, "cred.fsgid", false},
		{&f.threadHead, "signal_struct.thread_head", true},
		{&f.pidLevel, "pid.level", true},
		{&f.pidTasks, "pid.tasks", true},
		{&f.pidNumbers, "pid.numbers", true},
		{&f.upidNR, "upid.nr", true},
		{&f.upidNS, "upid.ns", true},
		{&f.nsIDR, "pid_namespace.idr", true},
		{&f.idrHead, "idr.idr_rt.xa_head", true},
		{&f.idrBase, "idr.idr_base", true},
	}
}

// resolve works out the frames.
func (f *taskFields) resolve() (err error) {
	if f.task, err = frameOf("task_struct", f.pid, f.tgid, f.comm, f.state, f.exitState, f.exitCode, f.flags, f.parent, f.cred, f.mm,
		f.signal, f.threadPID, f.tasks, f.threadNode, f.threadGroup, f.cpu, f.runs, f.startTime, f.startBoot, f.utime, f.stime, f.stack, f.sp); err != nil {
		return err
	}
	if f.creds, err = frameOf("cred", f.uid, f.euid, f.suid, f.fsuid, f.gid, f.egid, f.sgid, f.fsgid); err != nil {
		return err
	}
	// The numbers are the end of struct pid: how many there are level says.
	f.pidNumbers.size = uint32(f.upidSize)
	if f.upidSize > frameLimit || f.upidNR.size > 8 || f.upidNR.has() && f.upidNR.off+uint64(f.upidNR.size) > f.upidSize {
		return fmt.Errorf("struct upid has %d bytes, and nr of %d at %d: %w", f.upidSize, f.upidNR.size, f.upidNR.off, remora.ErrCorrupt)
	}
	f.pids, err = frameOf("pid", f.pidLevel, f.pidTasks, f.pidNumbers)
	return err
}

// taskAnswers are what was found out about tasks and processors.
type taskAnswers struct {
	tasks      once[*taskKnowledge]
	threads    once[map[int][]remora.Addr] // by process; for lists that are broken
	queues     once[*queueKnowledge]
	cpuOffsets once[[]remora.Addr]
	paths      once[*pathFields]
	usage      once[*usageFields]
}

// taskKnowledge is what there is to know to read tasks.
type taskKnowledge struct {
	taskFields
	idrFields
	init remora.Addr // the task that is pid 0 of the first processor
	name string      // of the kernel, for messages
}

// learnTasks looks it up.
func (k *Kernel) learnTasks(ctx context.Context) (*taskKnowledge, error) {
	types, err := k.Types(ctx)
	if err != nil {
		return nil, fmt.Errorf("tasks: %w", err)
	}
	w := &taskKnowledge{name: k.info.Name}
	if err := types.fields(ctx, append(w.taskFields.members(), w.idrFields.members()...)...); err != nil {
		return nil, fmt.Errorf("tasks: %w", err)
	}
	if w.upidSize, err = types.size(ctx, "upid"); err != nil {
		w.upidSize = 0
	}
	if !w.sp.has() { // arm64 has it one structure further down
		_ = types.fields(ctx, wanted{&w.sp, "task_struct.thread.cpu_context.sp", true})
	}
	if err := w.resolve(); err != nil {
		return nil, err
	}
	if w.init, err = k.initTask(ctx, &w.taskFields); err != nil {
		return nil, fmt.Errorf("tasks: %w", err)
	}
	return w, nil
}

// taskReader reads tasks.
type taskReader struct {
	*taskKnowledge
	ctx  context.Context
	mem  *remora.Memory
	live bool // tasks come and go
}

func (k *Kernel) taskReader(ctx context.Context) (*taskReader, error) {
	w, err := k.tasks.do(ctx, k.learnTasks)
	if err != nil {
		return nil, err
	}
	return &taskReader{w, ctx, k.mem, k.info.Live}, nil
}
