// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/specimen"
	"github.com/remora-go/remora/proc"
)

// demonstration is the Result of demo: its steps are taken while they are printed.
type demonstration struct {
	ctx   context.Context
	env   *Env
	keep  bool
	color bool

	s      *specimen.Specimen
	target remora.Target
	page   uint64
	lacks  map[string]proc.Facility // what this kernel does not have, by name
	parts  []part
}

var (
	_ Result   = (*demonstration)(nil)
	_ Streamer = (*demonstration)(nil)
)

// part is memory of one kind in the process.
type part struct {
	specimen.Piece
	rng  remora.Range
	perm string // as the map has it; empty: not mapped
	what string
}

// kinds of the parts, in the order in which they lie side by side.
func demoParts() []part {
	return []part{
		{Piece: specimen.Piece{Kind: specimen.Touched, Pages: 2}, perm: "rw-p", what: "ordinary memory"},
		{Piece: specimen.Piece{Kind: specimen.Hole, Pages: 1}, what: "nothing is mapped here"},
		{Piece: specimen.Piece{Kind: specimen.ReadOnly, Pages: 1}, perm: "r--p", what: "read-only"},
		{Piece: specimen.Piece{Kind: specimen.NoAccess, Pages: 1}, perm: "---p", what: "protected: no access at all"},
		{Piece: specimen.Piece{Kind: specimen.Untouched, Pages: 2}, perm: "rw-p", what: "never touched"},
		{Piece: specimen.Piece{Kind: specimen.SharedMemory, Pages: 1}, perm: "rw-s", what: "shared"},
		{Piece: specimen.Piece{Kind: specimen.PrivateFile, Pages: 1}, perm: "rw-p", what: "a file, private"},
		{Piece: specimen.Piece{Kind: specimen.Text, Pages: 1}, perm: "r-xp", what: "program text"},
		{Piece: specimen.Piece{Kind: specimen.FileEnd, Pages: 2}, perm: "rw-p", what: "a file that ends in its first page"},
		{Piece: specimen.Piece{Kind: specimen.Touched, Pages: 1}, perm: "rw-p", what: "ordinary memory"},
		{Piece: specimen.Piece{Kind: specimen.Guard, Pages: 1}, perm: "rw-p", what: "a guard page, which the map does not show"},
	}
}

