// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/target"
)

// Stdio are the streams that a command works with, and what it asks of its
// environment.
type Stdio struct {
	In       io.Reader
	Out, Err io.Writer
	Getenv   func(string) string
}

// Standard gives the streams of this process.
func Standard() Stdio { return Stdio{os.Stdin, os.Stdout, os.Stderr, os.Getenv} }

// Main runs the command with its arguments, the name of the program not among
// them, and gives the exit code. When ctx ends the code is 130, or 124 if it ended by a
// deadline.
func Main(ctx context.Context, args []string, io Stdio) int {
	if len(args) > 0 && (args[0] == watchdogVerb || args[0] == stubWatchdogVerb) {
		if guarding(args) != nil {
			return failed.code
		}
		return done.code
	}
	v := &invocation{io: io}
	v.out = &counted{w: io.Out}
	v.env = &Env{Stdin: io.In, Note: v.note, progress: v.progress, begun: v.begun}
	root := v.root()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if !v.started {
		v.env.JSON = slices.Contains(args, "--json") // an error before flags were understood
	}
	return v.finish(err)
}

// invocation is one run of the command.
type invocation struct {
	io  Stdio
	out *counted
	env *Env

	json    bool
	color   choice
	timeout duration

	ctx     context.Context // of the verb, deadline included
	started bool            // the flags are parsed
	mu      sync.Mutex      // one message at a time
	temp    atomic.Pointer[string]
}

// grace is how long a verb may go on after its context has ended without anything
// being printed.
const grace = 500 * time.Millisecond

// run runs one verb with parsed flags, and prints what it found.
func (v *invocation) run(ctx context.Context, c *Command, run Run, args []string) error {
	v.started, v.env.JSON = true, v.json
	v.env.Color = !v.json && v.wantsColor()
	v.env.Open = func(ctx context.Context, spec string, o *target.Options) (remora.Target, error) {
		t, err := open(ctx, spec, o, c.Needs)
		if _, ok := t.(*target.Process); ok && o != nil && len(o.Swap) > 0 {
			v.env.Note("the swap files are believed to be of the same moment as the image: nothing in them tells")
		}
		if by := target.WrittenBy(t); by != "" {
			v.env.Note(spec + " is written as the live process " + by + ", not through the page tables")
		}
		return t, err
	}
	ctx, cancel := v.timeout.limit(ctx)
	defer cancel()
	v.ctx = ctx
	if err := c.checkArgs(args); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() {
		res, err := run(ctx, v.env, args)
		if res != nil {
			err = errors.Join(v.print(c, res), err)
		}
		done <- err
	}()
	return v.await(ctx, done)
}

// await waits for the verb. One that does not heed its context is left behind, and
// with it a file that it was writing is removed.
func (v *invocation) await(ctx context.Context, done <-chan error) error {
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	for {
		before := v.out.calls.Load()
		select {
		case err := <-done:
			return err
		case <-time.After(grace):
		}
		if v.out.calls.Load() == before {
			if name := v.temp.Load(); name != nil && *name != "" {
				os.Remove(*name)
			}
			return context.Cause(ctx)
		}
	}
}

// begun takes down which file is to be removed if the verb is left behind.
func (v *invocation) begun(f *outFile) {
	if f == nil {
		v.temp.Store(nil)
		return
	}
	v.temp.Store(&f.temp)
}

// open opens a target for a verb that needs these abilities. The error is marked, as
// "not found" means another thing for a target than for an output file.
func open(ctx context.Context, spec string, o *target.Options, needs []target.Ability) (remora.Target, error) {
	opts := target.Options{}
	if o != nil {
		opts = *o
	}
	opts.Watchdog, opts.StubWatchdog = watchdog, stubWatchdog
	opts.Needs = append(slices.Clone(needs), opts.Needs...)
	t, err := target.Open(ctx, spec, &opts)
	if err != nil {
		return nil, &openError{err}
	}
	return t, nil
}

// counted counts the calls that have come back.
type counted struct {
	w     io.Writer
	calls atomic.Int64
}

func (c *counted) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.calls.Add(1)
	return n, err
}
