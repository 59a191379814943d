// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/remora-go/remora"
)

func TestFindInit(t *testing.T) {
	w := newTaskWorld(t)
	all := remora.Range{Start: worldTasks, Size: 0x700000}
	if at, ok := findInit(t.Context(), w.k.mem, &w.w.taskFields, all); !ok || at != worldTasks {
		t.Errorf("the first task is at %v, %v", at, ok)
	}
	// A name alone does not make a task, also not one across two looks.
	w.poke(worldQueues+0x8000, []byte("swapper/0"))
	w.poke(worldTasks+scanWindow-3, []byte("swapper"))
	w.lose(worldTasks - 0x1000)
	all = remora.Range{Start: worldTasks - 0x1000, Size: 0x700000}
	if at, ok := findInit(t.Context(), w.k.mem, &w.w.taskFields, all); !ok || at != worldTasks {
		t.Errorf("the first task is at %v, %v", at, ok)
	}
	w.put(taskAt(third), w.w.tasks.word(0), 0)
	if at, ok := findInit(t.Context(), w.k.mem, &w.w.taskFields, all); ok {
		t.Errorf("%v is taken for the first task", at)
	}
}

// TestQueuesByTasks finds the run queues through what tasks have of them.
func TestQueuesByTasks(t *testing.T) {
	w := newTaskWorld(t)
	q := w.k.queues.answer.Load().value
	want := q.at
	q.at = nil
	for i, task := range []int{idle0, second} {
		part := worldQueues + 0x4000 + remora.Addr(i)*0x100
		w.put(taskAt(task), w.w.runs, uint64(part))
		w.put(part, q.owner, uint64(want[i]))
	}
	w.put(taskAt(second), w.w.cpu, 1)
	w.put(taskAt(third), w.w.cpu, 7)
	w.put(taskAt(third), w.w.runs, 0x10) // nonsense
	if err := w.k.queuesByTasks(t.Context(), q); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, q.at); diff != "" {
		t.Error(diff)
	}
}

func TestUsage(t *testing.T) {
	const mm = worldNodes + 0x20000
	const page = 4096
	w := newTaskWorld(t)
	tasks := []*Task{{MM: mm}, {}, {MM: 0x1000}, {MM: mm + 0x1000}}
	for _, x := range []struct {
		name string
		f    usageFields
	}{
		{"before 6.2", usageFields{total: held(8, 8), plain: held(16, 32), counters: held(16, 32)}},
		{"since 6.2", usageFields{total: held(8, 8), counters: field{off: 16, size: 160, elem: 40, there: true}, sum: held(8, 8), parts: held(32, 8)}},
	} {
		t.Run(x.name, func(t *testing.T) {
			f := x.f
			if err := f.resolve(); err != nil {
				t.Fatal(err)
			}
			w.put(mm, f.total, 100)
			for kind, n := range []uint64{10, 20, 1000, 5} {
				if f.plain.has() {
					w.put(mm, f.plain.word(uint64(kind)), n)
					continue
				}
				at := f.counters.off + uint64(kind)*40
				w.put(mm, f.sum.from(at), n-2) // each of two processors has one more
				w.put(mm, f.parts.from(at), uint64(worldSpace)+uint64(kind)*4)
				w.put(worldSpace+0x2000, held(uint64(kind)*4, 4), 3)
				w.put(worldSpace+0x3000, held(uint64(kind)*4, 4), ^uint64(0))
			}
			k := New(w.s, "sample", &Hints{})
			k.mem = w.s.Memory()
			k.usage.answer.Store(&answer[*usageFields]{value: &f})
			k.cpuOffsets.answer.Store(&answer[[]remora.Addr]{value: []remora.Addr{0x2000, 0x3000}})
			all, err := k.Usage(t.Context(), tasks)
			if err != nil {
				t.Fatal(err)
			}
			if all[0] != (Usage{Virtual: 100 * page, Resident: 35 * page}) || all[1] != (Usage{}) || !errors.Is(all[2].Err, remora.ErrUnmapped) || all[3] != (Usage{}) {
				t.Errorf("%+v", all)
			}
		})
	}
}

