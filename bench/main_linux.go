// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/remora-go/remora/bench/internal/measure"
	"github.com/remora-go/remora/bench/internal/play"
	"github.com/remora-go/remora/internal/specimen"
)

func main() {
	specimen.Main()
	rounds := flag.Int("rounds", 11, "rounds of each row; at least 10")
	each := flag.Duration("each", 40*time.Millisecond, "about how long one side runs in a round")
	only := flag.String("only", "", "measure rows whose group and name hold this")
	player := flag.String("play", "", "be a side of the benchmark: what to do comes through standard input")
	handicap := flag.String("handicap", "", "have Remora burn this much longer: 300ns each call, or 15% of each that moves much")
	write := flag.String("write", "", "write benchmarks.json, benchmarks.md and the figures into this directory")
	page := flag.String("page", "", "measure nothing: write benchmarks.md and the figures anew, of the benchmarks.json in this directory")
	check := flag.String("check", "", "hold the ratios of steady rows against this file, and tell which have fallen")
	prove := flag.Int("prove", 0, "so many times each, see whether -check notices handicaps of 15% and 300ns, and none where there is none")
	within := flag.Bool("inside", false, "measure what is measured in a guest, and print it as JSON")
	flag.Parse()
	b := &bench{Options: measure.Options{Rounds: *rounds, Each: *each}, only: *only, handicap: *handicap, kept: &kept{}}
	err := errors.New("fewer than 10 rounds tell nothing")
	switch {
	case *player != "":
		err = serve(*player, *handicap)
	case *page != "":
		err = writePage(*page)
	case *rounds < 10:
	case *within:
		err = b.inside()
	case *prove > 0:
		err = b.prove(groups(), *check, *prove)
	case *check != "":
		err = b.check(groups(), *check)
	default:
		err = b.report(groups(), *write)
	}
	if err = errors.Join(err, b.kept.close()); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// serve is one of the sides in Go.
func serve(name, handicap string) error {
	verbs, ok := players()[name]
	if !ok {
		return fmt.Errorf("no player %q", name)
	}
	h, err := play.ParseHandicap(handicap)
	if err != nil {
		return err
	}
	return play.Serve(os.Stdin, os.Stdout, h.On(verbs))
}

// group lays out what its rows need, or has them measured elsewhere.
type group struct {
	name    string
	open    func(*site) ([]measure.Row, error)
	results func(*bench, *site) ([]*measure.Result, error)
}

func groups() []group {
	return []group{
		{name: "live process", open: liveRows},
		{name: "whole process", open: wholeRows},
		{name: "kernel image", open: imageRows},
		{name: "guest of QEMU", open: guestRows},
		{name: "gdb stub", open: stubRows},
		{name: kcoreGroup, results: runningKernel},
		{name: "own cost", open: ownRows},
	}
}

// bench is one run over the rows of all groups, one after another.
type bench struct {
	measure.Options
	only     string
	handicap string
	quiet    bool
	kept     *kept
	pick     func(*measure.Row) bool // which rows, whose sides it may leave out; nil: all
	names    []string                // of those rows, for what need not be laid out; nil: of any
	untold   int                     // rows of which a check can tell nothing

	rows   []*measure.Result
	values []measure.Value
	failed []failedRow
}

// failedRow is a row that gave no number, or a group that could not be laid out.
type failedRow struct {
	group, row string
	err        error
}

// wanted tells whether a row is to be measured.
func (b *bench) wanted(group, name string, r *measure.Row) bool {
	return strings.Contains(group+": "+name, b.only) && (b.pick == nil || r != nil && b.pick(r))
}

// open tells whether rows of a group may be wanted: where a name begins with that of a group,
// the others need not be laid out.
func (b *bench) open(name string) bool {
	for _, g := range groups() {
		if strings.HasPrefix(b.only, g.name) {
			return strings.HasPrefix(b.only, name)
		}
	}
	return true
}

// run measures. A row that fails does not end it.
func (b *bench) run(groups []group, told func(*measure.Result)) {
	for _, g := range groups {
		if !b.open(g.name) {
			continue
		}
		began := time.Now()
		if err := b.group(g, told); err != nil {
			b.failed = append(b.failed, failedRow{group: g.name, err: err})
			fmt.Fprintf(os.Stderr, "bench: %s: %v\n", g.name, err)
		}
		if !b.quiet {
			fmt.Fprintf(os.Stderr, "bench: %s: %v\n", g.name, time.Since(began).Round(time.Second))
		}
	}
}

// group measures the rows of a group.
func (b *bench) group(g group, told func(*measure.Result)) (err error) {
	s := &site{handicap: b.handicap, kept: b.kept, rows: b.names}
	defer func() {
		if err = errors.Join(err, s.close()); err != nil {
			err = s.scrub(err)
		}
	}()
	defer failed(&err)
	if g.results != nil {
		if b.pick != nil { // no row of it is as steady as it must be for that
			return nil
		}
		all, err := g.results(b, s)
		for _, res := range all {
			b.rows = append(b.rows, res)
			told(res)
		}
		return err
	}
	rows, err := g.open(s)
	if err != nil {
		return err
	}
	for _, v := range s.values {
		if v.Group = g.name; b.wanted(v.Group, v.Name, nil) {
			b.values = append(b.values, v)
		}
	}
	for i := range rows {
		r := &rows[i]
		r.Group = g.name
		if !b.wanted(r.Group, r.Name, r) {
			continue
		}
		res, err := measure.Measure(r, b.Options)
		if err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			b.failed = append(b.failed, failedRow{g.name, r.Name, s.scrub(err)})
			continue
		}
		for k := range res.Sides {
			res.Sides[k].How = s.plain(res.Sides[k].How)
		}
		b.rows = append(b.rows, res)
		told(res)
	}
	return nil
}

// whether gives an error that tells how many rows have failed, if any.
func (b *bench) whether() error {
	if len(b.failed) == 0 {
		return nil
	}
	all := []error{fmt.Errorf("%d rows or groups have failed", len(b.failed))}
	for _, f := range b.failed {
		all = append(all, fmt.Errorf("%s: %s: %w", f.group, f.row, f.err))
	}
	return errors.Join(all...)
}

// show prints a row.
func show(r *measure.Result) {
	fmt.Printf("%s: %s (%d rounds)\n", r.Group, r.Name, r.Rounds)
	for i, s := range r.Sides {
		fmt.Printf("  %-40s %14.0f ns [%.0f..%.0f]  CPU %.0f ns, %d MiB", s.Name, s.Wall.Median, s.Wall.Low, s.Wall.High, s.CPU, s.Peak>>20)
		if i > 0 {
			fmt.Printf("  ratio %.3f [%.3f..%.3f]", s.Ratio.Median, s.Ratio.Low, s.Ratio.High)
		}
		fmt.Println()
	}
	for _, g := range r.Goals {
		fmt.Printf("  %v: %.3f %s\n", g.Met(), g.Value, g.Goal)
	}
}
