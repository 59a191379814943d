// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/remora-go/remora"
)

// machineFacts says what the machine did when the image was made: a line for each subject,
// or why it is not known.
func (k *Kernel) machineFacts(ctx context.Context) (facts []remora.Fact) {
	add := func(key, value string, err error) {
		if _, ok := errors.AsType[*NoTypesError](err); ok { // Describe says why
			value = "not known: the types of the kernel are not available"
		} else if err != nil {
			value = "not known: " + err.Error()
		}
		facts = append(facts, remora.Fact{Key: key, Value: value})
	}
	if banner, err := k.Banner(ctx); err == nil {
		add("banner", banner, nil)
	}
	clock, err := k.Clock(ctx)
	if err != nil {
		clock = &Clock{}
	}
	add("uptime", fmt.Sprintf("%v, by %s", clock.Uptime.Round(time.Millisecond), clock.How), err)
	if !clock.Now.IsZero() {
		add("clock", clock.Now.Format("2006-01-02 15:04:05.000 UTC"), nil)
	}
	tasks, err := k.countTasks(ctx)
	add("tasks", tasks, err)
	ran, err := k.whatRan(ctx)
	add("running", ran, err)
	taint, err := k.Taint(ctx)
	value := taint.String()
	if taint != 0 {
		value = taint.Letters() + " (" + value + ")"
	}
	add("tainted", value, err)
	crash, err := k.Crash(ctx)
	if crash != nil || err != nil {
		add("crash", crash.String(), err)
	}
	return facts
}

// countTasks says how many processes there are.
func (k *Kernel) countTasks(ctx context.Context) (string, error) {
	processes, kernels := 0, 0
	var trouble error
	for t, err := range k.Tasks(ctx) {
		switch {
		case err != nil:
			trouble = err
		case t.KernelThread() || t.Idle():
			kernels++
		default:
			processes++
		}
	}
	if processes+kernels == 0 {
		return "", orNone(trouble)
	}
	text := fmt.Sprintf("%d processes, %d kernel threads", processes, kernels)
	if trouble != nil {
		text += "; not all: " + trouble.Error()
	}
	return text, nil
}

// mostRunning is how many processors are told of one by one.
const mostRunning = 8

// whatRan says what the processors ran.
func (k *Kernel) whatRan(ctx context.Context) (string, error) {
	all, err := k.Processors(ctx)
	if len(all) == 0 {
		return "", orNone(err)
	}
	online, idle := 0, 0
	var ran []string
	for _, p := range all {
		if !p.Online {
			continue
		}
		if online++; p.Current == p.Idle {
			idle++
		} else if t, err := k.TaskAt(ctx, p.Current); err != nil {
			ran = append(ran, fmt.Sprintf("%d ran what is at %v", p.ID, p.Current))
		} else {
			ran = append(ran, fmt.Sprintf("%d ran %d (%s)", p.ID, t.PID, t.Comm))
		}
	}
	if n := len(ran) - mostRunning; n > 0 {
		ran = append(ran[:mostRunning], fmt.Sprintf("%d more ran others", n))
	}
	text := strings.Join(append([]string{fmt.Sprintf("%d processors, %d idle", online, idle)}, ran...), "; ")
	if err != nil {
		text += "; not all: " + err.Error()
	}
	return text, nil
}

// String is one line about the crash.
func (c *Crash) String() string {
	if c == nil {
		return ""
	}
	var parts []string
	if c.Reason != "" {
		parts = append(parts, c.Reason)
	} else {
		parts = append(parts, "for a reason that is not known")
	}
	if c.CPU >= 0 {
		parts = append(parts, fmt.Sprintf("on processor %d", c.CPU))
	}
	if c.Task != nil {
		parts = append(parts, fmt.Sprintf("in %d (%s)", c.Task.PID, c.Task.Comm))
	}
	for _, name := range []string{"rip", "pc"} {
		if at, ok := c.Regs[name]; ok {
			parts = append(parts, fmt.Sprintf("%s %#x", name, at))
		}
	}
	if !c.Time.IsZero() {
		parts = append(parts, "at "+c.Time.Format("2006-01-02 15:04:05 UTC"))
	}
	if c.Problem != nil {
		parts = append(parts, "not known: "+c.Problem.Error())
	}
	return strings.Join(parts, ", ")
}
