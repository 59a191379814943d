// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/remora-go/remora"
)

// Kinds of pids, by which struct pid.tasks is indexed (enum pid_type).
const (
	pidThread  = 0
	pidProcess = 1 // since 4.19
)

// numbered is what finds threads by their numbers: init_pid_ns.idr.
type numbered struct {
	*idr
	head uint64
	base uint64
}

// byNumbers finds it: the namespace is the one that the first task's struct pid names.
func (tr *taskReader) byNumbers(first *Task) (*numbered, error) {
	if !tr.nsIDR.has() || !tr.idrHead.has() || tr.pidTasks.size < 16 || !tr.pidLinks.has() || !tr.pidNumbers.has() || !tr.upidNS.has() {
		return nil, fmt.Errorf("the kernel does not keep them in pid_namespace.idr: %w", remora.ErrUnrecognized)
	}
	x, err := newIDR(tr.ctx, tr.mem, &tr.idrFields)
	if err != nil {
		return nil, err
	}
	r := reader{ctx: tr.ctx, mem: tr.mem, order: binary.LittleEndian}
	ns := r.ptr(first.pid+remora.Addr(tr.pidNumbers.off), tr.upidNS)
	at := ns + remora.Addr(tr.nsIDR.off)
	n := &numbered{idr: x, head: r.uint(at, tr.idrHead)}
	if tr.idrBase.has() {
		n.base = r.uint(at, tr.idrBase)
	}
	return n, r.err
}

// pidOf is a struct pid, and the number that it stands for.
type pidOf struct {
	number uint64
	at     remora.Addr
}

// byNumber goes over the numbers that are given out, and adds the processes that the list
// did not have.
func (l *taskList) byNumber(first *Task) error {
	n, err := l.byNumbers(first)
	if err != nil {
		return err
	}
	var pids []pidOf
	var trouble []error
	take := func() bool {
		for _, p := range l.ofPIDs(pids, pidProcess) {
			if l.seen[p.at] {
				continue
			}
			if t, err := l.read(p.at); err != nil {
				l.problem(fmt.Errorf("process %d: %w", p.number, err))
			} else {
				l.add(t)
			}
		}
		pids = pids[:0]
		return !l.ended
	}
	n.each(n.head, func(index uint64, pid remora.Addr) bool {
		if pids = append(pids, pidOf{n.base + index, pid}); len(pids) == atOnce {
			return take()
		}
		return true
	}, func(err error) { trouble = append(trouble, err) })
	take()
	if l.ctx.Err() != nil {
		return l.ctx.Err()
	}
	return errors.Join(trouble...)
}

// allThreads gives the threads of each process, as far as the numbers that are given out
// tell them: for processes whose own lists are broken.
func (tr *taskReader) allThreads() (map[int][]remora.Addr, error) {
	first, err := tr.read(tr.init)
	if err != nil {
		return nil, err
	}
	n, err := tr.byNumbers(first)
	if err != nil {
		return nil, err
	}
	tgid, err := frameOf("task_struct", tr.tgid)
	if err != nil {
		return nil, err
	}
	all := map[int][]remora.Addr{}
	var pids []pidOf
	take := func() bool {
		var b batch
		tasks := tr.ofPIDs(pids, pidThread)
		parts := make([]part, len(tasks))
		for i, p := range tasks {
			parts[i] = b.add(p.at, &tgid)
		}
		if b.run(tr.ctx, tr.mem) != nil {
			return false
		}
		for i, p := range parts {
			if number := tgid.uint(p.read, tr.tgid); b.fault(tr.ctx, tr.mem, p) == nil && number <= maxPID {
				all[int(number)] = append(all[int(number)], tasks[i].at)
			}
		}
		pids = pids[:0]
		return true
	}
	n.each(n.head, func(index uint64, pid remora.Addr) bool {
		pids = append(pids, pidOf{n.base + index, pid})
		return len(pids) < atOnce || take()
	}, func(error) {}) // what is missing is told as the list that was broken
	take()
	return all, tr.ctx.Err()
}

// ofPIDs gives the tasks that structs pid stand for, as a kind; those that cannot be
// read, or have none, are left out.
func (tr *taskReader) ofPIDs(pids []pidOf, kind uint64) (tasks []pidOf) {
	link := tr.pidTasks.word(kind)
	fr, err := frameOf("pid", link)
	if err != nil {
		return nil
	}
	var b batch
	parts := make([]part, len(pids))
	for i, p := range pids {
		parts[i] = b.add(p.at, &fr)
	}
	if b.run(tr.ctx, tr.mem) != nil {
		return nil
	}
	for i, p := range parts {
		at := fr.ptr(p.read, link)
		if b.fault(tr.ctx, tr.mem, p) == nil && isKernel(at) {
			tasks = append(tasks, pidOf{pids[i].number, at - remora.Addr(tr.pidLinks.off+16*kind)})
		}
	}
	return tasks
}

// find gives the thread of a number.
func (tr *taskReader) find(pid int) (*Task, error) {
	first, err := tr.read(tr.init)
	if err != nil {
		return nil, err
	}
	if pid == 0 {
		return first, tr.fill([]*Task{first})
	}
	t, why := tr.findByNumber(first, pid)
	for try := 1; why != nil && tr.live && tr.ctx.Err() == nil && try < maxTries; try++ {
		t, why = tr.findByNumber(first, pid)
	}
	if why != nil && tr.ctx.Err() == nil {
		t = tr.findInList(first, pid)
	}
	switch {
	case tr.ctx.Err() != nil:
		return nil, tr.ctx.Err()
	case t != nil:
		return t, tr.fill([]*Task{t})
	case why != nil:
		return nil, fmt.Errorf("process %d: %w", pid, why)
	}
	return nil, &NoTaskError{tr.name, pid}
}

// findByNumber gives nil if there is none.
func (tr *taskReader) findByNumber(first *Task, pid int) (*Task, error) {
	if pid < 0 || pid > maxPID {
		return nil, nil
	}
	n, err := tr.byNumbers(first)
	if err != nil || uint64(pid) < n.base {
		return nil, err
	}
	at, err := n.load(n.head, uint64(pid)-n.base)
	if err != nil || !isKernel(remora.Addr(at)) {
		return nil, err
	}
	of := tr.ofPIDs([]pidOf{{uint64(pid), remora.Addr(at)}}, pidThread)
	if len(of) == 0 {
		return nil, nil
	}
	t, err := tr.read(of[0].at)
	if err == nil && t.PID != pid {
		err = fmt.Errorf("the task at %v has the number %d: %w", of[0].at, t.PID, remora.ErrCorrupt)
	}
	return t, err
}

// findInList looks for a thread among all that the lists have.
func (tr *taskReader) findInList(first *Task, pid int) (found *Task) {
	none := func() (map[int][]remora.Addr, error) { return nil, nil } // the numbers are of no use
	thread := func(t *Task, err error) bool {
		if err == nil && t.PID == pid {
			found = t
		}
		return found == nil
	}
	l := &taskList{taskReader: tr, seen: map[remora.Addr]bool{}, bare: true, yield: func(t *Task, err error) bool {
		if err != nil {
			return true // it may be on another list
		}
		if !thread(t, nil) {
			return false
		}
		tr.threads(t, none, thread)
		return found == nil
	}}
	l.processes(first)
	l.flush()
	return found
}
