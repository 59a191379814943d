// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"context"
	"os"

	"github.com/remora-go/remora/internal/qmp"
)

// Running asks QEMU whether its guest runs, by the QMP socket at a path.
func Running(ctx context.Context, socket string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, closeTime)
	defer cancel()
	c, err := qmp.Dial(ctx, socket, nil)
	if err != nil {
		return false, err
	}
	defer c.Close()
	var state struct{ Running bool }
	err = c.Execute(ctx, "query-status", nil, &state)
	return state.Running, err
}

// Connection gives a copy of the connection to the stub, for StubOptions.Watchdog.
func (s *Stub) Connection() (*os.File, error) { return s.c.Connection() }

// LastWords gives what is to be sent on the connection so that the machine runs on, when
// the process that had it has died.
func (s *Stub) LastWords() []byte { return s.c.LastWords(s.was) }
