// SPDX-License-Identifier: Apache-2.0

package memtest

import (
	"errors"
	"fmt"
	"testing"

	"github.com/remora-go/remora"
)

// Area is a run of addresses of a fixture that share one fate.
type Area struct {
	remora.Range

	// Data is what lies there at first, Size bytes: what Peek shows, whether or
	// not Transfer may read it. Nil where there is no memory. No byte of a target
	// may lie in two areas.
	Data []byte

	// Fault gives the causes that are right when an access with op stops at a byte
	// of the area, any one of them; none when op succeeds here. Only the bits
	// remora.Write, Force and Resident are asked about. A nil Fault always succeeds.
	Fault func(op remora.Op) []error
}

// Always gives a Fault for an area where every access stops.
func Always(causes ...error) func(remora.Op) []error {
	return func(remora.Op) []error { return causes }
}

// OnWrite gives a Fault for an area that can be read but, even with
// remora.Force, not written.
func OnWrite(causes ...error) func(remora.Op) []error {
	return func(op remora.Op) []error {
		if op&remora.Write == 0 {
			return nil
		}
		return causes
	}
}

// Guarded gives a Fault for private memory with permissions perm, all of it
// present: what perm does not allow is remora.ErrProtected, except with Force.
func Guarded(perm remora.Perm) func(remora.Op) []error {
	return func(op remora.Op) []error {
		need := remora.PermRead
		if op&remora.Write != 0 {
			need = remora.PermWrite
		}
		if perm&need == 0 && op&remora.Force == 0 {
			return []error{remora.ErrProtected}
		}
		return nil
	}
}

// Fixture is a fresh Space and what is known about its target. At least one area
// that can be read must be directly followed by one that cannot, and the same
// for writing where the Space is writable.
type Fixture struct {
	Space remora.Space
	Areas []Area // in any order; what no area covers is never asked for

	// Peek looks at the target behind the Space's back. Needed where writes are.
	Peek func(p []byte, a remora.Addr) error

	// Close is the one of rule 14, if the Space has one. The suite calls it when it
	// is done with the fixture; what else must be freed is for t.Cleanup.
	Close func() error
}

// Want is what a Space claims, as its author knows it.
type Want struct {
	// Info must be what Space.Info says, but for remora.Write in Ops. An empty Name
	// stands for any that is not empty.
	Info remora.Info

	// Chunk is the most bytes moved between two looks at the context; 0: 1 MiB,
	// which is also the largest the contract allows.
	Chunk int

	// Part is for tests of many fixtures. 0: every rule is tried to the full.
	// Otherwise each tries a part, about a tenth, of the cases and repetitions,
	// another part for each number.
	Part uint64

	Lacks Lacks
}

// Lacks says, in words, why a fixture cannot have what a rule needs, so that this
// part of the rule does not apply. A reason for something that the fixture has
// is an error, and so is a lack without a reason. Reasons are logged.
type Lacks struct {
	Hole      string // no readable area is followed by one that is not (rules 1-5, 7, 11)
	WriteHole string // a writable Space has no such place for writes
	Large     string // no readable run is longer than 3 MiB (rule 11)
	Top       string // the last address, remora.MaxAddr, is not readable (rule 9)
	Forced    string // Ops has Force, and there is no area where it matters
	Absent    string // Ops has Resident, and no area is absent
	Peek      string // the target cannot be looked at; reading back serves instead
	Close     string // the Space has no Close (rule 14)
	Local     string // the Space is not local: allocations are not counted (rule 12)
}

// rule is one of the 14, as a function that tells what is wrong.
type rule struct {
	name  string
	check func(*probe) error
}

func rules() []rule {
	return []rule{
		{"rule01_prefix", rulePrefix},
		{"rule02_error_iff_short", ruleShort},
		{"rule03_read_stays_inside", ruleInside},
		{"rule04_write_only_counted", ruleCounted},
		{"rule05_every_segment_or_stop", ruleStop},
		{"rule06_write_order", ruleOrder},
		{"rule07_sum_and_first_error", ruleSum},
		{"rule08_zero_length", ruleEmpty},
		{"rule09_no_wrap", ruleWrap},
		{"rule10_nothing_retained", ruleRetained},
		{"rule11_cancellation", ruleCancel},
		{"rule12_no_allocation", ruleAlloc},
		{"rule13_refusals", ruleRefuse},
		{"rule14_close", ruleClose},
	}
}

// TestSpace runs the 14 rules of remora.Space as 14 subtests. make is called many
// times, with the TB of the subtest that will use the fixture; each must be fresh
// and alike. Nothing else may run at the same time, since rule 12 counts
// allocations; under the race detector that rule is not measured, and says so.
func TestSpace(t *testing.T, make func(testing.TB) Fixture, want Want) {
	t.Helper()
	if want.Lacks != (Lacks{}) {
		t.Logf("not tested, and why: %+v", want.Lacks)
	}
	for _, r := range rules() {
		t.Run(r.name, func(t *testing.T) {
			p := &probe{want: want, work: want.effort(), make: func() Fixture { return make(t) }, logf: t.Logf}
			if err := p.run(r); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// run checks one rule, from a fixture that has been found good to the last one
// closed.
func (p *probe) run(r rule) (err error) {
	defer func() { err = errors.Join(err, p.discard()) }()
	if err := p.fresh(); err != nil {
		return err
	}
	if err := p.complete(); err != nil {
		return fmt.Errorf("fixture: %w", err)
	}
	return r.check(p)
}

// complete says what the fixture lacks without a reason.
func (p *probe) complete() error {
	ops, writable := p.info.Ops, p.info.Writable
	for _, need := range []struct {
		name, reason string
		has, needed  bool
	}{
		{"Hole", p.want.Lacks.Hole, len(p.lay.edges(remora.Read)) > 0, true},
		{"WriteHole", p.want.Lacks.WriteHole, len(p.lay.edges(remora.Write)) > 0, writable},
		{"Large", p.want.Lacks.Large, p.lay.longest(remora.Read).Size > 3<<20, true},
		{"Top", p.want.Lacks.Top, p.lay.reads(remora.MaxAddr), true},
		{"Forced", p.want.Lacks.Forced, p.lay.differs(remora.Force, writable), ops&remora.Force != 0},
		{"Absent", p.want.Lacks.Absent, p.lay.differs(remora.Resident, writable), ops&remora.Resident != 0},
		{"Peek", p.want.Lacks.Peek, p.fx.Peek != nil, writable},
		{"Close", p.want.Lacks.Close, p.fx.Close != nil, true},
	} {
		switch {
		case need.needed && !need.has && need.reason == "":
			return fmt.Errorf("it lacks what Lacks.%s names, and gives no reason", need.name)
		case need.has && need.reason != "":
			return fmt.Errorf("it has what Lacks.%s says it lacks: %s", need.name, need.reason)
		}
	}
	if p.lay.longest(remora.Read).Size < minRun {
		return fmt.Errorf("no readable run of %d bytes", minRun)
	}
	if writable && p.lay.longest(remora.Write).Size < minRun {
		return fmt.Errorf("no writable run of %d bytes", minRun)
	}
	return nil
}

// minRun is the least that a fixture must have in one piece to read, and to write.
const minRun = 256
