// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

type options struct {
	only    *regexp.Regexp
	dry     bool
	workers int
	first   string
	out     io.Writer
}

func (o *options) run(ctx context.Context, dir string) error {
	l, err := readList(dir)
	if err != nil {
		return fmt.Errorf("%s: %w", filepath.Join(dir, listFile), err)
	}
	without, err := l.unchanged()
	if err != nil {
		return err
	}
	if len(without) > 0 {
		return fmt.Errorf("%s:\n\t%s", filepath.Join(dir, listFile), strings.Join(without, "\n\t"))
	}
	if o.dry {
		fmt.Fprintf(o.out, "%s: %d mutants, %d changes that make no difference\n", dir, len(l.mutants), len(l.same))
		return nil
	}
	if !slices.ContainsFunc(l.mutants, func(m mutant) bool { return o.only.MatchString(m.name) }) {
		return fmt.Errorf("no mutant has a name that matches %v", o.only)
	}
	tmp, err := os.MkdirTemp("", "mutate")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	t, err := o.newTrial(ctx, l, dir, tmp)
	if err != nil {
		return err
	}
	return o.all(ctx, t)
}

// newTrial runs the tests without any change. All that follows means nothing unless they pass.
func (o *options) newTrial(ctx context.Context, l *list, dir, tmp string) (*trial, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	t := &trial{list: l, dir: dir, tmp: tmp, first: o.first, timeout: 5 * time.Minute}
	start := time.Now()
	r := t.try(ctx, nil)
	if r.err != nil {
		return nil, r.err
	}
	if r.test != "" {
		return nil, fmt.Errorf("%s fails without any change:\n%s", r.test, r.output)
	}
	t.timeout = 20*time.Second + 10*r.took
	fmt.Fprintf(o.out, "unchanged: passes (%.1fs, of which the longer part of the tests %.1fs)\n",
		time.Since(start).Seconds(), r.took.Seconds())
	return t, nil
}

// all tries the mutants, and prints a row for each in the order of the list.
func (o *options) all(ctx context.Context, t *trial) error {
	results := make([]chan result, len(t.list.mutants))
	for i := range results {
		results[i] = make(chan result, 1)
	}
	next := make(chan int)
	var wg sync.WaitGroup
	for range max(o.workers, 1) {
		wg.Go(func() {
			for i := range next {
				results[i] <- t.try(ctx, &t.list.mutants[i])
			}
		})
	}
	go func() {
		for i, m := range t.list.mutants {
			if o.only.MatchString(m.name) {
				next <- i
			}
		}
		close(next)
	}()
	err := o.table(t, results)
	wg.Wait()
	return err
}

func (o *options) table(t *trial, results []chan result) error {
	var bad []error
	tried := 0
	for i, m := range t.list.mutants {
		if !o.only.MatchString(m.name) {
			continue
		}
		tried++
		r := <-results[i]
		switch {
		case r.err != nil:
			bad = append(bad, fmt.Errorf("%s: %w", m.name, r.err))
			r.test = "ERROR"
		case r.test == "":
			bad = append(bad, fmt.Errorf("%s: no test notices", m.name))
			r.test = "SURVIVES"
		}
		fmt.Fprintf(o.out, "%-26s  %-60s  %s\n", m.name, m.rule, r)
	}
	fmt.Fprintf(o.out, "%d of %d mutants caught\n", tried-len(bad), tried)
	return errors.Join(bad...)
}

// trial is what it takes to try a mutant.
type trial struct {
	list     *list
	dir, tmp string
	first    string
	timeout  time.Duration
}

// result is how a try ended.
type result struct {
	test   string // that failed first; "" if all passed
	how    string // "panics" and the like; "" for an ordinary failure
	output string
	took   time.Duration
	err    error // it was no try
}

func (r result) String() string {
	if r.how == "" {
		return r.test
	}
	return r.test + " (" + r.how + ")"
}

// try compiles the tests with a mutant, or without, and runs them.
func (t *trial) try(ctx context.Context, m *mutant) result {
	name := "unchanged"
	args := []string{"test", "-c", "-vet=off", "-ldflags=-s -w"} // the linker is most of the wait
	if m != nil {
		name = m.name
		overlay, err := t.overlay(m)
		if err != nil {
			return result{err: err}
		}
		args = append(args, "-overlay", overlay)
	}
	binary := filepath.Join(t.tmp, name+".test")
	defer os.Remove(binary)
	build := exec.CommandContext(ctx, "go", append(args, "-o", binary, ".")...)
	build.Dir = t.dir
	if out, err := build.CombinedOutput(); err != nil {
		return result{err: fmt.Errorf("does not compile: %w\n%s", err, out)}
	}
	r := t.tests(ctx, binary, "-test.run="+t.first)
	if r.test == "" && r.err == nil {
		took := r.took
		r = t.tests(ctx, binary, "-test.skip="+t.first)
		r.took = max(r.took, took)
	}
	return r
}

// overlay writes what go build is to read in place of a source.
func (t *trial) overlay(m *mutant) (string, error) {
	source := filepath.Join(t.tmp, m.name+".go")
	if err := os.WriteFile(source, t.list.mutated(*m), 0o600); err != nil {
		return "", err
	}
	text, err := json.Marshal(map[string]map[string]string{"Replace": {filepath.Join(t.dir, m.file): source}})
	if err != nil {
		return "", err
	}
	overlay := filepath.Join(t.tmp, m.name+".json")
	return overlay, os.WriteFile(overlay, text, 0o600)
}

// tests runs some of the tests until one fails. Their output goes to a file: a child that a test
// left behind would hold a pipe open.
func (t *trial) tests(ctx context.Context, binary, which string) result {
	out, err := os.Create(binary + ".out")
	if err != nil {
		return result{err: err}
	}
	defer os.Remove(out.Name())
	defer out.Close()
	hang, cancel := context.WithTimeout(ctx, t.timeout+30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(hang, binary, which, "-test.short", "-test.failfast", "-test.v", "-test.timeout="+t.timeout.String())
	cmd.Dir, cmd.Stdout, cmd.Stderr = t.dir, out, out
	start := time.Now()
	failed := cmd.Run()
	took := time.Since(start)
	text, err := os.ReadFile(out.Name())
	switch exit := new(exec.ExitError); {
	case ctx.Err() != nil:
		return result{err: ctx.Err()}
	case err != nil:
		return result{err: err}
	case failed == nil:
		return result{output: string(text), took: took}
	case !errors.As(failed, &exit):
		return result{err: failed}
	}
	return verdict(text)
}

var (
	failure = regexp.MustCompile(`(?m)^--- FAIL: (\S+)`)
	started = regexp.MustCompile(`(?m)^=== RUN +(\S+)`)
)

// verdict says from the output of tests which one failed. A crash is that of the one that was
// started last.
func verdict(out []byte) result {
	r := result{test: "a test", output: string(out)}
	if m := failure.FindSubmatch(out); m != nil {
		r.test = string(m[1])
	} else if all := started.FindAllSubmatch(out, -1); all != nil {
		r.test = string(all[len(all)-1][1])
	}
	switch {
	case bytes.Contains(out, []byte("panic: test timed out")):
		r.how = "does not end"
	case bytes.Contains(out, []byte("\npanic: ")):
		r.how = "panics"
	case bytes.Contains(out, []byte("\nfatal error: ")):
		r.how = "crashes"
	}
	return r
}
