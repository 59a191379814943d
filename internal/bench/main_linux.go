// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/specimen"
)

func main() {
	specimen.Main()
	rounds := flag.Int("rounds", 21, "rounds of each row; at least 10")
	each := flag.Duration("each", 50*time.Millisecond, "about how long one side runs in a round")
	only := flag.String("only", "", "run rows whose name holds this")
	which := flag.String("part", "process", "process, image, kernel, stub, guest or kcore")
	flag.Parse()
	if *rounds < 10 {
		fmt.Fprintln(os.Stderr, "bench: fewer than 10 rounds tell nothing")
		os.Exit(2)
	}
	if err := start(*which, *rounds, *each, *only); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// start measures the part of that name.
func start(which string, rounds int, each time.Duration, only string) error {
	if which == "kcore" {
		if _, err := os.Stat(kcoreTwin); err != nil {
			return runInGuest(rounds, each, only)
		}
	}
	open, ok := parts()[which]
	if !ok {
		return fmt.Errorf("no part %q", which)
	}
	p, err := open()
	if err != nil {
		return err
	}
	printHead(os.Stdout, rounds)
	return run(os.Stdout, p, rounds, each, only)
}

// part is a group of rows that have a twin of their own.
type part interface {
	twin() (*twin, error)
	rows() ([]row, error)
	close() error
}

// parts are the groups, by name.
func parts() map[string]func() (part, error) {
	return map[string]func() (part, error){"process": newProcess, "image": newImages, "kernel": newKernels, "stub": newStubs, "guest": newGuests, "kcore": newKcores}
}

// run measures the rows of one part and prints a table.
func run(w io.Writer, p part, rounds int, each time.Duration, only string) (err error) {
	defer func() { err = cmp.Or(err, p.close()) }()
	rows, err := p.rows()
	if err != nil {
		return err
	}
	t, err := p.twin()
	if err != nil {
		return err
	}
	defer func() { err = cmp.Or(err, t.close()) }()
	for _, r := range rows {
		if !strings.Contains(r.name, only) {
			continue
		}
		res, err := measure(t, r, rounds, each)
		if err != nil {
			return err
		}
		res.print(w)
	}
	return nil
}

// newProcess starts the process that the rows about live processes read.
func newProcess() (part, error) {
	s, err := specimen.Start(context.Background(), nil)
	if err != nil {
		return nil, err
	}
	b := &bench{specimen: s, pid: s.Pid(), page: uint64(os.Getpagesize()), random: rand.New(rand.NewPCG(1, 2))}
	if err := b.layOut(s); err != nil {
		b.close()
		return nil, err
	}
	return b, nil
}

func (b *bench) twin() (*twin, error) { return startTwin("twin") }

// layOut maps the memory that the rows read.
func (b *bench) layOut(s *specimen.Specimen) (err error) {
	if b.private, err = s.Map(specimen.Touched, large/int(b.page)); err != nil {
		return err
	}
	if b.shared, err = s.Map(specimen.SharedMemory, bulk/int(b.page)); err != nil {
		return err
	}
	if b.holed, err = s.Map(specimen.Touched, vector); err != nil {
		return err
	}
	for i := uint64(5); i < vector; i += 10 {
		hole := remora.Range{Start: b.holed.Start + remora.Addr(i*b.page), Size: b.page}
		if err := s.Unmap(hole); err != nil {
			return err
		}
	}
	return nil
}

func printHead(w io.Writer, rounds int) {
	fmt.Fprintf(w, "%s, %d processors, Linux %s, %s, %s\n", cpu(), runtime.NumCPU(), first("uname", "-r"), runtime.Version(), first("cc", "--version"))
	fmt.Fprintf(w, "%s, %d rounds; ratio: Go by C, the median of the rounds and their quartiles\n\n", time.Now().Format(time.DateOnly), rounds)
	fmt.Fprintf(w, "%-36s %14s %14s   %-22s %-13s %s\n", "", "C, ns", "Go, ns", "ratio", "wanted", "allocations")
}

func (r *result) print(w io.Writer) {
	there := quantile(r.there, 0.5)
	if r.here == nil {
		fmt.Fprintf(w, "%-36s %14.0f   [%.0f..%.0f]\n", r.name, there, quantile(r.there, 0.25), quantile(r.there, 0.75))
		return
	}
	ratio := fmt.Sprintf("%.3f [%.3f..%.3f]", quantile(r.ratios, 0.5), quantile(r.ratios, 0.25), quantile(r.ratios, 0.75))
	fmt.Fprintf(w, "%-36s %14.0f %14.0f   %-22s %-13s %.3f\n", r.name, there, quantile(r.here, 0.5), ratio, r.limit, r.allocs)
}

// cpu gives the name of the processor.
func cpu() string {
	text, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

// first gives the first line of what a command prints.
func first(name string, args ...string) string {
	out, err := exec.Command(name, args...).Output()
	if err != nil {
		return name + ": " + err.Error()
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return line
}
