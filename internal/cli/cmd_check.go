// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/pflag"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/target"
	"github.com/remora-go/remora/vmcore"
)

func checkCommand() Command {
	return Command{
		Name:  "check",
		Args:  "TARGET",
		Short: "look for damage in a kernel image",
		Long: "Looks at all that a kernel image holds: headers, notes, tables, and each page that has to be inflated, on all\n" +
			"processors. Each place that is damaged, or that is missing since the file ends before it, is listed with the file,\n" +
			"the offset in it, what has to be there and what is. Pages that were left out on purpose are no damage.\n\n" +
			"The exit code is 0 for a sound image, and 6 for one with damage.",
		Examples: []string{
			"remora check vmcore",
			"remora check vmcore:part1,part2,part3 --json   # one object for each place",
		},
		New: func(flags *pflag.FlagSet) Run {
			opts := &target.Options{}
			imageFlags(flags, opts)
			return func(ctx context.Context, env *Env, args []string) (Result, error) {
				return runCheck(ctx, env, args[0], opts)
			}
		},
	}
}

// checking is the Result of check: it looks while it prints.
type checking struct {
	ctx   context.Context
	env   *Env
	t     remora.Target
	image *vmcore.Image
}

var _ Streamer = (*checking)(nil)

// damage is one line of check --json.
type damage struct {
	File   string `json:"file"`
	Offset string `json:"offset"`
	Want   string `json:"expected"`
	Got    string `json:"found"`
	Cause  string `json:"cause,omitempty"`
}

func runCheck(ctx context.Context, env *Env, spec string, opts *target.Options) (Result, error) {
	t, err := env.Open(ctx, spec, opts)
	if err != nil {
		return nil, err
	}
	img, err := imageOf(t, "check looks at kernel images")
	if err != nil {
		t.Close()
		return nil, err
	}
	return &checking{ctx: ctx, env: env, t: t, image: img}, nil
}

// Close closes the image.
func (c *checking) Close() error { return c.t.Close() }

// Text prints a line for each place.
func (c *checking) Text(w io.Writer) error {
	return c.run(func(d *damage) error {
		_, err := fmt.Fprintf(w, "%s:%s: expected %s, found %s\n", harmless(d.File), d.Offset, harmless(d.Want), harmless(d.Got))
		if err == nil {
			err = flush(w)
		}
		return err
	}, func() error {
		_, err := io.WriteString(w, "no damage was found\n")
		return err
	})
}

// Lines gives an object for each place.
func (c *checking) Lines(emit func(any) error) error {
	return c.run(func(d *damage) error { return emit(d) }, func() error { return nil })
}

// run looks at the image. The error of the whole says how much is damaged.
func (c *checking) run(show func(*damage) error, sound func() error) error {
	ctx, cancel := context.WithCancel(c.ctx)
	defer cancel()
	bar := c.env.progress("checking")
	defer bar.end()
	sum := &damageError{}
	var failed error
	err := c.image.Check(ctx, func(e *remora.FormatError) {
		if sum.n++; sum.n == 1 {
			sum.first = e
		}
		bar.found(sum.n, "damaged places")
		d := &damage{File: e.File, Offset: fmt.Sprintf("%#x", e.Offset), Want: e.Want, Got: e.Got}
		if e.Err != nil {
			d.Cause = e.Err.Error()
		}
		if failed == nil {
			if failed = show(d); failed != nil {
				cancel() // nobody reads on
			}
		}
	})
	switch {
	case failed != nil:
		return failed
	case err != nil:
		return err
	case sum.n > 0:
		return sum
	}
	return sound()
}

// damageError says how many places of an image are damaged.
type damageError struct {
	n     int
	first error
}

func (e *damageError) Error() string {
	if e.n == 1 {
		return "1 place is damaged"
	}
	return fmt.Sprintf("%d places are damaged", e.n)
}

func (e *damageError) Unwrap() error { return e.first }
