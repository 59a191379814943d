// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/qmp"
)

// The bits of QEMU.state.
const (
	gone  = 1 << iota // no call is answered any more
	stale             // the layout is known to be old
)

// watcher sees to it that the end of a guest is noticed.
type watcher struct {
	tasks sync.WaitGroup
	mu    sync.Mutex
	ended bool               // Close has begun
	stop  func()             // ends the watch of the process; may be nil
	quit  context.CancelFunc // of a task that asks QEMU; nil: none runs
	again bool               // the guest was stopped while it ran
}

func (q *QEMU) isGone() bool { return q.state.Load()&gone != 0 }

// lose ends the handle. The first reason counts.
func (q *QEMU) lose(why string) {
	q.why.CompareAndSwap(nil, &why)
	q.state.Or(gone)
}

func (q *QEMU) goneError() error {
	return fmt.Errorf("%s: %s: %w", q.name(), *q.why.Load(), remora.ErrGone)
}

// event hears what QEMU tells.
func (q *QEMU) event(e qmp.Event) {
	switch e.Name {
	case "RESET":
		q.lose("the guest was reset: open it again")
	case "MIGRATION":
		var d struct{ Status string }
		if json.Unmarshal(e.Data, &d) == nil && d.Status == "completed" {
			q.lose("the guest has migrated to another host")
		}
	case "STOP":
		q.watch.ask(q)
	case "DEVICE_DELETED", "MEMORY_DEVICE_SIZE_CHANGE":
		q.state.Or(stale)
	}
}

// watchConnection ends the handle when QEMU closes the connection.
func (q *QEMU) watchConnection() {
	<-q.client.Done()
	q.lose("QEMU has exited or has closed the connection")
}

// ask finds out why the guest stands still. It runs beside the caller, which may not give
// a command; one such task is enough.
func (w *watcher) ask(q *QEMU) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.quit != nil {
		w.again = true
		return
	}
	if w.ended {
		return
	}
	ctx, quit := context.WithCancel(context.Background())
	w.quit = quit
	w.tasks.Go(func() {
		for more := true; more; more = w.more() {
			q.followStop(ctx)
		}
		quit()
	})
}

// more says whether the guest was stopped anew in the meantime, and ends the task if not.
func (w *watcher) more() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	more := w.again && !w.ended
	w.again = false
	if !more {
		w.quit = nil
	}
	return more
}

// followStop looks at a guest that stands still until it runs again or has left. At the end
// of a migration it is in the state "finish-migrate", then in "postmigrate", and only the
// first of the two is told, and of a guest that stood still before not even that (QEMU's
// runstate_transitions_def, migration_completion).
func (q *QEMU) followStop(ctx context.Context) {
	for {
		wait := 200 * time.Millisecond
		switch status, err := q.queryStatus(ctx); {
		case err != nil || status == running:
			return
		case departed(status):
			q.lose("the guest has migrated to another host")
			return
		case status == "finish-migrate":
			wait /= 10
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// close ends what watches. Its tasks end when the connection is closed too.
func (w *watcher) close(q *QEMU) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = true
	if w.stop != nil {
		w.stop()
	}
	if w.quit != nil {
		w.quit()
	}
}
