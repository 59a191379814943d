// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/remora-go/remora"
)

// Crash is how a kernel came to its end.
type Crash struct {
	Reason string            // what it said of it; "": its log does not tell
	Time   time.Time         // CRASHTIME of VMCOREINFO, in UTC; zero: not known
	CPU    int               // the processor on which it happened; -1: not known
	Task   *Task             // what ran there; nil: not known
	Regs   map[string]uint64 // of that processor; nil: the image has none

	// Problem says what of this could not be found out.
	Problem error
}

// Crash tells how the kernel crashed; nil if it did not, as far as can be seen: it keeps
// the number of the processor that crashes, writes the time into VMCOREINFO when another
// kernel is to start, and says so in its log.
func (k *Kernel) Crash(ctx context.Context) (*Crash, error) {
	c := &Crash{CPU: -1}
	crashed := false
	if _, err := k.Tables(ctx); err != nil {
		return nil, err
	}
	if at, ok := k.VMCoreInfo().Value("CRASHTIME"); ok && at != 0 && at>>62 == 0 {
		c.Time, crashed = time.Unix(int64(at), 0).UTC(), true
	}
	for _, name := range []string{"panic_cpu", "crashing_cpu"} {
		at, err := k.symbol(ctx, name)
		if err != nil {
			continue // not every kernel has each
		}
		n, err := k.mem.Uint32(ctx, at)
		if err != nil {
			c.lacks(fmt.Errorf("%s: %w", name, err))
		} else if n < maxProcessors && c.CPU < 0 { // -1: nothing has happened
			c.CPU, crashed = int(n), true
		}
	}
	said, err := k.lastWords(ctx)
	if err != nil {
		c.lacks(fmt.Errorf("the reason: %w", err))
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if said.panic == "" && !crashed {
		return nil, nil
	}
	if c.Reason = said.panic; c.Reason == "" {
		c.Reason = said.trouble
	}
	if c.CPU < 0 {
		c.CPU = said.cpu
	}
	if err := k.crashedTask(ctx, c); err != nil {
		c.lacks(fmt.Errorf("the task that crashed: %w", err))
	}
	return c, ctx.Err()
}

func (c *Crash) lacks(err error) {
	if c.Problem == nil {
		c.Problem = err
		return
	}
	c.Problem = fmt.Errorf("%w; %w", c.Problem, err)
}

// crashedTask finds what ran on the processor.
func (k *Kernel) crashedTask(ctx context.Context, c *Crash) error {
	all, err := k.Processors(ctx)
	for _, p := range all {
		if p.ID != c.CPU {
			continue
		}
		c.Regs = p.Regs
		c.Task, err = k.TaskAt(ctx, p.Current)
		return err
	}
	if err == nil && c.CPU >= 0 {
		err = fmt.Errorf("processor %d has no run queue: %w", c.CPU, remora.ErrNotPresent)
	}
	return err
}

// words is what a log says of a crash.
type words struct {
	panic   string // the reason of the panic; "": there was none
	trouble string // the last other message of something serious
	cpu     int    // where; -1: it does not say
}

// panicMark is before the reason of a panic (panic in kernel/panic.c).
const panicMark = "Kernel panic - not syncing: "

// troubles begin the messages of what a kernel can be told to crash at.
func troubles() []string {
	return []string{"BUG: ", "kernel BUG at ", "Oops", "Internal error: ", "Unable to handle kernel ", "general protection fault",
		"watchdog: BUG: ", "NMI watchdog: ", "sysrq: Trigger a crash", "INFO: task ", "double fault: ", "stack guard page was hit", "Out of memory: "}
}

// lastWords looks through the log.
func (k *Kernel) lastWords(ctx context.Context) (words, error) {
	w := words{cpu: -1}
	for r, err := range k.Log(ctx) {
		if err != nil {
			return w, err
		}
		for line := range strings.Lines(r.Text) {
			w.hear(strings.TrimSuffix(line, "\n"))
		}
	}
	return w, nil
}

// hear takes in a line.
func (w *words) hear(line string) {
	if _, why, ok := strings.Cut(line, panicMark); ok {
		w.panic, w.cpu = why, -1
		return
	}
	for _, mark := range troubles() {
		if strings.HasPrefix(line, mark) {
			w.trouble = line
			if w.panic == "" {
				w.cpu = -1
			}
			return
		}
	}
	// "CPU: 0 PID: 1 Comm: init Not tainted": dump_stack_print_info in lib/dump_stack.c
	if rest, ok := strings.CutPrefix(line, "CPU: "); ok && w.cpu < 0 && w.panic+w.trouble != "" {
		number, _, _ := strings.Cut(rest, " ")
		if n, err := strconv.Atoi(number); err == nil && n >= 0 && n < maxProcessors {
			w.cpu = n
		}
	}
}
