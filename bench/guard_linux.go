// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/remora-go/remora/bench/internal/measure"
	"github.com/remora-go/remora/bench/internal/report"
)

// looks is how often a row is looked at before it is said to have fallen. The first look is
// a short one; each other one is at new processes and takes longer than the one before.
func looks() []measure.Options {
	return []measure.Options{
		{Rounds: 15, Each: 10 * time.Millisecond},
		{Rounds: 21, Each: 20 * time.Millisecond},
		{Rounds: 31, Each: 30 * time.Millisecond},
		{Rounds: 41, Each: 40 * time.Millisecond},
	}
}

// check measures the steady rows again, and tells which have fallen behind a file of results.
func (b *bench) check(groups []group, path string) error {
	f, err := report.Load(path)
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
	return nil
}

// row tells rows apart.
type row struct{ group, name string }

// suspect is a row that may have fallen, and by how much.
type suspect struct {
	row
	rise float64
}

func (s suspect) String() string { return fmt.Sprintf("%s: %s %+.1f %%", s.group, s.name, 100*s.rise) }

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
			held[r.Group] = append(held[r.Group], suspect{row: row{r.Group, r.Name}})
		}
	}
	if len(names) == 0 {
		return nil, errors.New("no row of that file is steady enough to be held against")
	}
	for _, name := range names {
		in := slices.DeleteFunc(slices.Clone(groups), func(g group) bool { return g.name != name })
		suspects, err := b.fallenOf(in, f, held[name], one)
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
func (b *bench) fallenOf(in []group, f *report.File, suspects []suspect, one bool) (_ []suspect, err error) {
	for i, o := range looks() {
		if len(suspects) == 0 {
			break
		}
		if suspects, err = b.look(in, f, suspects, o, i == len(looks())-1); err != nil {
			return nil, err
		}
		if one {
			slices.SortFunc(suspects, func(a, b suspect) int { return cmp.Compare(b.rise, a.rise) })
			suspects = suspects[:min(len(suspects), enough)]
		}
	}
	return suspects, nil
}

// look measures some rows of a group, and gives those of them that are suspect; at the last look,
// those that have fallen.
func (b *bench) look(in []group, f *report.File, rows []suspect, o measure.Options, last bool) (left []suspect, err error) {
	asked := func(of row) bool { return slices.ContainsFunc(rows, func(s suspect) bool { return s.row == of }) }
	now := &bench{Options: o, quiet: true, handicap: b.handicap, pick: func(r *measure.Row) bool {
		if !asked(row{r.Group, r.Name}) {
			return false
		}
		time, cpu := report.Steadiest(f.Row(r.Group, r.Name))
		r.Sides = slices.DeleteFunc(r.Sides, func(s measure.Side) bool {
			return s.Name != r.Sides[0].Name && s.Name != time && s.Name != cpu
		})
		return true
	}}
	now.run(in, func(r *measure.Result) {
		falls, e := report.Compare(f.Row(r.Group, r.Name), r)
		err = errors.Join(err, e)
		bad, steady, rise := false, false, 0.0
		for _, fall := range falls {
			bad, steady = bad || fall.Fallen() || !last && fall.Suspect(), steady || fall.Steady()
			rise = max(rise, fall.Rise)
			if !b.quiet {
				fmt.Println(&fall)
			}
		}
		if bad || !steady && !last {
			left = append(left, suspect{row{r.Group, r.Name}, rise})
		}
	})
	for _, s := range rows {
		if !slices.ContainsFunc(now.rows, func(m *measure.Result) bool { return m.Group == s.group && m.Name == s.name }) {
			err = errors.Join(err, fmt.Errorf("%s: %s: is in the file, and was not measured", s.group, s.name))
		}
	}
	return left, errors.Join(err, now.whether())
}

// prove runs the check so many times with each handicap and without one, and tells how often
// it was right.
func (b *bench) prove(groups []group, path string, times int) error {
	if path == "" {
		return errors.New("-prove goes with -check FILE")
	}
	f, err := report.Load(path)
	if err != nil {
		return err
	}
	var said []string
	wrong := 0
	for _, handicap := range []string{"15%", "300ns", ""} {
		right, began := 0, time.Now()
		for i := range times {
			run := &bench{only: b.only, handicap: handicap, quiet: true}
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
