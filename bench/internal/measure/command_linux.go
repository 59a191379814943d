// SPDX-License-Identifier: Apache-2.0

package measure

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/remora-go/remora/internal/sys/linux"
)

// Command is a command that is run to its end each time: its start counts. It needs no
// word of what work it does.
type Command struct {
	Args []string
	In   string // what it reads
	// What gives a digest of what it has written; nil: there is none.
	What func(out []byte) (string, error)

	cpus  []int
	limit time.Duration // of each time; 0: patience
}

// How gives the command as a reader would type it.
func (c *Command) How() string { return strings.Join(c.Args, " ") }

// Digest runs it once.
func (c *Command) Digest(string) (string, error) {
	var out bytes.Buffer
	if _, err := c.once(&out); err != nil {
		return "", err
	}
	if c.What == nil {
		return "", fmt.Errorf("%s: nobody knows what comes out", c.Args[0])
	}
	return c.What(out.Bytes())
}

// Run runs it n times, one after another.
func (c *Command) Run(_ string, n int) (cost Cost, err error) {
	runtime.LockOSThread() // a process begins where the thread is that starts it
	defer runtime.UnlockOSThread()
	if err := linux.Place(linux.ThreadID(), c.cpus...); err != nil {
		return cost, err
	}
	defer func() {
		if e := linux.Place(linux.ThreadID()); err == nil {
			err = e
		}
	}()
	debug.FreeOSMemory() // the peak of a child is at least that of its parent
	if err := resetPeak(os.Getpid()); err != nil {
		return cost, err
	}
	began := time.Now()
	for range n {
		one, err := c.once(nil)
		if err != nil {
			return cost, err
		}
		cost.CPU += one.CPU
		cost.Peak = max(cost.Peak, one.Peak)
	}
	cost.Wall, cost.Allocs = time.Since(began), -1
	own, err := peak(os.Getpid())
	if cost.Peak <= own {
		cost.Peak = -own
	}
	return cost, err
}

// once runs it. Where out is nil, what it writes is thrown away.
func (c *Command) once(out *bytes.Buffer) (Cost, error) {
	cmd := exec.Command(c.Args[0], c.Args[1:]...)
	if c.In != "" {
		cmd.Stdin = strings.NewReader(c.In)
	}
	alone(cmd)
	var said said
	cmd.Stderr = &said
	if out != nil {
		cmd.Stdout = out
	}
	err := cmd.Start()
	if err == nil {
		err = within(c.limit, func() { _ = linux.KillGroup(cmd.Process.Pid) }, cmd.Wait)
	}
	if err != nil {
		return Cost{}, fmt.Errorf("%s: %w: %s", c.How(), err, &said)
	}
	s := cmd.ProcessState
	return Cost{CPU: s.UserTime() + s.SystemTime(), Peak: linux.Peak(s)}, nil
}

// Place has it run on those processors from now on.
func (c *Command) Place(cpus []int) error {
	c.cpus = cpus
	return nil
}
