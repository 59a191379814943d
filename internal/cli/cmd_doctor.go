// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"os"

	"github.com/spf13/pflag"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/access"
	"github.com/remora-go/remora/proc"
	"github.com/remora-go/remora/target"
)

func doctorCommand() Command {
	return Command{
		Name:  "doctor",
		Args:  "TARGET",
		Short: "say what works on a target, what does not, and what would help",
		Long: "Tries every way into a process by reading a few bytes through it, goes through the rules by which the kernel\n" +
			"decides who may read whose memory, and tries what else of the kernel is of use. Nothing is written. Of what does\n" +
			"not work it says why, and what would help.\n\n" +
			"Of the kernel that runs here (kernel, kernel@PID) it says whether its memory can be read and written, and which\n" +
			"setting of the kernel refuses.\n\n" +
			"The way through ptrace stops the process for a moment; --no-stop leaves it out.\n\n" +
			"The exit code is that of opening the target: 0 if its memory can be read, 3 if there is no such process or no\n" +
			"memory, 4 if it is not permitted.",
		Examples: []string{
			"remora doctor 1234",
			"remora doctor self           # what this machine lets a process do at all",
			"remora doctor 1234 --no-stop # leave the process alone",
			"remora doctor kernel         # who may read and write the kernel that runs here",
		},
		New: func(flags *pflag.FlagSet) Run {
			noStop := flags.Bool("no-stop", false, "do not try ptrace, which stops the target for a moment")
			return func(ctx context.Context, env *Env, args []string) (Result, error) {
				return runDoctor(ctx, env, args[0], *noStop)
			}
		},
	}
}

// diagnosis is the Result of doctor.
type diagnosis struct {
	Target  string         `json:"target"`
	Process *patient       `json:"process,omitempty"`
	Caller  *patient       `json:"caller,omitempty"`
	Doors   []doorReport   `json:"doors,omitempty"`
	Rules   []ruleReport   `json:"rules,omitempty"`
	Kernel  []kernelReport `json:"kernel,omitempty"`
	Facts   []infoFact     `json:"facts,omitempty"` // of the target as it is opened when nothing else is asked for
	Opens   bool           `json:"opens"`
}

// patient is one of the two processes.
type patient struct {
	PID     int    `json:"pid"`
	Name    string `json:"name"`
	UID     uint32 `json:"uid"` // the real one
	GID     uint32 `json:"gid"`
	State   string `json:"state"`
	Process int    `json:"process,omitempty"` // of a thread
}

// doorReport is one way in, and what came of trying it.
type doorReport struct {
	Door     string `json:"door"`
	Reads    bool   `json:"reads"`
	Writes   bool   `json:"writes"` // permitted to, not tried
	Text     string `json:"text"`
	Remedy   string `json:"remedy,omitempty"`
	Expected string `json:"expected,omitempty"` // what the rules say
	NotTried bool   `json:"not_tried,omitempty"`
}

// ruleReport is one rule, at the doors where it came out like this.
type ruleReport struct {
	Rule   string   `json:"rule"`
	Doors  []string `json:"doors"`
	Passed string   `json:"passed"` // yes, no or unknown
	Text   string   `json:"text"`
	Remedy string   `json:"remedy,omitempty"`
}

// kernelReport is one facility.
type kernelReport struct {
	Name   string `json:"name"`
	Use    string `json:"use"`
	Works  bool   `json:"works"`
	Why    string `json:"why,omitempty"`
	Remedy string `json:"remedy,omitempty"`
}

func runDoctor(ctx context.Context, env *Env, spec string, noStop bool) (Result, error) {
	d := &diagnosis{Target: spec}
	for _, f := range proc.Facilities() {
		d.Kernel = append(d.Kernel, kernelReport(f))
	}
	if isRunningKernel(spec) {
		d.Kernel = append(runningKernel(), d.Kernel...)
	}
	t, err := env.Open(ctx, spec, nil)
	if d.Opens = err == nil; d.Opens {
		defer t.Close()
		if x, ok := remora.As[remora.Describer](t); ok {
			facts, failed := x.Describe(ctx)
			err = failed
			for _, f := range facts {
				d.Facts = append(d.Facts, infoFact(f))
			}
		}
	}
	pid, ok := target.PID(spec)
	switch {
	case !ok && isRunningKernel(spec):
		return d, err
	case !ok && err != nil:
		return nil, err
	case !ok:
		return d, nil
	}
	e := examination{ctx: ctx, env: env, spec: spec, pid: pid, noStop: noStop, found: d}
	e.people()
	if d.Process != nil {
		e.rules()
		e.doors()
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return d, err
}

// people finds out who the two sides are.
func (e *examination) people() {
	if e.caller, e.err = access.Gather(os.DirFS("/proc"), os.Getpid()); e.err != nil {
		return
	}
	e.found.Caller = newPatient(&e.caller)
	if e.target, e.err = access.Gather(os.DirFS("/proc"), e.pid); e.err == nil {
		e.found.Process = newPatient(&e.target)
	}
}

func newPatient(s *access.Subject) *patient {
	p := &patient{PID: s.PID, Name: s.Name, UID: s.UID.Real, GID: s.GID.Real, State: string(s.State)}
	if s.Tgid != s.PID {
		p.Process = s.Tgid
	}
	return p
}
