// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/remora-go/remora"
)

// maxPID is the largest number of a thread (PID_MAX_LIMIT).
const maxPID = 4 << 20

// maxLevel is how deep pid namespaces can be (MAX_PID_NS_LEVEL).
const maxLevel = 32

// read reads one task, without what other structures tell of it. Where a part of it
// cannot be read the task has a Problem, if at least its numbers, its name and its links can.
func (tr *taskReader) read(a remora.Addr) (*Task, error) {
	b := batch{room: make([]byte, tr.task.size)}
	p := b.add(a, &tr.task)
	if err := b.run(tr.ctx, tr.mem); err != nil {
		return nil, err
	}
	lost := b.lost(tr.ctx, tr.mem, p)
	for _, f := range []field{tr.pid, tr.tgid, tr.comm, tr.tasks, tr.parent, tr.cred, tr.signal} {
		if err := lost[tr.task.runOf(f)]; err != nil {
			return nil, fmt.Errorf("struct task_struct at %v: %w", a, err)
		}
	}
	t, err := tr.decode(a, p.read)
	if err != nil {
		return nil, err
	}
	for _, err := range lost {
		t.lacks(fmt.Errorf("a part of process %d: %w", t.PID, err))
	}
	if lost[tr.task.runOf(tr.state)] != nil {
		t.State = '?'
	}
	return t, nil
}

// decode makes a task of the bytes of a struct task_struct. What cannot be one is an
// error that Is remora.ErrCorrupt.
func (tr *taskReader) decode(a remora.Addr, b []byte) (*Task, error) {
	fr := &tr.task
	t := &Task{
		Addr: a, Flags: fr.uint(b, tr.flags), State: stateOf(fr.uint(b, tr.state), fr.uint(b, tr.exitState)),
		ExitCode:  int(int32(fr.uint(b, tr.exitCode))),
		Start:     time.Duration(fr.uint(b, tr.startTime)),
		StartBoot: time.Duration(fr.uint(b, tr.startBoot)),
		UTime:     time.Duration(fr.uint(b, tr.utime)), STime: time.Duration(fr.uint(b, tr.stime)),
		MM: fr.ptr(b, tr.mm), Stack: fr.ptr(b, tr.stack), SP: fr.ptr(b, tr.sp),
		parent: fr.ptr(b, tr.parent), cred: fr.ptr(b, tr.cred), pid: fr.ptr(b, tr.threadPID), signal: fr.ptr(b, tr.signal),
		next: fr.ptr(b, tr.tasks), prev: fr.ptr(b, tr.tasks.word(1)), runs: fr.ptr(b, tr.runs),
	}
	t.CPU = int(int32(fr.uint(b, tr.cpu)))
	if tr.threadNode.has() {
		t.group = fr.ptr(b, tr.threadNode)
	} else {
		t.group = fr.ptr(b, tr.threadGroup)
	}
	pid, tgid := uint32(fr.uint(b, tr.pid)), uint32(fr.uint(b, tr.tgid))
	comm, _, ended := bytes.Cut(fr.bytes(b, tr.comm), []byte{0})
	switch {
	case pid > maxPID || tgid > maxPID:
		return nil, fmt.Errorf("no task at %v: its numbers are %d and %d: %w", a, pid, tgid, remora.ErrCorrupt)
	case !ended:
		return nil, fmt.Errorf("no task at %v: its name has no end: %w", a, remora.ErrCorrupt)
	case !isKernel(t.parent) || !isKernel(t.cred) || t.signal != 0 && !isKernel(t.signal):
		return nil, fmt.Errorf("no task at %v: its parent, credentials and signals are at %v, %v and %v: %w", a, t.parent, t.cred, t.signal, remora.ErrCorrupt)
	}
	t.PID, t.TGID, t.Comm = int(pid), int(tgid), string(comm)
	return t, nil
}

// isKernel says whether a can be the address of a structure of the kernel.
func isKernel(a remora.Addr) bool { return a>>63 == 1 && a%8 == 0 }

