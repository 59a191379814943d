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
	each := flag.Duration("each", 50*time.Millisecond, "about how long one side runs in a round")
	only := flag.String("only", "", "measure rows whose group and name hold this")
	player := flag.String("play", "", "be a side of the benchmark: what to do comes through standard input")
	flag.Parse()
	err := errors.New("fewer than 10 rounds tell nothing")
	switch {
	case *player != "":
		err = serve(*player)
	case *rounds >= 10:
		err = run(measure.Options{Rounds: *rounds, Each: *each}, *only)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// serve is one of the sides in Go.
func serve(name string) error {
	verbs, ok := players()[name]
	if !ok {
		return fmt.Errorf("no player %q", name)
	}
	return play.Serve(os.Stdin, os.Stdout, verbs)
}

// group lays out what its rows need.
type group struct {
	name string
	open func(*site) ([]measure.Row, error)
}

func groups() []group {
	return []group{
		{"live process", liveRows},
		{"guest of QEMU", guestRows},
		{"gdb stub", stubRows},
	}
}

// run measures the rows of all groups, one after another.
func run(o measure.Options, only string) error {
	for _, g := range groups() {
		if name, _, ok := strings.Cut(only, ": "); ok && name != g.name {
			continue
		}
		if err := runGroup(g, o, only); err != nil {
			return fmt.Errorf("%s: %w", g.name, err)
		}
	}
	return nil
}

func runGroup(g group, o measure.Options, only string) (err error) {
	s := &site{}
	defer func() { err = errors.Join(err, s.close()) }()
	defer failed(&err)
	rows, err := g.open(s)
	if err != nil {
		return err
	}
	for i := range rows {
		r := &rows[i]
		r.Group = g.name
		if !strings.Contains(r.Group+": "+r.Name, only) {
			continue
		}
		res, err := measure.Measure(r, o)
		if err != nil {
			return err
		}
		show(res)
	}
	return nil
}

// show prints a row.
func show(r *measure.Result) {
	fmt.Printf("%s (%d rounds)\n", r.Name, r.Rounds)
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
