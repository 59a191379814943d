// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"encoding/binary"
	"errors"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/memtest"
)

// Where a taskWorld has things. A struct task_struct has two pages: what a task does is
// in the first.
const (
	worldTasks   = remora.Addr(0xffff_8880_0000_0000)
	worldCreds   = worldTasks + 0x100000
	worldSignals = worldTasks + 0x200000
	worldPIDs    = worldTasks + 0x300000
	worldNodes   = worldTasks + 0x400000
	worldSpace   = worldTasks + 0x500000 // the pid namespace
	worldQueues  = worldTasks + 0x600000
)

// taskWorld is a kernel with tasks in it, whose addresses are those of a Sparse.
type taskWorld struct {
	t *testing.T
	s *memtest.Sparse
	k *Kernel
	w *taskKnowledge
}

func held(off uint64, size uint32) field { return field{off: off, size: size, there: true} }

// newTaskWorld makes one with the idle tasks of two processors, and processes 1, 2 and 300
// (each at its place on the list), of which 1 has the threads 1, 10 and 11.
func newTaskWorld(t *testing.T) *taskWorld {
	t.Helper()
	w := &taskKnowledge{init: worldTasks, name: "sample"}
	w.taskFields = taskFields{
		state: held(0x10, 4), exitState: held(0x18, 4), flags: held(0x20, 4), stack: held(0x28, 8), cpu: held(0x30, 4), sp: held(0x38, 8),
		pid: held(0x1000, 4), tgid: held(0x1004, 4), parent: held(0x1008, 8), cred: held(0x1010, 8), mm: held(0x1018, 8),
		signal: held(0x1020, 8), threadPID: held(0x1028, 8), pidLinks: held(0x1030, 64), tasks: held(0x1070, 16),
		threadNode: held(0x1080, 16), runs: held(0x1090, 8), startTime: held(0x1098, 8), startBoot: held(0x10a0, 8), comm: held(0x10b0, 16),
		utime: held(0x10c0, 8), stime: held(0x10c8, 8), exitCode: held(0x10d0, 4),
		uid: held(8, 4), gid: held(12, 4), suid: held(16, 4), sgid: held(20, 4), euid: held(24, 4), egid: held(28, 4),
		fsuid: held(32, 4), fsgid: held(36, 4),
		threadHead: held(0x10, 16),
		pidLevel:   held(4, 4), pidTasks: held(16, 32), pidNumbers: held(96, 0), upidNR: held(0, 4), upidNS: held(8, 8), upidSize: 16,
		nsIDR: held(0x20, 24), idrHead: held(8, 8), idrBase: held(16, 4),
	}
	w.idrFields = idrFields{xaShift: held(0, 1), xaSlots: held(40, 512)}
	if err := w.resolve(); err != nil {
		t.Fatal(err)
	}
	q := &queueKnowledge{cpu: held(0, 4), online: held(4, 4), curr: held(8, 8), idle: held(16, 8), clock: held(24, 8), owner: held(8, 8),
		at: []remora.Addr{worldQueues, worldQueues + 0x1000}}
	q.queue, _ = frameOf("rq", q.cpu, q.online, q.curr, q.idle, q.clock)
	s := memtest.NewSparse(nil)
	if err := s.Map(remora.Range{Start: worldTasks, Size: 0x700000}, memtest.MapOptions{Perm: remora.PermRead | remora.PermWrite}); err != nil {
		t.Fatal(err)
	}
	k := New(s, "sample", &Hints{})
	k.mem = s.Memory()
	k.tasks.answer.Store(&answer[*taskKnowledge]{value: w})
	k.queues.answer.Store(&answer[*queueKnowledge]{value: q})
	tw := &taskWorld{t, s, k, w}
	tw.fill()
	return tw
}

// The tasks of a taskWorld by their places.
const (
	idle0 = iota
	idle1
	first
	second
	third
	threadA
	threadB
)

