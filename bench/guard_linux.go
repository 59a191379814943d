// SPDX-License-Identifier: Apache-2.0

package main

import (
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
	fallen, err := b.fallen(groups, f)
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

// fallen gives the rows that have fallen: at every look at them.
func (b *bench) fallen(groups []group, f *report.File) (suspects []row, err error) {
	for _, r := range f.Rows {
		if r.Guard && b.wanted(r.Group, r.Name, nil) {
			suspects = append(suspects, row{r.Group, r.Name})
		}
	}
	if len(suspects) == 0 {
		return nil, errors.New("no row of that file is steady enough to be held against")
	}
	for i, o := range looks() {
		if len(suspects) == 0 {
			break
		}
		if suspects, err = b.look(groups, f, suspects, o, i == len(looks())-1); err != nil {
			return nil, err
		}
	}
	return suspects, nil
}

// look measures some rows, and gives those of them that are suspect; at the last look,
// those that have fallen.
func (b *bench) look(groups []group, f *report.File, rows []row, o measure.Options, last bool) (left []row, err error) {
	var open []group
	for _, g := range groups {
		if slices.ContainsFunc(rows, func(r row) bool { return r.group == g.name }) {
			open = append(open, g)
		}
	}
	now := &bench{Options: o, quiet: true, handicap: b.handicap, pick: func(r *measure.Row) bool {
		if !slices.Contains(rows, row{r.Group, r.Name}) {
			return false
		}
		time, cpu := report.Steadiest(f.Row(r.Group, r.Name))
		r.Sides = slices.DeleteFunc(r.Sides, func(s measure.Side) bool {
			return s.Name != r.Sides[0].Name && s.Name != time && s.Name != cpu
		})
		return true
	}}
	now.run(open, func(r *measure.Result) {
		falls, e := report.Compare(f.Row(r.Group, r.Name), r)
		err = errors.Join(err, e)
		bad, steady := false, false
		for _, fall := range falls {
			bad, steady = bad || fall.Fallen() || !last && fall.Suspect(), steady || fall.Steady()
			if !b.quiet {
				fmt.Println(&fall)
			}
		}
		if bad || !steady && !last {
			left = append(left, row{r.Group, r.Name})
		}
	})
	for _, r := range rows {
		if !slices.ContainsFunc(now.rows, func(m *measure.Result) bool { return m.Group == r.group && m.Name == r.name }) {
			err = errors.Join(err, fmt.Errorf("%s: %s: is in the file, and was not measured", r.group, r.name))
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
			fallen, err := run.fallen(groups, f)
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
