// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"
	"time"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/qmp"
)

// ErrSilent says that no greeting of QMP came in time, or nothing after it, as when another
// client holds the socket.
var ErrSilent = qmp.ErrSilent

// greeting is how long QEMU may take to greet, at most.
const greeting = 2 * time.Second

// name is what messages call the guest.
func (q *QEMU) name() string { return "qemu:" + q.socket }

// dial connects to the socket.
func (q *QEMU) dial(ctx context.Context) error {
	limit := min(q.opts.Timeout, greeting)
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	c, err := qmp.Dial(limited, q.socket, q.event)
	if err == nil {
		q.client = c
		q.watch.tasks.Go(q.watchConnection)
		return nil
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", q.name(), ctx.Err())
	}
	var failed *net.OpError
	switch {
	case errors.Is(err, qmp.ErrUnanswered):
		return fmt.Errorf("%s: within %v: %w", q.name(), limit, qmp.ErrUnanswered)
	case errors.Is(err, qmp.ErrSilent):
		return fmt.Errorf("%s: within %v: %w", q.name(), limit, ErrSilent)
	case errors.Is(err, qmp.ErrNoGreeting):
		return &remora.FormatError{File: q.socket, Want: "the greeting of QMP", Got: "something else", Err: remora.ErrUnrecognized}
	case errors.Is(err, fs.ErrPermission):
		return &remora.AccessError{Target: q.name(), Act: "connect to", Reason: "the socket is not open to this user",
			Remedy: "run as the user that QEMU runs as, or as root", Err: err}
	case errors.As(err, &failed):
		return &notThere{fmt.Sprintf("%s: nothing listens there: %v", q.name(), failed.Err)}
	}
	return fmt.Errorf("%s: %w", q.name(), err)
}

// notThere is the error of a socket without a listener, which says so in its own words.
type notThere struct{ text string }

func (e *notThere) Error() string { return e.text }
func (e *notThere) Unwrap() error { return fs.ErrNotExist }

// execute gives a command and waits for its reply, within the time that one may take.
func (q *QEMU) execute(ctx context.Context, command string, args, result any) error {
	limited, cancel := context.WithTimeout(ctx, q.opts.Timeout)
	defer cancel()
	return q.answer(ctx, q.client.Execute(limited, command, args, result))
}

// hmp gives a line to the monitor for people.
func (q *QEMU) hmp(ctx context.Context, line string) (string, error) {
	limited, cancel := context.WithTimeout(ctx, q.opts.Timeout)
	defer cancel()
	text, err := q.client.HMP(limited, line)
	return text, q.answer(ctx, err)
}

// answer makes the error of a command one of this package.
func (q *QEMU) answer(ctx context.Context, err error) error {
	var refused *qmp.Error
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s: QEMU did not answer within %v", q.name(), q.opts.Timeout)
	case errors.As(err, &refused):
		return fmt.Errorf("%s: %w", q.name(), err)
	}
	q.lose("the connection ended: " + err.Error())
	return q.goneError()
}

// refuses says whether err is QEMU's refusal of a command.
func refuses(err error) bool {
	var refused *qmp.Error
	return errors.As(err, &refused)
}

// ask finds out what guest it is, and whether its memory can be read.
func (q *QEMU) ask(ctx context.Context) error {
	var target struct{ Arch string }
	if err := q.execute(ctx, "query-target", nil, &target); err != nil {
		return err
	}
	q.arch = target.Arch
	status, err := q.queryStatus(ctx)
	if err != nil {
		return err
	}
	switch {
	case status == "inmigrate":
		return fmt.Errorf("%s: the guest is still arriving from another host: %w", q.name(), errors.ErrUnsupported)
	case departed(status):
		return fmt.Errorf("%s: the guest has migrated to another host: %w", q.name(), remora.ErrGone)
	}
	var migration struct{ Status string }
	err = q.execute(ctx, "query-migrate", nil, &migration)
	switch {
	case err == nil && strings.HasPrefix(migration.Status, "postcopy"):
		return fmt.Errorf("%s: parts of its memory are still on another host (%s): %w", q.name(), migration.Status, errors.ErrUnsupported)
	case err != nil && !refuses(err):
		return err
	}
	if status != running {
		q.watch.ask(q)
	}
	return q.confidential(ctx)
}

// running is the state of a guest that runs.
const running = "running"

// queryStatus gives the state of the guest: "running", "paused" and so on.
func (q *QEMU) queryStatus(ctx context.Context) (string, error) {
	var s struct{ Status string }
	err := q.execute(ctx, "query-status", nil, &s)
	return s.Status, err
}

// departed says whether a guest in that state has left.
func departed(status string) bool { return status == "postmigrate" }

// confidential refuses a guest whose memory is encrypted with a key that the host has not.
func (q *QEMU) confidential(ctx context.Context) error {
	var sev struct{ Enabled bool }
	if err := q.execute(ctx, "query-sev", nil, &sev); err != nil && !refuses(err) {
		return err
	}
	kind := ""
	if sev.Enabled {
		kind = "sev-guest"
	} else {
		var by string
		err := q.property(ctx, "/machine", "confidential-guest-support", &by)
		if err == nil && by != "" {
			kind = by
			err = q.property(ctx, by, "type", &kind)
		}
		if err != nil && !refuses(err) {
			return err
		}
	}
	if kind == "" {
		return nil
	}
	return fmt.Errorf("%s: a confidential guest (%s): its memory is encrypted, and the host has no key: %w", q.name(), kind, errors.ErrUnsupported)
}

// property reads one of QEMU's object model.
func (q *QEMU) property(ctx context.Context, path, name string, result any) error {
	return q.execute(ctx, "qom-get", map[string]string{"path": path, "property": name}, result)
}