func (w *taskWorld) fill() {
	for at, x := range []struct {
		pid, tgid, parent int
		comm              string
	}{{0, 0, idle0, "swapper/0"}, {0, 0, first, "swapper/1"}, {1, 1, idle0, "init"}, {2, 2, idle0, "kthreadd"}, {300, 300, first, "a\xff\x1b name"}, {10, 1, idle0, "init"}, {11, 1, idle0, "worker"}} {
		a := taskAt(at)
		w.put(a, w.w.pid, uint64(x.pid))
		w.put(a, w.w.tgid, uint64(x.tgid))
		w.put(a, w.w.parent, uint64(taskAt(x.parent)))
		w.put(a, w.w.cred, uint64(worldCreds+remora.Addr(at)*0x100))
		w.put(a, w.w.signal, uint64(worldSignals+remora.Addr(at)*0x100))
		w.put(a, w.w.threadPID, uint64(pidAt(at)))
		w.put(a, w.w.stack, 0xffff_c900_0000_0000+uint64(at)<<16)
		w.put(a, w.w.state, 1)
		w.poke(a+remora.Addr(w.w.comm.off), append([]byte(x.comm), 0))
		w.put(worldCreds+remora.Addr(at)*0x100, w.w.uid, uint64(1000+at))
		w.number(at, x.pid)
	}
	w.put(taskAt(idle1), w.w.cpu, 1)
	w.put(taskAt(second), w.w.flags, flagKernelThread)
	w.link(w.w.tasks, idle0, first, second, third)
	for _, at := range []int{threadA, threadB} {
		w.put(taskAt(at), w.w.signal, uint64(worldSignals+first*0x100))
	}
	w.threads(first, first, threadA, threadB)
	w.threads(second, second)
	w.threads(third, third)
	w.tree()
	for i, idle := range []int{idle0, idle1} {
		q := worldQueues + remora.Addr(i)*0x1000
		w.put(q, held(0, 4), uint64(i))
		w.put(q, held(4, 4), 1)
		w.put(q, held(8, 8), uint64(taskAt(first)))
		w.put(q, held(16, 8), uint64(taskAt(idle)))
	}
}

func taskAt(at int) remora.Addr { return worldTasks + remora.Addr(at)*0x2000 }
func pidAt(at int) remora.Addr  { return worldPIDs + remora.Addr(at)*0x200 }

func (w *taskWorld) poke(a remora.Addr, b []byte) {
	w.t.Helper()
	if err := w.s.Poke(b, a); err != nil {
		w.t.Fatal(err)
	}
}

// put writes a member of the structure at a.
func (w *taskWorld) put(a remora.Addr, f field, v uint64) {
	w.t.Helper()
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], v)
	w.poke(a+remora.Addr(f.off), b[:min(f.size, 8)])
}

// link makes a list of tasks.
func (w *taskWorld) link(f field, all ...int) {
	for i, at := range all {
		next, prev := all[(i+1)%len(all)], all[(i+len(all)-1)%len(all)]
		w.put(taskAt(at), f.word(0), uint64(taskAt(next))+f.off)
		w.put(taskAt(at), f.word(1), uint64(taskAt(prev))+f.off)
	}
}

// threads makes the list of the threads of a process.
func (w *taskWorld) threads(of int, all ...int) {
	f := w.w.threadNode
	head := worldSignals + remora.Addr(of)*0x100
	last := uint64(head) + w.w.threadHead.off
	for i := len(all) - 1; i >= 0; i-- {
		w.put(taskAt(all[i]), f.word(0), last)
		last = uint64(taskAt(all[i])) + f.off
	}
	w.put(head, w.w.threadHead.word(0), last)
}

// number writes the struct pid of a task.
func (w *taskWorld) number(at, pid int) {
	a := pidAt(at)
	w.put(a, w.w.pidNumbers.from(0).word(0), uint64(pid))
	w.put(a, w.w.pidNumbers.word(1), uint64(worldSpace))
	w.put(a, w.w.pidTasks.word(pidThread), uint64(taskAt(at))+w.w.pidLinks.off)
	if at != threadA && at != threadB {
		w.put(a, w.w.pidTasks.word(pidProcess), uint64(taskAt(at))+w.w.pidLinks.off+16)
	}
}

// tree writes the numbers of all tasks but the idle ones: a node of two levels, as 300 is
// beyond 63.
func (w *taskWorld) tree() {
	const top, low, high = worldNodes, worldNodes + 0x400, worldNodes + 0x800
	w.put(worldSpace, w.w.idrHead.from(w.w.nsIDR.off), uint64(top)|xaInternal)
	w.put(top, w.w.xaShift, 6)
	slot := func(node remora.Addr, i uint64, v remora.Addr) { w.put(node, w.w.xaSlots.word(i), uint64(v)) }
	slot(top, 0, low|xaInternal)
	slot(top, 4, high|xaInternal)
	slot(low, 1, pidAt(first))
	slot(low, 2, pidAt(second))
	slot(low, 10, pidAt(threadA))
	slot(low, 11, pidAt(threadB))
	slot(high, 300-256, pidAt(third))
}

// lose makes the page at a one that was not saved.
func (w *taskWorld) lose(a remora.Addr) {
	w.t.Helper()
	if err := w.s.Map(remora.Range{Start: a &^ 4095, Size: 4096}, memtest.MapOptions{Perm: remora.PermRead, Fault: remora.ErrNotSaved}); err != nil {
		w.t.Fatal(err)
	}
}

// list gives the numbers of all that Tasks gives, in order, and the errors.
func (w *taskWorld) list() (pids []int, err error) {
	var all []error
	for t, err := range w.k.Tasks(w.t.Context()) {
		if err != nil {
			all = append(all, err)
		} else {
			pids = append(pids, t.PID)
		}
	}
	return pids, errors.Join(all...)
}