// word gives the i-th pointer of a member that has many.
func (f field) word(i uint64) field { return field{off: f.off + 8*i, size: 8, there: f.there} }

// from gives the member of a structure that begins at off in another one.
func (f field) from(off uint64) field {
	f.off += off
	return f
}

// fill adds to tasks what other structures tell of them: credentials, the parent's number,
// the numbers in pid namespaces.
func (tr *taskReader) fill(tasks []*Task) error {
	var b batch
	creds, pids := make([]part, len(tasks)), make([]part, len(tasks))
	parents := make([]part, len(tasks))
	tgid, err := frameOf("task_struct", tr.tgid)
	if err != nil {
		return err
	}
	for i, t := range tasks {
		creds[i] = b.add(t.cred, &tr.creds)
		parents[i] = b.add(t.parent, &tgid)
		if isKernel(t.pid) && tr.pids.size > 0 {
			pids[i] = b.add(t.pid, &tr.pids)
		}
	}
	if err := b.run(tr.ctx, tr.mem); err != nil {
		return err
	}
	for i, t := range tasks {
		if err := b.fault(tr.ctx, tr.mem, creds[i]); err != nil {
			t.lacks(fmt.Errorf("credentials of %d: %w", t.PID, err))
		} else {
			t.Creds = tr.decodeCreds(creds[i].read)
		}
		if err := b.fault(tr.ctx, tr.mem, parents[i]); err != nil {
			t.lacks(fmt.Errorf("the parent of %d: %w", t.PID, err))
		} else if t.Idle() {
			t.PPID = 0 // it was made by process 1, or by hand
		} else if number := uint32(tgid.uint(parents[i].read, tr.tgid)); number > maxPID {
			t.lacks(fmt.Errorf("the parent of %d has the number %d: %w", t.PID, number, remora.ErrCorrupt))
		} else {
			t.PPID = int(number)
		}
		if pids[i].n == 0 {
			continue
		}
		err := b.fault(tr.ctx, tr.mem, pids[i])
		if err == nil {
			t.NSPIDs, err = tr.numbers(t.pid, pids[i].read)
		}
		if err != nil {
			t.lacks(fmt.Errorf("the numbers of %d: %w", t.PID, err))
		}
	}
	return tr.ctx.Err()
}

// lacks adds to what is missing of a task.
func (t *Task) lacks(err error) { t.Problem = errors.Join(t.Problem, err) }

func (tr *taskReader) decodeCreds(b []byte) Creds {
	id := func(f field) uint32 { return uint32(tr.creds.uint(b, f)) }
	return Creds{
		UID: id(tr.uid), EUID: id(tr.euid), SUID: id(tr.suid), FSUID: id(tr.fsuid),
		GID: id(tr.gid), EGID: id(tr.egid), SGID: id(tr.sgid), FSGID: id(tr.fsgid),
	}
}

// numbers gives the numbers of the struct pid at a, whose first is in b.
func (tr *taskReader) numbers(a remora.Addr, b []byte) ([]int, error) {
	level := tr.pids.uint(b, tr.pidLevel)
	if level > maxLevel {
		return nil, fmt.Errorf("the struct pid at %v is of level %d: %w", a, level, remora.ErrCorrupt)
	}
	if !tr.pidNumbers.has() || !tr.upidNR.has() {
		return nil, nil
	}
	first := tr.pidNumbers
	all := []int{int(int32(tr.pids.uint(b, tr.upidNR.from(first.off))))}
	if level == 0 {
		return all, nil
	}
	rest := make([]byte, level*tr.upidSize)
	if _, err := tr.mem.ReadAt(tr.ctx, rest, a+remora.Addr(first.off+tr.upidSize)); err != nil {
		return nil, err
	}
	for i := range level {
		all = append(all, int(int32(tr.upidNR.value(rest[i*tr.upidSize+tr.upidNR.off:][:tr.upidNR.size], binary.LittleEndian))))
	}
	return all, nil
}
