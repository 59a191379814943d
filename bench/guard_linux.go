// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/remora-go/remora/bench/internal/measure"
	"github.com/remora-go/remora/bench/internal/report"
)

// each is about how long a side runs in a round, in all looks and sets: the first milliseconds
// of a turn are the slowest, so that the ratio depends on how many more there are.
const each = 25 * time.Millisecond

// looks is how often a row is looked at before it is said to have fallen. The first look is
// a short one; each other one is at new processes and takes longer than the one before.
func looks() []measure.Options {
	return []measure.Options{{Rounds: 11, Each: each}, {Rounds: 21, Each: each}, {Rounds: 31, Each: each}, {Rounds: 41, Each: each}}
}

// check measures the steady rows again, and tells which have fallen behind a file of results.
func (b *bench) check(groups []group, path string) error {
	f, err := load(path)
	if err != nil {
		return err
	}
	fallen, err := b.fallen(groups, f, false)
	if err != nil {
		return err
	}
	if len(fallen) > 0 {
		return fmt.Errorf("%d rows have fallen by more than their spread", len(fallen))
	}
	fmt.Println("no row has fallen by more than its spread")
	if b.untold > 0 {
		fmt.Printf("of %d rows nothing can be told: they are too unsteady\n", b.untold)
	}
	return nil
}

// load gives a file of results to hold rows against, and warns where another machine has measured it.
func load(path string) (*report.File, error) {
	f, err := report.Load(path)
	if err != nil {
		return nil, err
	}
	for _, text := range unlike(f.Machine, machine()) {
		fmt.Fprintf(os.Stderr, "bench: %s: %s here: ratios may differ\n", path, text)
	}
	return f, nil
}

// unlike tells in what a machine is not that of the results, but for its memory: of that no
// row wants all.
func unlike(was, is []report.Fact) (all []string) {
	for i, fact := range is {
		if i < len(was) && fact.Name == was[i].Name && fact.Name != "memory" && fact.Is != was[i].Is {
			all = append(all, fmt.Sprintf("%s was %s, and is %s", fact.Name, was[i].Is, fact.Is))
		}
	}
	return all
}

// suspect is a row that may have fallen, as it was, and by how much.
type suspect struct {
	*measure.Result
	rise float64
}

func (s suspect) String() string { return fmt.Sprintf("%s: %s %+.1f %%", s.Group, s.Name, 100*s.rise) }

// fallen gives the rows that have fallen: at every look at them. Where one is enough to know,
// it looks no further than that takes.
func (b *bench) fallen(groups []group, f *report.File, one bool) (all []suspect, err error) {
	held := map[string][]suspect{} // by group
	var names []string
	for _, r := range f.Rows {
		if r.Guard && b.wanted(r.Group, r.Name, nil) {
			if held[r.Group] == nil {
				names = append(names, r.Group)
			}
			held[r.Group] = append(held[r.Group], suspect{Result: r})
		}
	}
	if len(names) == 0 {
		return nil, errors.New("no row of that file is steady enough to be held against")
	}
	for _, name := range names {
		in := slices.DeleteFunc(slices.Clone(groups), func(g group) bool { return g.name != name })
		suspects, err := b.fallenOf(in, held[name], one)
		if err != nil {
			return nil, err
		}
		all = append(all, suspects...)
		if one && len(all) > 0 {
			break
		}
	}
	return all, nil
}

// enough is how many rows are looked at again where one that has fallen is enough to know.
const enough = 3

// fallenOf gives those of some rows of a group that have fallen.
func (b *bench) fallenOf(in []group, suspects []suspect, one bool) (_ []suspect, err error) {
	for i, o := range looks() {
		if len(suspects) == 0 {
			break
		}
		if suspects, err = b.look(in, suspects, o, i); err != nil {
			return nil, err
		}
		if one {
			slices.SortFunc(suspects, func(a, b suspect) int { return cmp.Compare(b.rise, a.rise) })
			suspects = suspects[:min(len(suspects), enough)]
		}
	}
	return suspects, nil
}

// look measures some rows of a group, and gives those of them that are suspect at the first look,
// or have fallen at another one. Those that nothing can be told of it gives, but at the last.
func (b *bench) look(in []group, rows []suspect, o measure.Options, nth int) (left []suspect, err error) {
	var as []*measure.Result
	for _, s := range rows {
		as = append(as, s.Result)
	}
	first, last := nth == 0, nth == len(looks())-1
	var failed error
	err = b.again(in, as, o, report.Steadiest, func(was, is *measure.Result) {
		falls, err := report.Compare(was, is)
		failed = errors.Join(failed, err)
		bad, steady, rise := false, false, 0.0
		for _, fall := range falls {
			bad, steady = bad || fall.Fallen() || first && fall.Suspect(), steady || fall.Steady()
			rise = max(rise, fall.Rise)
			if !b.quiet {
				fmt.Println(&fall)
			}
		}
		switch {
		case bad || !steady && !last:
			left = append(left, suspect{was, rise})
		case !steady:
			b.untold++
		}
	})
	return left, errors.Join(failed, err)
}

// prove runs the check so many times with each handicap and without one, and tells how often
// it was right.
func (b *bench) prove(groups []group, path string, times int) error {
	if path == "" {
		return errors.New("-prove goes with -check FILE")
	}
	f, err := load(path)
	if err != nil {
		return err
	}
	var said []string
	wrong := 0
	for _, handicap := range []string{"15%", "300ns", ""} {
		right, began := 0, time.Now()
		for i := range times {
			run := &bench{only: b.only, handicap: handicap, quiet: true, kept: b.kept}
			fallen, err := run.fallen(groups, f, handicap != "")
			if err != nil {
				return err
			}
			if (len(fallen) > 0) == (handicap != "") {
				right++
			}
			fmt.Printf("run %d with the handicap %q: fallen: %v\n", i+1, handicap, fallen)
		}
		text := fmt.Sprintf("handicap %s: caught in %d of %d runs", handicap, right, times)
		if handicap == "" {
			text = fmt.Sprintf("unchanged: passed %d of %d runs", right, times)
		}
		said = append(said, fmt.Sprintf("%s, %v each", text, (time.Since(began)/time.Duration(times)).Round(time.Second)))
		wrong += times - right
	}
	fmt.Println(strings.Join(said, "\n"))
	if wrong > 0 {
		return fmt.Errorf("the check was wrong %d times", wrong)
	}
	return nil
}
