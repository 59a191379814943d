// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/remora-go/remora"
)

// atOnce is how many tasks are filled in by one call.
const atOnce = 128

// taskList gives tasks to who goes over them, some at a time.
type taskList struct {
	*taskReader
	yield   func(*Task, error) bool
	seen    map[remora.Addr]bool
	pending []*Task
	ended   bool // nothing more is wanted
	bare    bool // tasks are wanted without what other structures tell of them
}

// add puts a task on the list, once.
func (l *taskList) add(t *Task) {
	if l.ended || l.seen[t.Addr] {
		return
	}
	l.seen[t.Addr] = true
	if l.pending = append(l.pending, t); len(l.pending) == atOnce {
		l.flush()
	}
}

// problem tells what is missing from the list.
func (l *taskList) problem(err error) {
	if l.flush(); !l.ended {
		l.ended = !l.yield(nil, err) || l.ctx.Err() != nil
	}
}

// flush gives all that is there.
func (l *taskList) flush() {
	all := l.pending
	l.pending = nil
	if l.ended || len(all) == 0 {
		return
	}
	if !l.bare {
		if err := l.fill(all); err != nil {
			l.yield(nil, err)
			l.ended = true
			return
		}
	}
	for _, t := range all {
		if t.Problem != nil && l.live && l.left(t) {
			continue
		}
		if l.ended = !l.yield(t, nil); l.ended {
			return
		}
	}
}

// all lists the processes: see Kernel.Tasks.
func (tr *taskReader) all(k *Kernel, yield func(*Task, error) bool) {
	l := &taskList{taskReader: tr, yield: yield, seen: map[remora.Addr]bool{}}
	first, err := tr.read(tr.init)
	if err != nil {
		l.problem(err)
		return
	}
	l.add(first)
	processors, err := k.Processors(tr.ctx)
	if err != nil {
		l.problem(fmt.Errorf("the idle tasks of the other processors: %w", err))
	}
	for _, p := range processors {
		if l.ended || !p.Online || l.seen[p.Idle] {
			continue
		}
		if t, err := tr.read(p.Idle); err != nil {
			l.problem(err)
		} else {
			l.add(t)
		}
	}
	l.processes(first)
	l.flush()
}

// processes follows the list of processes from the first task on. Where it is broken they
// are looked for by their numbers.
func (l *taskList) processes(first *Task) {
	broken := l.forward(first)
	if broken == nil || l.ended {
		return
	}
	l.problem(fmt.Errorf("the list of processes is broken: %w", broken))
	if l.ended {
		return
	}
	l.backward(first)
	if err := l.byNumber(first); err != nil && !l.ended {
		l.problem(fmt.Errorf("processes by their numbers: %w", err))
	}
}

// forward follows the list to its end. The error says where it is broken. A list that
// changes while it is read is followed again, and what was there is not told twice.
func (l *taskList) forward(first *Task) error {
	for try := 1; ; try++ {
		err := l.once(first)
		if err == nil || !l.live || l.ctx.Err() != nil || try == maxTries {
			return err
		}
		if first, err = l.read(first.Addr); err != nil {
			return err
		}
	}
}

// maxTries is how often a list of a live machine is followed.
const maxTries = 10

// once follows the list.
func (l *taskList) once(first *Task) error {
	passed := map[remora.Addr]bool{first.Addr: true}
	for t := first; !l.ended; {
		at := t.next - remora.Addr(l.tasks.off)
		switch {
		case at == first.Addr:
			return nil
		case l.ctx.Err() != nil:
			return l.ctx.Err()
		case !isKernel(t.next):
			return fmt.Errorf("behind process %d at %v comes %v: %w", t.PID, t.Addr, t.next, remora.ErrCorrupt)
		case passed[at]:
			return fmt.Errorf("behind process %d at %v it comes back to %v: %w", t.PID, t.Addr, at, remora.ErrCorrupt)
		case len(passed) > maxPID:
			return fmt.Errorf("it has more than %d processes: %w", maxPID, remora.ErrCorrupt)
		}
		passed[at] = true
		next, err := l.read(at)
		if err == nil && next.PID == 0 {
			err = fmt.Errorf("no process at %v: its number is 0: %w", at, remora.ErrCorrupt)
		}
		if err == nil && l.live && next.prev != t.Addr+remora.Addr(l.tasks.off) { // t has left the list, and may be anything by now
			err = fmt.Errorf("it has %v before it: %w", next.prev, remora.ErrCorrupt)
		}
		if err != nil {
			return fmt.Errorf("behind process %d at %v: %w", t.PID, t.Addr, err)
		}
		t = next
		l.add(t)
	}
	return nil
}

