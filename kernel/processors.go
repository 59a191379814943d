// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/remora-go/remora"
)

// Processor is a processor of the machine, as its run queue has it (struct rq).
type Processor struct {
	ID      int
	Online  bool
	Current remora.Addr       // the task that it ran
	Idle    remora.Addr       // the one that it runs when there is nothing to do
	Clock   time.Duration     // since the system started, when the run queue was last looked after
	Regs    map[string]uint64 // by the names that gdb uses; nil: the image has none

	queue remora.Addr
}

// maxProcessors is the largest number of processors that is believed (NR_CPUS of x86-64
// with MAXSMP).
const maxProcessors = 8192

// queueKnowledge is where the run queues are, and the members of struct rq.
type queueKnowledge struct {
	cpu, online, curr, idle, clock field
	owner                          field // cfs_rq.rq
	queue                          frame

	at []remora.Addr
}

// Processors lists the processors that the kernel has a run queue for, by their numbers.
func (k *Kernel) Processors(ctx context.Context) ([]Processor, error) {
	q, err := k.queues.do(ctx, k.learnQueues)
	if err != nil {
		return nil, fmt.Errorf("processors: %w", err)
	}
	var all []Processor
	err = q.each(ctx, k.mem, q.at, func(_ int, p Processor) { all = append(all, p) })
	slices.SortFunc(all, func(a, b Processor) int { return a.ID - b.ID })
	k.addRegisters(ctx, all)
	return all, err
}

func (k *Kernel) learnQueues(ctx context.Context) (*queueKnowledge, error) {
	types, err := k.Types(ctx)
	if err != nil {
		return nil, err
	}
	q := &queueKnowledge{}
	if err := types.fields(ctx,
		wanted{&q.cpu, "rq.cpu", true},
		wanted{&q.online, "rq.online", true},
		wanted{&q.curr, "rq.curr", false},
		wanted{&q.idle, "rq.idle", false},
		wanted{&q.clock, "rq.clock", true},
		wanted{&q.owner, "cfs_rq.rq", true},
	); err != nil {
		return nil, err
	}
	if q.queue, err = frameOf("rq", q.cpu, q.online, q.curr, q.idle, q.clock); err != nil {
		return nil, err
	}
	why := k.queuesBySymbols(ctx, q)
	if len(q.at) == 0 && ctx.Err() == nil {
		if err := k.queuesByTasks(ctx, q); len(q.at) == 0 {
			return nil, fmt.Errorf("the run queues were not found: %w", errors.Join(why, err))
		}
	}
	return q, ctx.Err()
}

// each reads run queues. What became of those that cannot be read the error says.
func (q *queueKnowledge) each(ctx context.Context, mem *remora.Memory, at []remora.Addr, use func(i int, p Processor)) error {
	var b batch
	parts := make([]part, len(at))
	for i, a := range at {
		parts[i] = b.add(a, &q.queue)
	}
	if err := b.run(ctx, mem); err != nil {
		return err
	}
	var lost []error
	for i, part := range parts {
		if err := b.fault(ctx, mem, part); err != nil {
			lost = append(lost, err)
		} else if p, ok := q.decode(at[i], part.read); ok {
			use(i, p)
		}
	}
	return errors.Join(lost...)
}

// decode makes a Processor of a struct rq.
func (q *queueKnowledge) decode(a remora.Addr, b []byte) (Processor, bool) {
	p := Processor{
		ID: int(int32(q.queue.uint(b, q.cpu))), Online: !q.online.has() || q.queue.uint(b, q.online) != 0,
		Current: q.queue.ptr(b, q.curr), Idle: q.queue.ptr(b, q.idle),
		Clock: time.Duration(q.queue.uint(b, q.clock)), queue: a,
	}
	return p, p.ID >= 0 && p.ID < maxProcessors && isKernel(p.Current) && isKernel(p.Idle)
}

// queuesBySymbols takes the run queues where the symbols say that they are.
func (k *Kernel) queuesBySymbols(ctx context.Context, q *queueKnowledge) error {
	queues, err := k.symbol(ctx, "runqueues")
	if err != nil {
		return err
	}
	offsets, err := k.perCPU(ctx)
	if err != nil {
		return err
	}
	at := make([]remora.Addr, len(offsets))
	for i, off := range offsets {
		at[i] = queues + off
	}
	// There need not be a processor of each number.
	return q.each(ctx, k.mem, at, func(i int, p Processor) {
		if p.ID == i || !q.cpu.has() {
			q.at = append(q.at, at[i])
		}
	})
}

// perCPU gives what is added to the address of a variable to have that of each processor:
// __per_cpu_offset. A kernel for one processor has no such thing.
func (k *Kernel) perCPU(ctx context.Context) ([]remora.Addr, error) {
	return k.cpuOffsets.do(ctx, func(ctx context.Context) ([]remora.Addr, error) {
		at, err := k.symbol(ctx, "__per_cpu_offset")
		if err != nil {
			return nil, err
		}
		many, err := k.symbol(ctx, "nr_cpu_ids")
		if err != nil {
			return nil, err
		}
		r := k.reader(ctx)
		n := r.uint(many, field{size: 4})
		if r.err == nil && (n == 0 || n > maxProcessors) {
			return nil, fmt.Errorf("nr_cpu_ids at %v is %d: %w", many, n, remora.ErrCorrupt)
		}
		b := make([]byte, 8*n)
		r.bytes(at, b)
		offsets := make([]remora.Addr, n)
		for i := range offsets {
			offsets[i] = remora.Addr(binary.LittleEndian.Uint64(b[8*i:]))
		}
		return offsets, r.err
	})
}

// queuesByTasks takes the run queues that tasks lead to: each has a pointer to a part of
// that of its processor (CONFIG_FAIR_GROUP_SCHED).
func (k *Kernel) queuesByTasks(ctx context.Context, q *queueKnowledge) error {
	tr, err := k.taskReader(ctx)
	if err != nil {
		return err
	}
	if !tr.runs.has() || !q.owner.has() {
		return fmt.Errorf("a task does not lead to the run queue of its processor: %w", remora.ErrUnrecognized)
	}
	first, err := tr.read(tr.init)
	if err != nil {
		return err
	}
	var lost error
	known := map[int]bool{}
	look := func(t *Task) {
		if known[t.CPU] || !isKernel(t.runs) {
			return
		}
		r := k.reader(ctx)
		at := r.ptr(t.runs, q.owner)
		err := r.err
		if err == nil {
			err = q.each(ctx, k.mem, []remora.Addr{at}, func(_ int, p Processor) {
				if !known[p.ID] {
					known[p.ID] = true
					q.at = append(q.at, at)
				}
			})
		}
		if lost == nil {
			lost = err
		}
	}
	look(first)
	l := &taskList{taskReader: tr, seen: map[remora.Addr]bool{}, bare: true, yield: func(t *Task, err error) bool {
		if err == nil {
			look(t)
		}
		return true
	}}
	l.processes(first)
	l.flush()
	return lost
}
