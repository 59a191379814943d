// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"io"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/vmcore"
)

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