// backward follows a broken list from its other end, as far as that leads.
func (l *taskList) backward(first *Task) {
	for t := first; !l.ended && l.ctx.Err() == nil && isKernel(t.prev); {
		at := t.prev - remora.Addr(l.tasks.off)
		if l.seen[at] {
			return
		}
		prev, err := l.read(at)
		if err != nil || prev.PID == 0 {
			return
		}
		t = prev
		l.add(t)
	}
}

// threads lists the threads of a process: see Kernel.Threads. more finds those of all
// processes by their numbers.
func (tr *taskReader) threads(t *Task, more func() (map[int][]remora.Addr, error), yield func(*Task, error) bool) {
	l := &taskList{taskReader: tr, yield: yield, seen: map[remora.Addr]bool{}}
	err := l.ofProcess(t)
	for try := 1; err != nil && tr.live && tr.ctx.Err() == nil && try < maxTries; try++ {
		err = l.ofProcess(t)
	}
	if err != nil && tr.live && l.left(t) {
		err = nil
	}
	if err != nil {
		l.add(t)
		l.problem(fmt.Errorf("the threads of process %d: %w", t.TGID, err))
		l.otherThreads(t.TGID, more)
	}
	l.flush()
}

// left says whether a thread has ended since it was read.
func (tr *taskReader) left(t *Task) bool {
	now, err := tr.read(t.Addr)
	return errors.Is(err, remora.ErrCorrupt) || err == nil && (now.PID != t.PID || now.StartBoot != t.StartBoot || now.pid == 0)
}

// ofProcess adds the threads of the process of t, by its own list of them.
func (l *taskList) ofProcess(t *Task) (err error) {
	tr := l.taskReader
	switch {
	case t.Idle() || t.signal == 0: // it has none but itself
		l.add(t)
	case tr.threadNode.has() && tr.threadHead.has():
		head := t.signal + remora.Addr(tr.threadHead.off)
		next := reader{ctx: tr.ctx, mem: tr.mem, order: binary.LittleEndian}
		if at := next.ptr(head, field{size: 8}); next.err != nil {
			err = next.err
		} else {
			err = l.ring(t.TGID, head, at, tr.threadNode)
		}
	case tr.threadGroup.has():
		l.add(t)
		err = l.ring(t.TGID, t.Addr+remora.Addr(tr.threadGroup.off), t.group, tr.threadGroup)
	default:
		err = fmt.Errorf("the kernel has neither task_struct.thread_node nor thread_group: %w", remora.ErrUnrecognized)
	}
	return err
}

// otherThreads adds those that a broken list did not have.
func (l *taskList) otherThreads(tgid int, more func() (map[int][]remora.Addr, error)) {
	if l.ended {
		return
	}
	all, err := more()
	if err != nil {
		l.problem(fmt.Errorf("the threads of process %d by their numbers: %w", tgid, err))
		return
	}
	for _, a := range all[tgid] {
		if l.ended || l.seen[a] {
			continue
		}
		if t, err := l.read(a); err != nil {
			l.problem(fmt.Errorf("a thread of process %d: %w", tgid, err))
		} else if t.TGID == tgid { // a live one may have gone
			l.add(t)
		}
	}
}

// ring follows a list of threads from its first link.
func (l *taskList) ring(tgid int, head, at remora.Addr, link field) error {
	passed := map[remora.Addr]bool{}
	for at != head && !l.ended {
		a := at - remora.Addr(link.off)
		switch {
		case l.ctx.Err() != nil:
			return l.ctx.Err()
		case !isKernel(at) || len(passed) > maxPID:
			return fmt.Errorf("after %d of them comes %v: %w", len(passed), at, remora.ErrCorrupt)
		case passed[a]:
			return fmt.Errorf("the list comes back to %v: %w", a, remora.ErrCorrupt)
		}
		passed[a] = true
		t, err := l.read(a)
		if err != nil {
			return err
		}
		if t.TGID != tgid {
			return fmt.Errorf("thread %d at %v is of process %d: %w", t.PID, a, t.TGID, remora.ErrCorrupt)
		}
		l.add(t)
		at = t.group
	}
	return nil
}