func newDemonstration(ctx context.Context, env *Env, keep bool) (Result, error) {
	d := &demonstration{ctx: ctx, env: env, keep: keep, color: env.Color, page: uint64(os.Getpagesize()), lacks: map[string]proc.Facility{}}
	for _, f := range proc.Facilities() {
		if !f.Works {
			d.lacks[f.Name] = f
		}
	}
	var err error
	if d.s, err = specimen.Start(ctx, nil); err != nil {
		return nil, err
	}
	if err = d.prepare(); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// prepare maps the parts, and opens the process.
func (d *demonstration) prepare() error {
	d.parts = demoParts()
	ranges, err := d.layout()
	if errors.Is(err, errors.ErrUnsupported) { // guard pages are new
		d.parts = d.parts[:len(d.parts)-1]
		ranges, err = d.layout()
	}
	if err != nil {
		return err
	}
	for i, r := range ranges {
		d.parts[i].rng = r
	}
	d.target, err = d.env.Open(d.ctx, d.pid(), nil)
	return err
}

func (d *demonstration) layout() ([]remora.Range, error) {
	var pieces []specimen.Piece
	for _, p := range d.parts {
		pieces = append(pieces, p.Piece)
	}
	return d.s.Layout(pieces...)
}

// part gives the first part of a kind; ok is false where there is none.
func (d *demonstration) part(k specimen.Kind) (p part, ok bool) {
	for _, p := range d.parts {
		if p.Kind == k {
			return p, true
		}
	}
	return part{}, false
}

func (d *demonstration) pid() string { return strconv.Itoa(d.s.Pid()) }

// Close ends the process.
func (d *demonstration) Close() error {
	var err error
	if d.target != nil {
		err = d.target.Close()
	}
	return errors.Join(err, d.s.Close())
}

// run runs one verb as it would be typed, and shows that it was.
func (d *demonstration) run(st *demoStep, args ...string) (out, complaint string, code int) {
	st.typed(commandLine(args))
	var stdout, stderr bytes.Buffer
	code = Main(d.ctx, args, Stdio{In: strings.NewReader(""), Out: &stdout, Err: &stderr, Getenv: os.Getenv})
	return stdout.String(), stderr.String(), code
}

// commandLine is a command as it is typed into a shell.
func commandLine(args []string) string {
	words := []string{"remora"}
	for _, a := range args {
		if strings.ContainsAny(a, " '\"\\$*?[]&|;<>()!#~`") || a == "" {
			a = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		}
		words = append(words, a)
	}
	return strings.Join(words, " ")
}

// exited is the error of a verb that ended with another code than it should.
func exited(code, want int, out, complaint string) error {
	return fmt.Errorf("it ended with the exit code %d, not %d: %s", code, want, strings.TrimSpace(out+complaint))
}

// Text takes the steps, and prints each.
func (d *demonstration) Text(w io.Writer) error {
	intro := fmt.Sprintf("The memory of a live process, read and written. The process is %s, started for this, with memory of many\n"+
		"kinds side by side. The lines with a $ do by hand what is shown.\n\n", d.pid())
	if _, err := io.WriteString(w, intro); err != nil {
		return err
	}
	counts := map[string]int{}
	err := d.steps(func(st *demoStep) error {
		counts[st.Status]++
		if err := st.print(w, d.color); err != nil {
			return err
		}
		return flush(w)
	})
	var bad *stepsFailed
	if err != nil && !errors.As(err, &bad) {
		return err
	}
	text := count(counts[stepShown], "step") + " shown and checked"
	for _, s := range []string{stepCannot, stepFailed} {
		if counts[s] > 0 {
			text += fmt.Sprintf(", %d %s", counts[s], s)
		}
	}
	text += ".\nTo go on by hand: sleep 600 & remora maps $!     What works on a process, and why not: remora doctor PID\n"
	if _, e := io.WriteString(w, text); e != nil {
		return e
	}
	return errors.Join(err, d.wait(w))
}

// wait lets the process run on.
func (d *demonstration) wait(w io.Writer) error {
	if !d.keep {
		return nil
	}
	if _, err := fmt.Fprintf(w, "Process %s runs on until Ctrl-C.\n", d.pid()); err != nil {
		return err
	}
	if err := flush(w); err != nil {
		return err
	}
	<-d.ctx.Done()
	return nil
}

// Lines takes the steps, and gives each as an object.
func (d *demonstration) Lines(emit func(any) error) error {
	err := d.steps(func(st *demoStep) error { return emit(st) })
	if d.keep && d.ctx.Err() == nil {
		<-d.ctx.Done()
	}
	return err
}

// stepsFailed names the steps that did not go as they should.
type stepsFailed struct{ titles []string }

func (e *stepsFailed) Error() string {
	return "this did not go as it should: " + strings.Join(e.titles, "; ")
}

// steps takes every step. One that fails does not keep the others from being taken.
func (d *demonstration) steps(each func(*demoStep) error) error {
	failed := &stepsFailed{}
	for i, sc := range scenes() {
		if d.ctx.Err() != nil {
			return context.Cause(d.ctx)
		}
		st := &demoStep{Step: i + 1, Title: sc.title, About: sc.about, Status: stepShown}
		err := sc.act(d, st)
		var no *cannot
		switch {
		case d.ctx.Err() != nil:
			return context.Cause(d.ctx)
		case errors.As(err, &no):
			st.Status, st.Why = stepCannot, no.why
		case err != nil:
			st.Status, st.Why = stepFailed, err.Error()
			failed.titles = append(failed.titles, fmt.Sprintf("%d. %s: %v", st.Step, st.Title, err))
		}
		if err := each(st); err != nil {
			return err
		}
	}
	if len(failed.titles) > 0 {
		return failed
	}
	return nil
}
