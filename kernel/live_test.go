// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"errors"
	"iter"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/sym"
)

// hooked is a Space in which something happens before a transfer.
type hooked struct {
	remora.Space
	calls int
	at    int // the call before which it happens
	do    func()
}

func (h *hooked) Transfer(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
	if h.calls++; h.calls == h.at {
		h.do()
	}
	return h.Space.Transfer(ctx, op, segs)
}

// A process that ends while tasks are listed is on the list or not; all others are, once.
func TestTasksThatEndMeanwhile(t *testing.T) {
	for at, seen := 1, false; !seen || at < 12; at++ {
		w := newTaskWorld(t)
		w.k.info.Live = true
		h := &hooked{Space: w.s, at: at, do: func() {
			f := w.w.tasks
			w.link(f, idle0, first, third)
			w.poke(taskAt(second), make([]byte, 0x2000)) // it is something else by now
			w.put(taskAt(second), f.word(0), uint64(worldNodes))
			w.put(worldNodes, w.w.xaSlots.word(2), 0)
		}}
		w.k.mem = remora.New(h)
		pids, err := w.list()
		others := slices.DeleteFunc(slices.Clone(pids), func(n int) bool { return n == 2 })
		if err != nil || !slices.Equal(others, []int{0, 0, 1, 300}) || len(pids) > 5 {
			t.Errorf("before transfer %d: %v, %v", at, pids, err)
		}
		if seen = h.calls < at; at > 1000 {
			t.Fatal("it does not end")
		}
	}
}

// So do threads.
func TestThreadsThatEndMeanwhile(t *testing.T) {
	for at := 1; at < 12; at++ {
		w := newTaskWorld(t)
		w.k.info.Live = true
		task, err := w.k.Task(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		w.k.mem = remora.New(&hooked{Space: w.s, at: at, do: func() {
			w.threads(first, first, threadB)
			w.poke(taskAt(threadA), make([]byte, 0x2000))
		}})
		var pids []int
		for x, err := range w.k.Threads(t.Context(), task) {
			if err != nil {
				t.Errorf("before transfer %d: %v", at, err)
				continue
			}
			pids = append(pids, x.PID)
		}
		if !slices.Equal(slices.DeleteFunc(pids, func(n int) bool { return n == 10 }), []int{1, 11}) {
			t.Errorf("before transfer %d: %v", at, pids)
		}
	}
}

// A list that stays broken is told as such.
func TestLiveTasksOfABrokenList(t *testing.T) {
	w := newTaskWorld(t)
	w.k.info.Live = true
	w.put(taskAt(second), w.w.tasks.word(0), 5)
	pids, err := w.list()
	if !errors.Is(err, remora.ErrCorrupt) || !slices.Contains(pids, 300) {
		t.Errorf("%v, %v", pids, err)
	}
}

func TestAlive(t *testing.T) {
	w := newTaskWorld(t)
	w.put(taskAt(third), w.w.mm, uint64(worldNodes))
	task, err := w.k.Task(t.Context(), 300)
	if err != nil {
		t.Fatal(err)
	}
	p := &Process{Task: task, k: w.k, mm: task.MM}
	w.put(taskAt(third), w.w.mm, 0)
	if err := p.alive(t.Context()); err != nil {
		t.Errorf("in an image: %v", err)
	}
	w.k.info.Live = true
	if err := p.alive(t.Context()); err != remora.ErrGone {
		t.Errorf("one that has ended: %v", err)
	}
	w.put(taskAt(third), w.w.mm, uint64(worldNodes))
	if err := p.alive(t.Context()); err != nil {
		t.Error(err)
	}
	w.put(taskAt(third), w.w.pid, 5)
	if err := p.alive(t.Context()); err != remora.ErrGone {
		t.Errorf("another task: %v", err)
	}
	w.lose(taskAt(third) + 0x1000)
	if err := p.alive(t.Context()); err != remora.ErrGone {
		t.Errorf("no memory: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.alive(ctx); err != context.Canceled {
		t.Error(err)
	}
}

// Symbols of modules are those of now.
func TestSymbolsOfModulesThatComeAndGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		names, version, reads := []string{"one"}, uint64(1), 0
		s := &Symbols{
			own:     fewSymbols{},
			parts:   func(context.Context) []remora.Range { return nil },
			version: func(context.Context) uint64 { return version },
			loaded: func(context.Context) iter.Seq2[sym.Symbol, error] {
				reads++
				return func(yield func(sym.Symbol, error) bool) {
					for i, name := range names {
						if !yield(sym.Symbol{Name: name, Addr: remora.Addr(1000 * i), Type: 't'}, nil) {
							return
						}
					}
				}
			},
		}
		has := func(name string) bool {
			found, err := s.Lookup(t.Context(), name)
			if err != nil {
				t.Fatal(err)
			}
			return len(found) > 0
		}
		for range 2 {
			if !has("one") || reads != 1 {
				t.Errorf("%d reads", reads)
			}
		}
		names, version = []string{"two"}, 2
		if has("one") || !has("two") || reads != 2 {
			t.Errorf("another module: %d reads", reads)
		}
		names = append(names, "made") // without a module
		if has("made") {
			t.Error("symbols are read again at once")
		}
		time.Sleep(2 * maxAge)
		if !has("made") || reads != 3 {
			t.Errorf("%d reads", reads)
		}
	})
}
