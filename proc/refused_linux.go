// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/access"
)

// refused turns the system's refusal into an error that says which rule refused and
// what would help. Errors that explain themselves, and those that are no refusal,
// pass through.
func (p *Process) refused(act string, err error) error {
	var own *remora.AccessError
	switch {
	case errors.As(err, &own), errors.Is(err, remora.ErrGone), errors.Is(err, fs.ErrClosed),
		errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	}
	e := &remora.AccessError{Target: p.name(), Act: act, Err: err}
	if d, ok := p.decide(); ok {
		e.Reason, e.Remedy = reason(d, err)
	}
	return e
}

// reason gives the rule that refused, and what would help. Where none of those that can
// be seen did, it says so.
func reason(d access.Decision, err error) (text, remedy string) {
	if step, ok := d.First(); ok {
		return step.Text, step.Remedy
	}
	return fmt.Sprintf("%v, though every rule that can be seen allows it: some other policy of the system "+
		"(Landlock, BPF, a sandbox) refuses", err), "try from outside the sandbox"
}

// decide goes through the rules that decide whether this process may read the
// memory of pid by process_vm_readv (R51-R58). A filter that forbids the call is the
// reason only if there is no other: without one, another door would have been taken.
func (p *Process) decide() (access.Decision, bool) {
	proc := os.DirFS("/proc")
	caller, err := access.Gather(proc, os.Getpid())
	if err != nil {
		return access.Decision{}, false
	}
	target, err := access.Gather(proc, p.call)
	if err != nil {
		return access.Decision{}, false
	}
	facts := access.GatherFacts(proc)
	facts.SelfCall = access.Yes
	d := access.Decide(access.ProcessVM, caller, target, facts)
	if d.Verdict == access.Allowed && vmBlocked() {
		facts.SelfCall = access.No
		d = access.Decide(access.ProcessVM, caller, target, facts)
	}
	return d, true
}