func TestMatchRegisters(t *testing.T) {
	const stack = 0xffff_c900_0000_0000
	at := func(name string, sp uint64) CPU { return CPU{Regs: map[string]uint64{name: sp}} }
	stacks := []remora.Addr{stack, stack + 0x10000, stack + 0x20000}
	for _, x := range []struct {
		name string
		from []CPU
		want []uint64 // the stack pointer of each processor
	}{
		{"in order", []CPU{at("rsp", stack+8), at("rsp", stack+0x10008), at("rsp", stack+0x20008)}, []uint64{stack + 8, stack + 0x10008, stack + 0x20008}},
		{"the first was not saved", []CPU{at("sp", stack+0x10008), at("sp", stack+0x20008)}, []uint64{0, stack + 0x10008, stack + 0x20008}},
		{"in user mode", []CPU{at("sp", 0x7ffc0000), at("sp", stack+0x20008)}, []uint64{0x7ffc0000, 0, stack + 0x20008}},
		{"more than there are", []CPU{at("sp", 1), at("sp", 2), at("sp", 3), at("sp", 4)}, []uint64{1, 2, 3}},
		{"none", nil, []uint64{0, 0, 0}},
	} {
		t.Run(x.name, func(t *testing.T) {
			for i := range x.from {
				x.from[i].Index = i
			}
			all := []Processor{{ID: 0}, {ID: 1}, {ID: 2}}
			matchRegisters(x.from, all, stacks)
			for i, p := range all {
				if got := p.Regs["rsp"] + p.Regs["sp"]; got != x.want[i] {
					t.Errorf("processor %d has %#x, not %#x", i, got, x.want[i])
				}
			}
		})
	}
}

func TestLastWords(t *testing.T) {
	for _, x := range []struct {
		name string
		log  []string
		want words
	}{
		{"nothing", []string{"Linux version 6.1", "CPU: 0 PID: 1 Comm: init"}, words{cpu: -1}},
		{"a panic", []string{"sysrq: Trigger a crash", "Kernel panic - not syncing: sysrq triggered crash", "CPU: 3 PID: 1 Comm: init Kdump: loaded Not tainted", "CPU: 4 PID: 2"},
			words{panic: "sysrq triggered crash", trouble: "sysrq: Trigger a crash", cpu: 3}},
		{"a bug, then a panic", []string{"BUG: kernel NULL pointer dereference, address: 0000000000000000", "CPU: 1 UID: 0 PID: 77 Comm: x", "Kernel panic - not syncing: Fatal exception"},
			words{panic: "Fatal exception", trouble: "BUG: kernel NULL pointer dereference, address: 0000000000000000", cpu: -1}},
		{"no panic", []string{"Oops: 0002 [#1] SMP", "CPU: 1 UID: 0 PID: 77 Comm: x"}, words{trouble: "Oops: 0002 [#1] SMP", cpu: 1}},
		{"nonsense", []string{"Oops", "CPU: 99999999999999999999 PID", "CPU: -1", "CPU: 8192 x"}, words{trouble: "Oops", cpu: -1}},
	} {
		t.Run(x.name, func(t *testing.T) {
			w := words{cpu: -1}
			for _, line := range x.log {
				w.hear(line)
			}
			if w != x.want {
				t.Errorf("%+v, not %+v", w, x.want)
			}
		})
	}
}

func TestTaint(t *testing.T) {
	for _, x := range []struct {
		t       Taint
		letters string
		text    string
	}{
		{0, "", "not tainted"},
		{1<<12 | 1<<13, "OE", "O: a module from outside of the tree; E: a module without a signature"},
		{1<<9 | 1<<63, "W?", "W: a warning; ?: bit 63"},
	} {
		if x.t.Letters() != x.letters || x.t.String() != x.text {
			t.Errorf("%#x: %q, %q", uint64(x.t), x.t.Letters(), x.t.String())
		}
	}
}

func TestCrashText(t *testing.T) {
	c := &Crash{Reason: "sysrq triggered crash", CPU: 2, Task: &Task{PID: 1, Comm: "init"}, Regs: map[string]uint64{"rip": 0xffffffff81000000}, Problem: remora.ErrNotSaved}
	want := "sysrq triggered crash, on processor 2, in 1 (init), rip 0xffffffff81000000, not known: not saved in this dump"
	if got := c.String(); !strings.HasPrefix(got, want) {
		t.Errorf("%q", got)
	}
	if got := (&Crash{CPU: -1}).String(); got != "for a reason that is not known" {
		t.Errorf("%q", got)
	}
}
