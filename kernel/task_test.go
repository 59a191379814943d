// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/remora-go/remora"
)

func TestTasks(t *testing.T) {
	w := newTaskWorld(t)
	a := taskAt(third)
	w.put(a, w.w.state, 0x402)
	w.put(a, w.w.startBoot, 1_500_000_000)
	w.put(pidAt(third), w.w.pidLevel, 2) // it is in two more namespaces
	w.put(pidAt(third), w.w.pidNumbers.word(2), 30)
	w.put(pidAt(third), w.w.pidNumbers.word(4), 1)
	var got *Task
	var pids []int
	for task, err := range w.k.Tasks(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		got = task
		pids = append(pids, task.PID)
		if task.Problem != nil {
			t.Error(task.Problem)
		}
	}
	if diff := cmp.Diff([]int{0, 0, 1, 2, 300}, pids); diff != "" {
		t.Fatal(diff)
	}
	want := &Task{Addr: a, PID: 300, TGID: 300, PPID: 1, NSPIDs: []int{300, 30, 1}, Comm: "a\xff\x1b name", State: 'I',
		Creds: Creds{UID: 1004}, StartBoot: 1_500_000_000, Stack: 0xffff_c900_0004_0000}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(Task{})); diff != "" {
		t.Error(diff)
	}
}

func TestChildren(t *testing.T) {
	w := newTaskWorld(t)
	w.put(taskAt(first), w.w.mm, uint64(worldNodes))
	w.put(taskAt(second), w.w.mm, uint64(worldNodes)) // a kernel thread that borrows
	w.put(taskAt(third), w.w.mm, uint64(worldNodes))
	w.lose(worldQueues + 0x1000) // which is told of, and of no matter
	var got []remora.Child
	var bad error
	for c, err := range w.k.Children(t.Context()) {
		if bad = errors.Join(bad, err); err == nil {
			got = append(got, c)
		}
	}
	if diff := cmp.Diff([]remora.Child{{ID: 1, Name: "init"}, {ID: 300, Name: "a\xff\x1b name"}}, got); diff != "" || !errors.Is(bad, remora.ErrNotSaved) {
		t.Errorf("%v: %s", bad, diff)
	}
	for range w.k.Children(t.Context()) {
		break
	}
}

func TestTasksBroken(t *testing.T) {
	all := []int{0, 0, 1, 2, 300}
	for _, x := range []struct {
		name   string
		breaks func(w *taskWorld)
		want   []int
		errs   []string
	}{
		{"a circle", func(w *taskWorld) {
			w.put(taskAt(second), w.w.tasks.word(0), uint64(taskAt(first))+w.w.tasks.off)
		}, all, []string{"the list of processes is broken: behind process 2 at 0xffff888000006000 it comes back to 0xffff888000004000"}},
		{"a circle of one", func(w *taskWorld) {
			w.put(taskAt(first), w.w.tasks.word(0), uint64(taskAt(first))+w.w.tasks.off)
		}, []int{0, 0, 1, 300, 2}, []string{"it comes back"}},
		{"a link to nowhere", func(w *taskWorld) {
			w.put(taskAt(first), w.w.tasks.word(0), 0x6b6b6b6b6b6b6b6b)
			w.put(taskAt(third), w.w.tasks.word(1), 0x1122)
		}, []int{0, 0, 1, 300, 2}, []string{"behind process 1 at 0xffff888000004000 comes 0x6b6b6b6b6b6b6b6b"}},
		{"a task that was not saved", func(w *taskWorld) {
			w.lose(taskAt(first) + 0x1000)
		}, []int{0, 0, 300, 2}, []string{"struct task_struct at 0xffff888000004000: read", "process 1: struct task_struct"}},
		{"a task that was freed", func(w *taskWorld) {
			w.put(taskAt(second), w.w.pid, 0x6b6b6b6b)
		}, []int{0, 0, 1, 300}, []string{"no task at 0xffff888000006000: its numbers are 1802201963 and 2", "process 2: no task"}},
		{"a name without an end", func(w *taskWorld) {
			w.poke(taskAt(second)+remora.Addr(w.w.comm.off), []byte(strings.Repeat("x", 16)))
		}, []int{0, 0, 1, 300}, []string{"its name has no end"}},
		{"no numbers either", func(w *taskWorld) {
			w.lose(taskAt(first) + 0x1000)
			w.lose(worldSpace)
		}, []int{0, 0, 300, 2}, []string{"the list of processes is broken", "processes by their numbers: read"}},
		{"the first task is not there", func(w *taskWorld) {
			w.lose(taskAt(idle0) + 0x1000)
		}, nil, []string{"struct task_struct at 0xffff888000000000"}},
		{"an idle task is not there", func(w *taskWorld) {
			w.lose(taskAt(idle1) + 0x1000)
		}, []int{0, 1, 2, 300}, []string{"struct task_struct at 0xffff888000002000"}},
		{"a processor is not there", func(w *taskWorld) {
			w.lose(worldQueues + 0x1000)
		}, []int{0, 1, 2, 300}, []string{"the idle tasks of the other processors: read"}},
	} {
		t.Run(x.name, func(t *testing.T) {
			w := newTaskWorld(t)
			x.breaks(w)
			pids, err := w.list()
			if diff := cmp.Diff(x.want, pids); diff != "" {
				t.Error(diff)
			}
			for _, want := range x.errs {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("%q is not in: %v", want, err)
				}
			}
			if !errors.Is(err, remora.ErrNotSaved) && !errors.Is(err, remora.ErrCorrupt) {
				t.Errorf("the error has no cause: %v", err)
			}
		})
	}
}

