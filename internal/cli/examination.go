// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/access"
	"github.com/remora-go/remora/proc"
	"github.com/remora-go/remora/target"
)

// examination is one run of doctor on a process.
type examination struct {
	ctx    context.Context
	env    *Env
	spec   string
	pid    int
	noStop bool
	found  *diagnosis

	caller, target access.Subject
	err            error                         // why target is not known
	decisions      map[proc.Door]access.Decision // of those that have rules
}

// rules holds the two sides against the rules. Those that came out the same at several
// doors are told once.
func (e *examination) rules() {
	facts := access.GatherFacts(os.DirFS("/proc"))
	for _, f := range e.found.Kernel {
		if f.Name == proc.FacilityVM {
			facts.SelfCall = access.No
			if f.Works {
				facts.SelfCall = access.Yes
			}
		}
	}
	e.decisions = map[proc.Door]access.Decision{}
	for _, row := range []struct {
		door access.Door
		as   proc.Door
	}{{access.ProcessVM, proc.DoorVM}, {access.ProcMemRead, proc.DoorMem}, {access.ProcMemWrite, proc.DoorMem}} {
		d := access.Decide(row.door, e.caller, e.target, facts)
		if _, seen := e.decisions[row.as]; !seen {
			e.decisions[row.as] = d
		}
		for _, s := range d.Steps {
			e.addRule(row.door.String(), s)
		}
	}
	slices.SortStableFunc(e.found.Rules, func(a, b ruleReport) int { return ruleOrder(a.Rule) - ruleOrder(b.Rule) })
}

func ruleOrder(name string) int {
	r := access.RuleFilter
	for r < access.RuleModule && r.String() != name {
		r++
	}
	return int(r)
}

func (e *examination) addRule(door string, s access.Step) {
	row := ruleReport{s.Rule.String(), []string{door}, s.Passed.String(), s.Text, s.Remedy}
	for i := range e.found.Rules {
		old := &e.found.Rules[i]
		if old.Rule == row.Rule && old.Passed == row.Passed && old.Text == row.Text && old.Remedy == row.Remedy {
			old.Doors = append(old.Doors, door)
			return
		}
	}
	e.found.Rules = append(e.found.Rules, row)
}

// doors tries each way in.
func (e *examination) doors() {
	for _, d := range []proc.Door{proc.DoorVM, proc.DoorMem, proc.DoorPtrace} {
		if d == proc.DoorPtrace && e.noStop {
			e.found.Doors = append(e.found.Doors, doorReport{Door: d.String(), NotTried: true, Text: "not tried, as asked"})
			continue
		}
		r := e.try(d)
		if dec, ok := e.decisions[d]; ok {
			r.Expected = dec.Verdict.String()
			if v := dec.Verdict; r.Reads && (v == access.Refused || v == access.Absent) {
				r.Text += fmt.Sprintf("; the rules below say %q: what allows it here is not among them", v)
			}
		}
		e.found.Doors = append(e.found.Doors, r)
	}
}

// try opens the target through one door, and reads a few bytes.
func (e *examination) try(d proc.Door) doorReport {
	r := doorReport{Door: d.String()}
	t, err := e.env.Open(e.ctx, e.spec, &target.Options{Door: d, Write: true})
	if r.Writes = err == nil; !r.Writes && errors.Is(err, os.ErrPermission) {
		t, err = e.env.Open(e.ctx, e.spec, &target.Options{Door: d})
	}
	if err != nil {
		r.Text, r.Remedy = e.why(d, err)
		return r
	}
	defer t.Close()
	at, ok, err := somewhere(e.ctx, t)
	switch {
	case err != nil:
		r.Text = err.Error()
	case !ok:
		r.Text = "it opens, but nothing readable is mapped"
	default:
		var word [8]byte
		n, err := t.Memory().ReadAt(e.ctx, word[:], at)
		if r.Reads = err == nil; !r.Reads {
			r.Text = err.Error()
			break
		}
		r.Text = fmt.Sprintf("read %d bytes at %v", n, at)
		if r.Writes {
			r.Text += "; opened for writing too"
		} else {
			r.Text += "; writing is not permitted"
		}
	}
	r.Writes = r.Writes && r.Reads
	return r
}

// why says what came of a door that did not open. A refusal by a rule is told with the
// rules, in full.
func (e *examination) why(d proc.Door, err error) (text, remedy string) {
	denied := (*remora.AccessError)(nil)
	if !errors.As(err, &denied) {
		return err.Error(), ""
	}
	dec, ruled := e.decisions[d]
	if !ruled { // ptrace asks what process_vm_readv asks
		dec = e.decisions[proc.DoorVM]
	}
	step, ok := dec.First()
	if ok && dec.Verdict == access.Refused && (ruled || denied.Reason == step.Text) {
		return fmt.Sprintf("refused by the rule %q below", step.Rule), step.Remedy
	}
	text = "not permitted to " + denied.Act + " it"
	if denied.Reason != "" {
		text += ": " + denied.Reason
	}
	if denied.Err != nil && !strings.Contains(denied.Reason, denied.Err.Error()) {
		text += fmt.Sprintf(" (%v)", denied.Err)
	}
	return text, denied.Remedy
}

// somewhere gives an address that can be read if anything can.
func somewhere(ctx context.Context, t remora.Target) (remora.Addr, bool, error) {
	m, ok := remora.As[remora.Mapper](t)
	if !ok {
		return 0, false, nil
	}
	for reg, err := range m.Regions(ctx) {
		switch {
		case err != nil:
			return 0, false, err
		case reg.Perm&remora.PermRead != 0 && !strings.HasPrefix(reg.Name, "[v") && !strings.HasPrefix(reg.Name, "/dev/"):
			return reg.Start, true, nil
		}
	}
	return 0, false, nil
}
