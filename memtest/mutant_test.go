// SPDX-License-Identifier: Apache-2.0

package memtest

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/remora-go/remora"
)

// transfer is the method of a Space.
type transfer = func(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error)

// mutant is a Sparse with one thing wrong.
type mutant struct {
	rule  string // the one it breaks
	wrong string
	seed  uint64 // of the sample; 0 has everything, and can be written

	// One of these: a Transfer in place of the Sparse's, or a Close as well.
	transfer func(s *Sparse) transfer
	both     func(s *Sparse) (transfer, func() error)
}

func mutants() []mutant {
	return slices.Concat(moveMutants(), insideMutants(), countedMutants(), orderMutants(), sumMutants(), emptyMutants(), wrapMutants(),
		retainMutants(), cancelMutants(), allocMutants(), refuseMutants(), closeMutants())
}

type mutantSpace struct {
	*Sparse
	transfer transfer
}

var _ remora.Space = (*mutantSpace)(nil)

func (m *mutantSpace) Transfer(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
	return m.transfer(ctx, op, segs)
}

// fixture gives a fresh one of the mutant.
func (m *mutant) fixture() Fixture {
	sample := NewSample(m.seed)
	fx := sample.Fixture
	if m.both != nil {
		move, end := m.both(sample.Sparse)
		fx.Space, fx.Close = &mutantSpace{sample.Sparse, move}, end
	} else {
		fx.Space = &mutantSpace{sample.Sparse, m.transfer(sample.Sparse)}
	}
	return fx
}

// try runs the rule of the mutant on it, a part of it if not 0.
func (m *mutant) try(t *testing.T, part uint64) error {
	i := slices.IndexFunc(rules(), func(r rule) bool { return r.name == m.rule })
	if i < 0 {
		t.Fatalf("there is no rule %q", m.rule)
	}
	want := NewSample(m.seed).Want
	want.Part = part
	work := all()
	if part != 0 {
		work = want.effort()
	}
	p := &probe{want: want, work: work, make: m.fixture, logf: t.Logf}
	return p.run(rules()[i])
}

// TestMutantsAreCaught: each mutant fails the rule that it breaks, and every rule
// has three mutants at least.
func TestMutantsAreCaught(t *testing.T) {
	count := map[string]int{}
	for _, m := range mutants() {
		count[m.rule]++
		if raceEnabled && m.rule == "rule12_no_allocation" {
			continue // not measured in this build
		}
		t.Run(m.rule+"/"+m.wrong, func(t *testing.T) {
			switch err := m.try(t, 0); {
			case err == nil:
				t.Fatalf("%s passes", m.rule)
			case strings.Contains(err.Error(), "fixture"):
				t.Fatalf("not the mutant, but its fixture is at fault: %v", err)
			default:
				t.Log(err)
			}
		})
	}
	for _, r := range rules() {
		if count[r.name] < 3 {
			t.Errorf("%s has %d mutants, want at least 3", r.name, count[r.name])
		}
	}
}

// TestUnchangedIsNoMutant: what the mutants are made of passes, so it is their
// change that is caught.
func TestUnchangedIsNoMutant(t *testing.T) {
	for _, r := range rules() {
		m := mutant{rule: r.name, transfer: after(func(remora.Op, *remora.Seg) {})}
		t.Run(r.name, func(t *testing.T) {
			if err := m.try(t, 1); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// tally gives what Transfer must return for segs, as rule 7 says.
func tally(ctx context.Context, segs []remora.Seg) (sum int64, err error) {
	for i := range segs {
		sum += int64(segs[i].N)
		if err == nil {
			err = segs[i].Err
		}
	}
	for i := range segs {
		if isEnd(segs[i].Err) {
			return sum, segs[i].Err
		}
	}
	return sum, err
}

func isEnd(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// after spoils each segment of a good call; the results of the call agree.
func after(spoil func(op remora.Op, s *remora.Seg)) func(*Sparse) transfer {
	return func(s *Sparse) transfer {
		return func(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
			if sum, err := s.Transfer(ctx, op, segs); refusedWhole(op, s, err) {
				return sum, err
			}
			for i := range segs {
				spoil(op, &segs[i])
			}
			return tally(ctx, segs)
		}
	}
}

// refusedWhole says whether a call with op was not even begun.
func refusedWhole(op remora.Op, s *Sparse, err error) bool {
	return err != nil && refused(s, op) != nil
}

// refused says why the whole call would be refused now.
func refused(s *Sparse, op remora.Op) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.refusal(op)
}

// before changes op and segs on the way to a good call.
func before(change func(op remora.Op, segs []remora.Seg) (remora.Op, []remora.Seg)) func(*Sparse) transfer {
	return func(s *Sparse) transfer {
		return func(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
			op, segs = change(op, segs)
			return s.Transfer(ctx, op, segs)
		}
	}
}

// returning spoils only what a good call returns.
func returning(spoil func(op remora.Op, segs []remora.Seg, sum int64, err error) (int64, error)) func(*Sparse) transfer {
	return func(s *Sparse) transfer {
		return func(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
			sum, err := s.Transfer(ctx, op, segs)
			if refusedWhole(op, s, err) {
				return sum, err
			}
			return spoil(op, segs, sum, err)
		}
	}
}

// writes says whether op is a write.
func writes(op remora.Op) bool { return op&remora.Write != 0 }

func isFault(err error) bool { return errors.Is(err, remora.ErrFault) }
