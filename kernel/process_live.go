// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"errors"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/xfer"
)

// mappings are those of a process, as they were at one time.
type mappings struct {
	list []VMA
	bad  error  // why these are not all
	turn uint64 // of the pager, when they were listed
}

// mappings gives those of now. On a live machine they are listed again in each turn, when
// they are first needed in it.
func (t *pager) mappings(ctx context.Context) *mappings {
	m := t.kept.Load()
	if !t.k.info.Live || m.turn == t.turn.Load() {
		return m
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	turn := t.turn.Load()
	if m = t.kept.Load(); m.turn == turn {
		return m
	}
	m = &mappings{turn: turn}
	m.list, m.bad = t.k.vmas(ctx, t.mm)
	if ctx.Err() != nil {
		m.bad = ctx.Err() // it is no answer to the next one
		return m
	}
	t.kept.Store(m)
	return m
}

// alive says whether a live process still is the one that was opened, with the same memory.
// When it is after a look at its memory, it was all the while: a process lets go of its
// memory before that is used for something else (exit_mm in kernel/exit.c, exec_mmap in
// fs/exec.c).
func (p *Process) alive(ctx context.Context) error {
	if !p.k.info.Live {
		return nil
	}
	w, ok := p.k.tasks.kept()
	if !ok {
		tr, err := p.k.taskReader(ctx)
		if err != nil {
			return err
		}
		w = tr.taskKnowledge
	}
	look := peekInto(ctx, p.k.mem)
	defer look.done()
	a := p.Task.Addr
	pid, tgid, mm := look.uint(a, w.pid), look.uint(a, w.tgid), look.uint(a, w.mm)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case look.err != nil && !errors.Is(look.err, remora.ErrFault):
		return look.err
	case look.err != nil || pid != uint64(p.Task.PID) || tgid != uint64(p.Task.TGID) || remora.Addr(mm) != p.mm:
		return remora.ErrGone
	}
	return nil
}

// Transfer moves memory of the process, and keeps the contract of remora.Space. Of a live
// process that has ended, or has begun another program, it ends in remora.ErrGone.
func (p *Process) Transfer(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
	if !p.k.info.Live {
		return p.view.Transfer(ctx, op, segs)
	}
	info := p.view.Info()
	if err := p.gate.Admit(op, info.Ops, info.Writable); err != nil {
		return xfer.Refuse(segs, err)
	}
	defer p.gate.Leave()
	if op&remora.Write != 0 { // it is not to be taken back
		if err := p.alive(ctx); err != nil {
			return xfer.Refuse(segs, err)
		}
	}
	p.pager.turn.Add(1)
	n, err := p.view.Transfer(ctx, op, segs)
	if op&remora.Write != 0 {
		return n, err
	}
	if gone := p.alive(ctx); gone != nil && ctx.Err() == nil {
		return xfer.Refuse(segs, gone)
	}
	return n, err
}
