// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/rsp"
)

// StubError says why a stub cannot be opened.
type StubError struct {
	Address string
	Why     string
	Err     error
}

func (e *StubError) Error() string { return "gdb stub " + e.Address + ": " + e.Why }

// Unwrap gives the cause: fs.ErrNotExist, remora.ErrUnrecognized, remora.ErrGone, or what
// the system said.
func (e *StubError) Unwrap() error { return e.Err }

// stubDialError says what is wrong with an address.
func stubDialError(address string, err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return &remora.AccessError{Target: "gdb stub " + address, Act: "connect to", Reason: "its socket belongs to another user",
			Remedy: "run as the user that the stub runs as, or as root", Err: err}
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" && op.Err != nil {
		return &StubError{address, "nobody listens there: " + op.Err.Error(), fs.ErrNotExist}
	}
	return &StubError{address, err.Error(), err}
}

// notStub says what is wrong with the one who listens.
func notStub(address string, err error) error {
	broken, ok := errors.AsType[*rsp.BrokenError](err)
	switch {
	case !ok:
		return err
	case rsp.Silent(err):
		return &StubError{address, "it does not answer: it is no stub, or serves another client", remora.ErrGone}
	case errors.Is(err, io.EOF):
		return &StubError{address, "it closed the connection", remora.ErrGone}
	}
	return &StubError{address, "it is no stub: " + broken.Err.Error(), remora.ErrUnrecognized}
}

// stubError gives the end of a conversation the cause that it has for a Space.
func stubError(err error) error {
	if broken, ok := errors.AsType[*rsp.BrokenError](err); ok {
		return fmt.Errorf("%w: %w", remora.ErrGone, broken)
	}
	return err
}
