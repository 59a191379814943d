// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/remora-go/remora"
)

// pauses are those that are under way. The guest is stopped by the first and runs on
// after the last.
type pauses struct {
	mu   sync.Mutex
	n    int
	did  bool // the guest ran, and was stopped
	done func() error
}

// Pause stops the processors of the guest (QMP's stop), if they run. They run on when
// resume is called, or the guest is closed. When this process dies before that, only a
// QEMUOptions.Watchdog lets them run on.
func (q *QEMU) Pause(ctx context.Context) (resume func() error, err error) {
	if !q.gate.Enter() {
		return nil, os.ErrClosed
	}
	defer q.gate.Leave()
	p := &q.pauses
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.n == 0 {
		if err := p.begin(ctx, q); err != nil {
			return nil, err
		}
	}
	p.n++
	once := sync.OnceValue(func() error {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.n--; p.n > 0 {
			return nil
		}
		return p.finish(q)
	})
	return once, nil
}

// begin stops a guest that runs.
func (p *pauses) begin(ctx context.Context, q *QEMU) error {
	if q.isGone() {
		return q.goneError()
	}
	var s struct{ Running bool }
	if err := q.execute(ctx, "query-status", nil, &s); err != nil || !s.Running {
		return err
	}
	if q.opts.Watchdog != nil {
		done, err := q.opts.Watchdog(q)
		q.client.Resume() // the connection may have been handed to a process
		if err != nil {
			_, _ = q.queryStatus(ctx)
			return fmt.Errorf("%s: it was not paused, since nobody would let it run on if this process were killed: %w", q.name(), err)
		}
		p.done = done
	}
	// Once it is sent it is carried out: a caller who gives up meanwhile must not leave
	// the guest stopped.
	p.did = true
	if err := q.execute(context.WithoutCancel(ctx), "stop", nil, nil); err != nil {
		return errors.Join(err, p.finish(q))
	}
	return nil
}

// finish lets the guest run on, if it did before. Where that fails, the watchdog stays to
// do so when this process ends.
func (p *pauses) finish(q *QEMU) error {
	if p.did {
		if err := q.execute(context.Background(), "cont", nil, nil); err != nil && !errors.Is(err, remora.ErrGone) {
			return err
		}
		p.did = false
	}
	done := p.done
	if p.done = nil; done == nil {
		return nil
	}
	return done()
}

// end finishes for those who did not.
func (p *pauses) end(q *QEMU) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.n = 0
	return p.finish(q)
}

// Connection gives another descriptor of the connection to QEMU, for a Watchdog: what it
// writes there is heard by QEMU when this process no longer speaks. See package qmp.
func (q *QEMU) Connection() (*os.File, error) { return q.client.File() }