// TestTasksLack looks at tasks of which parts are missing.
func TestTasksLack(t *testing.T) {
	for _, x := range []struct {
		name   string
		breaks func(w *taskWorld)
		want   string
	}{
		{"what it does", func(w *taskWorld) { w.lose(taskAt(third)) }, "a part of process 300: read"},
		{"credentials", func(w *taskWorld) { w.put(taskAt(third), w.w.cred, uint64(worldQueues+0x800000)) }, "credentials of 300: read"},
		{"the parent", func(w *taskWorld) { w.put(taskAt(third), w.w.parent, uint64(worldQueues+0x800000)) }, "the parent of 300: read"},
		{"the parent's number", func(w *taskWorld) {
			w.put(taskAt(third), w.w.parent, uint64(worldNodes+0x8000))
			w.put(worldNodes+0x8000, w.w.tgid, 1<<31)
		}, "the parent of 300 has the number 2147483648"},
		{"the numbers", func(w *taskWorld) { w.put(pidAt(third), w.w.pidLevel, 33) }, "is of level 33"},
	} {
		t.Run(x.name, func(t *testing.T) {
			w := newTaskWorld(t)
			x.breaks(w)
			found := false
			for task, err := range w.k.Tasks(t.Context()) {
				if err != nil {
					t.Fatal(err)
				}
				if task.PID != 300 {
					continue
				}
				if found = true; task.Problem == nil || !strings.Contains(task.Problem.Error(), x.want) {
					t.Errorf("%v, want %q", task.Problem, x.want)
				}
				if (x.name == "what it does") != (task.State == '?') {
					t.Errorf("state %v", task.State)
				}
			}
			if !found {
				t.Error("process 300 is missing")
			}
		})
	}
}

func TestTaskByNumber(t *testing.T) {
	w := newTaskWorld(t)
	for _, pid := range []int{0, 1, 2, 10, 11, 300} {
		if task, err := w.k.Task(t.Context(), pid); err != nil || task.PID != pid {
			t.Errorf("%d: %+v, %v", pid, task, err)
		}
	}
	for _, pid := range []int{-1, 3, 64, 4096, maxPID + 1, 1<<31 - 1} {
		var none *NoTaskError
		if _, err := w.k.Task(t.Context(), pid); !errors.As(err, &none) || !errors.Is(err, remora.ErrGone) {
			t.Errorf("%d: %v", pid, err)
		}
	}
	// Without the tree all lists are searched; what is in none is not known to be missing.
	w.lose(worldNodes)
	for _, pid := range []int{1, 11, 300} {
		if task, err := w.k.Task(t.Context(), pid); err != nil || task.PID != pid {
			t.Errorf("without the tree: %d: %+v, %v", pid, task, err)
		}
	}
	if _, err := w.k.Task(t.Context(), 3); !errors.Is(err, remora.ErrNotSaved) {
		t.Errorf("without the tree: %v", err)
	}
}

// TestNumbersBroken looks at trees that no kernel makes.
func TestNumbersBroken(t *testing.T) {
	for _, x := range []struct {
		name   string
		breaks func(w *taskWorld)
		want   string
	}{
		{"a node that leads to itself", func(w *taskWorld) {
			w.put(worldNodes, w.w.xaSlots.word(0), uint64(worldNodes)|xaInternal)
		}, "has the shift 6, below one of 6"},
		{"a node of too large a shift", func(w *taskWorld) { w.put(worldNodes, w.w.xaShift, 77) }, "has the shift 77, below one of 64"},
		{"a task of another number", func(w *taskWorld) {
			w.put(worldNodes+0x400, w.w.xaSlots.word(1), uint64(pidAt(second)))
			w.put(taskAt(idle0), w.w.tasks.word(0), 0)
			w.put(taskAt(idle0), w.w.tasks.word(1), 0)
		}, "has the number 2"},
		{"slots that are no array", func(w *taskWorld) { w.w.xaSlots.size = 24 }, "an XArray of 3 slots"},
	} {
		t.Run(x.name, func(t *testing.T) {
			w := newTaskWorld(t)
			x.breaks(w)
			w.put(taskAt(idle0), w.w.tasks.word(0), 8)
			w.put(taskAt(idle0), w.w.tasks.word(1), 8)
			if task, err := w.k.Task(t.Context(), 1); err == nil || !strings.Contains(err.Error(), x.want) {
				t.Errorf("%+v, %v; want %q", task, err, x.want)
			}
			if _, err := w.list(); err == nil {
				t.Error("the list has no error")
			}
		})
	}
}

