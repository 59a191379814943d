// SPDX-License-Identifier: Apache-2.0

package measure

import (
	"cmp"
	"fmt"
	"os/exec"
	"sync"
	"time"

	"github.com/remora-go/remora/internal/sys/linux"
)

// patience is how long a request to a program may take, or a command.
const patience = 5 * time.Minute

// alone puts a command into a process group of its own, that can be killed as a whole. What
// has left the group may hold its output no longer than a moment.
func alone(cmd *exec.Cmd) {
	cmd.SysProcAttr, cmd.WaitDelay = linux.OwnGroup(), time.Second
}

// within does something, and if it takes longer than a limit has kill end it.
func within(limit time.Duration, kill func(), do func() error) error {
	limit = cmp.Or(limit, patience)
	late := time.AfterFunc(limit, kill)
	err := do()
	if inTime := late.Stop(); err != nil && !inTime {
		return fmt.Errorf("killed after %v: %w", limit, err)
	}
	return err
}

// said keeps the end of what a program says.
type said struct {
	mu   sync.Mutex
	text []byte
}

// Write takes what is said.
func (s *said) Write(p []byte) (int, error) {
	const most = 1000
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text = append(s.text, p...)
	s.text = s.text[max(0, len(s.text)-most):]
	return len(p), nil
}

// String gives the end of it.
func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return string(s.text)
}
