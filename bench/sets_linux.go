// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/remora-go/remora/bench/internal/measure"
	"github.com/remora-go/remora/bench/internal/report"
)

// moreSets is how many sets of processes measure a row that guards something, beside the first:
// two of the same build differ by more than the rounds of either.
const moreSets = 3

// sets measures the rows that guard something by more sets of processes, all rows by one set
// before the next begins, and keeps their ratios.
func (b *bench) sets(groups []group) error {
	for range moreSets {
		for _, g := range groups {
			rows := slices.DeleteFunc(slices.Clone(b.rows), func(r *measure.Result) bool { return r.Group != g.name || !r.Guard })
			if len(rows) == 0 {
				continue
			}
			if err := b.again([]group{g}, rows, measure.Options{Rounds: 15, Each: each}, quick, (*measure.Result).AddSet); err != nil {
				return err
			}
		}
	}
	return nil
}

// quick gives the sides of a row that are measured by more sets: those that it could be held
// against, but for what takes long or does much beside the work, where another does not.
func quick(r *measure.Result) []string {
	const long = float64(10 * time.Millisecond)
	names := report.Comparable(r)
	wall := func(name string) float64 { return r.Side(name).Wall.Median }
	bad := func(name string) bool { return wall(name) > long || r.Side(name).CPU > 1.5*wall(name) }
	if good := slices.DeleteFunc(slices.Clone(names), bad); len(good) > 0 {
		return good
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Compare(wall(a), wall(b)) })
	return names[:min(len(names), 1)]
}

// again measures rows of a group once more, at new processes, and tells of each what it was and
// what it is. Of its sides it takes Remora's and those that are named of it.
func (b *bench) again(in []group, rows []*measure.Result, o measure.Options,
	named func(*measure.Result) []string, told func(was, is *measure.Result),
) error {
	before := report.File{Rows: rows}
	now := &bench{Options: o, quiet: true, handicap: b.handicap, kept: b.kept, pick: func(r *measure.Row) bool {
		was := before.Row(r.Group, r.Name)
		if was == nil {
			return false
		}
		keep := append(named(was), r.Sides[0].Name)
		r.Sides = slices.DeleteFunc(r.Sides, func(s measure.Side) bool { return !slices.Contains(keep, s.Name) })
		return true
	}}
	for _, r := range rows {
		now.names = append(now.names, r.Name)
	}
	now.run(in, func(is *measure.Result) { told(before.Row(is.Group, is.Name), is) })
	err := now.whether()
	after := report.File{Rows: now.rows}
	for _, r := range rows {
		if after.Row(r.Group, r.Name) == nil {
			err = errors.Join(err, fmt.Errorf("%s: %s: was measured before, and is not now", r.Group, r.Name))
		}
	}
	return err
}