func TestThreads(t *testing.T) {
	for _, x := range []struct {
		name   string
		breaks func(w *taskWorld)
		want   []int
		err    string
	}{
		{"all", func(*taskWorld) {}, []int{1, 10, 11}, ""},
		{"of one that is past exit", func(w *taskWorld) { w.put(taskAt(first), w.w.signal, 0) }, []int{1}, ""},
		{"a circle", func(w *taskWorld) {
			w.put(taskAt(threadB), w.w.threadNode.word(0), uint64(taskAt(threadA))+w.w.threadNode.off)
		}, []int{1, 10, 11}, "the threads of process 1: the list comes back to 0xffff88800000a000"},
		{"of another process", func(w *taskWorld) { w.put(taskAt(threadB), w.w.tgid, 2) }, []int{1, 10}, "is of process 2"},
		{"not saved", func(w *taskWorld) { w.lose(taskAt(threadA) + 0x1000) }, []int{1, 11}, "not saved"},
		{"no list", func(w *taskWorld) { w.lose(worldSignals) }, []int{1, 10, 11}, "the threads of process 1: read"},
		{"neither list nor numbers", func(w *taskWorld) {
			w.lose(worldSignals)
			w.lose(worldSpace)
		}, []int{1}, "the threads of process 1 by their numbers: read"},
		{"an older kernel", func(w *taskWorld) {
			w.w.threadGroup, w.w.threadNode, w.w.threadHead = w.w.threadNode, field{}, field{}
			w.link(w.w.threadGroup, first, threadA, threadB)
		}, []int{1, 10, 11}, ""},
	} {
		t.Run(x.name, func(t *testing.T) {
			w := newTaskWorld(t)
			x.breaks(w)
			leader, err := w.k.TaskAt(t.Context(), taskAt(first))
			if err != nil {
				t.Fatal(err)
			}
			var pids []int
			var bad error
			for task, err := range w.k.Threads(t.Context(), leader) {
				if err != nil {
					bad = err
					continue
				}
				pids = append(pids, task.PID)
			}
			if !slices.Equal(pids, x.want) || (bad == nil) != (x.err == "") || bad != nil && !strings.Contains(bad.Error(), x.err) {
				t.Errorf("%v, %v; want %v, %q", pids, bad, x.want, x.err)
			}
		})
	}
}

// TestTasksContext ends lists in the middle, by the caller and by a context.
func TestTasksContext(t *testing.T) {
	w := newTaskWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for task, err := range w.k.Tasks(ctx) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%+v, %v", task, err)
		}
	}
	if _, err := w.k.Task(ctx, 300); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	for range w.k.Tasks(t.Context()) {
		break
	}
	if pids, err := w.list(); err != nil || len(pids) != 5 {
		t.Errorf("%v, %v", pids, err)
	}
}

func TestStates(t *testing.T) {
	for _, x := range []struct {
		state, exit uint64
		want        State
	}{
		{0, 0, 'R'}, {1, 0, 'S'}, {2, 0, 'D'}, {0x102, 0, 'D'}, {4, 0, 'T'}, {0x104, 0, 'T'}, {8, 0, 't'}, {0x80, 0x10, 'X'}, {0x80, 0x20, 'Z'},
		{0x40, 0, 'P'}, {0x402, 0, 'I'}, {0x2402, 0, 'I'}, {0x8000, 0, 'D'}, {0x1000, 0, 'D'}, {0x2001, 0, 'S'}, {0x200, 0, 'R'},
	} {
		if got := stateOf(x.state, x.exit); got != x.want {
			t.Errorf("%#x, %#x: %v, not %v", x.state, x.exit, got, x.want)
		}
	}
}

// FuzzTasks reads tasks out of memory that was changed at will: what there is to find ends
// somewhere, and is told without a panic.
func FuzzTasks(f *testing.F) {
	f.Add([]byte{}, uint64(0))
	f.Add([]byte{0, 0, 0, 0x70, 0x10, 0, 1, 2, 3}, uint64(0x6b6b6b6b6b6b6b6b))
	f.Add([]byte{0x40, 0, 0, 0x40, 0, 40, 0, 0x40, 48}, uint64(worldNodes|xaInternal))
	f.Fuzz(func(t *testing.T, at []byte, value uint64) {
		w := newTaskWorld(t)
		for len(at) >= 3 {
			off := (uint64(at[0])<<16 | uint64(at[1])<<8 | uint64(at[2])) % (0x700000 - 8)
			w.put(worldTasks, field{off: off, size: 8}, value)
			at, value = at[3:], value*31+off
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		for task, err := range w.k.Tasks(ctx) {
			if (task == nil) != (err != nil) {
				t.Fatalf("%+v, %v", task, err)
			}
			if task == nil {
				continue
			}
			for thread, err := range w.k.Threads(ctx, task) {
				if (thread == nil) != (err != nil) {
					t.Fatalf("%+v, %v", thread, err)
				}
			}
		}
		for _, pid := range []int{0, 1, 11, 300} {
			if task, err := w.k.Task(ctx, pid); (task == nil) != (err != nil) && err == nil {
				t.Fatalf("%+v, %v", task, err)
			}
		}
	})
}
