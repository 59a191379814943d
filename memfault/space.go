// SPDX-License-Identifier: Apache-2.0

package memfault

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"sync/atomic"
	"time"

	"github.com/remora-go/remora"
)

// Space is a remora.Space with faults of its own. All methods may be called
// concurrently.
type Space struct {
	below remora.Space
	rules *rules
	calls atomic.Uint64 // of which rules.life are let through

	mu     sync.RWMutex // held through a Transfer, so Close waits for it
	closed bool

	plans  sync.Pool // of *plan
	timers sync.Pool // of *time.Timer, stopped
}

var (
	_ remora.Space     = (*Space)(nil)
	_ remora.Explainer = (*Space)(nil)
)

// New gives space with the faults that rules describe, in the language of the
// package comment. An error names the line and what was expected there.
func New(space remora.Space, rules string) (*Space, error) {
	r, err := parse(rules)
	if err != nil {
		return nil, err
	}
	return &Space{
		below:  space,
		rules:  r,
		plans:  sync.Pool{New: func() any { return new(plan) }},
		timers: sync.Pool{New: func() any { return newTimer() }},
	}, nil
}

func newTimer() *time.Timer {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return t
}

// Info gives the facts of the Space below, with the Granule that the rules need.
func (s *Space) Info() remora.Info {
	info := s.below.Info()
	info.Granule = s.rules.granule(info.Granule)
	return info
}

// Unwrap gives the Space below.
func (s *Space) Unwrap() any { return s.below }

// Close waits for calls that run, and closes the Space below if it has a Close.
func (s *Space) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if c, ok := s.below.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// Explain names the rule behind an injected fault, and asks the Space below about
// others.
func (s *Space) Explain(ctx context.Context, op remora.Op, a remora.Addr, c error) error {
	for i := range s.rules.places {
		if p := &s.rules.places[i]; p.ops.has(op) && p.first <= a && a <= p.last {
			if c != error(p.cause) {
				break
			}
			return fmt.Errorf("injected by %q: %w", p.text, c)
		}
	}
	if x, ok := remora.As[remora.Explainer](s.below); ok {
		return x.Explain(ctx, op, a, c)
	}
	return c
}

// batch is the most segments between two looks at the context.
const batch = 1024

// plan is a batch as the Space below sees it.
type plan struct {
	segs   [batch]remora.Seg
	causes [batch]remora.Cause // why a segment goes no further; 0: it need not
}

// Transfer lets the Space below move what no rule stops.
func (s *Space) Transfer(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	info := s.below.Info()
	switch {
	case op&^(info.Ops|remora.Write) != 0:
		return s.below.Transfer(ctx, op, segs)
	case s.closed:
		abandon(segs, fs.ErrClosed)
		return 0, fs.ErrClosed
	case op&remora.Write != 0 && !info.Writable:
		return s.below.Transfer(ctx, op, segs)
	}
	// An empty call is refused as any other, and looks at nothing.
	if _, err := s.below.Transfer(ctx, op, nil); err != nil {
		abandon(segs, err)
		return 0, err
	}
	if empty(segs) {
		abandon(segs, nil)
		return 0, nil
	}
	if err := s.wait(ctx); err != nil {
		abandon(segs, err)
		return 0, err
	}
	if err := s.move(ctx, op, segs, s.rules.mortal && s.calls.Add(1) > s.rules.life); err != nil {
		return sum(segs), err
	}
	return sum(segs), first(segs)
}

// move takes one batch after another. It gives the error that cut the call short.
func (s *Space) move(ctx context.Context, op remora.Op, segs []remora.Seg, gone bool) error {
	p := s.plans.Get().(*plan)
	defer s.plans.Put(p)
	for len(segs) > 0 {
		if !empty(segs) {
			if err := ctx.Err(); err != nil {
				abandon(segs, err)
				return err
			}
		}
		n := s.plan(p, op, segs, gone)
		_, err := s.below.Transfer(ctx, op, p.segs[:n])
		stopped := fold(p, op, segs[:n], err) && op&remora.StopAtFault != 0
		clear(p.segs[:n]) // nothing is retained
		segs = segs[n:]
		switch {
		case cut(err):
			abandon(segs, err)
			return err
		case stopped:
			abandon(segs, remora.ErrStopped)
			return nil
		}
	}
	return nil
}

// plan fills p with segments up to a batch, and says how many. With StopAtFault
// the first that a rule stops is the last.
func (s *Space) plan(p *plan, op remora.Op, segs []remora.Seg, gone bool) int {
	for i := range min(len(segs), batch) {
		n, cause := 0, remora.Cause(0)
		switch {
		case !gone:
			n, cause = s.rules.stop(op, &segs[i])
		case len(segs[i].Buf) > 0:
			cause = remora.ErrGone
		}
		p.segs[i] = remora.Seg{Addr: segs[i].Addr, Buf: segs[i].Buf[:n]}
		p.causes[i] = cause
		if cause != 0 && op&remora.StopAtFault != 0 {
			return i + 1
		}
	}
	return min(len(segs), batch)
}

// fold takes the results over and says whether a segment is incomplete. err is
// what the Space below returned: when it cut the call short, or stopped, what a rule
// stops behind that was not attempted either.
func fold(p *plan, op remora.Op, segs []remora.Seg, err error) (incomplete bool) {
	var behind error
	for i := range segs {
		low := p.segs[i].Err
		if low == nil && p.causes[i] != 0 {
			low = p.causes[i]
			if behind != nil {
				low = behind
			}
		}
		segs[i].N, segs[i].Err = p.segs[i].N, low
		switch {
		case low == nil:
			continue
		case cut(err) && (cut(low) || low == remora.ErrInDoubt):
			behind = err
		case op&remora.StopAtFault != 0 && behind == nil:
			behind = remora.ErrStopped
		}
		incomplete = true
	}
	return incomplete
}

// cut says whether err ends a whole call, not a segment.
func cut(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || err == fs.ErrClosed
}

// wait is the delay.
func (s *Space) wait(ctx context.Context) error {
	if s.rules.delay == 0 {
		return nil
	}
	done := ctx.Done()
	if done == nil {
		time.Sleep(s.rules.delay)
		return nil
	}
	t := s.timers.Get().(*time.Timer)
	defer s.timers.Put(t)
	t.Reset(s.rules.delay)
	select {
	case <-t.C:
		return nil
	case <-done:
		t.Stop()
		return ctx.Err()
	}
}

func empty(segs []remora.Seg) bool {
	for i := range segs {
		if len(segs[i].Buf) > 0 {
			return false
		}
	}
	return true
}

// abandon ends segments that are not attempted.
func abandon(segs []remora.Seg, err error) {
	for i := range segs {
		segs[i].N, segs[i].Err = 0, nil
		if len(segs[i].Buf) > 0 {
			segs[i].Err = err
		}
	}
}

func sum(segs []remora.Seg) (n int64) {
	for i := range segs {
		n += int64(segs[i].N)
	}
	return n
}

func first(segs []remora.Seg) error {
	for i := range segs {
		if segs[i].Err != nil {
			return segs[i].Err
		}
	}
	return nil
}
