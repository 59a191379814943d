// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/scan"
	"github.com/remora-go/remora/vmcore"
)

// conversion is the Result of convert. Amounts are in bytes.
type conversion struct {
	Source  string `json:"source"`
	File    string `json:"file"`
	Format  string `json:"format"`
	Codec   string `json:"compress,omitempty"`
	Size    int64  `json:"size"` // of the file
	Saved   uint64 `json:"saved"`
	Zeros   uint64 `json:"zeros"` // of them, in pages of zeros
	Left    uint64 `json:"not_saved"`
	Lost    uint64 `json:"lost"`
	Rest    bool   `json:"rest_lost,omitempty"` // and more, of which it is not known how much
	Partial uint64 `json:"parts_of_pages"`      // left out
	Notes   int    `json:"notes_left_out"`
}

// run writes the file. The error names what was found damaged.
func (c *conversion) run(ctx context.Context, env *Env, content *vmcore.Content, o *vmcore.WriteOptions) (Result, error) {
	f, err := createFile(c.File)
	if err != nil {
		return nil, err
	}
	env.begun(f)
	defer env.begun(nil)
	bar := env.progress("converting")
	o.Fresh, o.Progress = f.temp != "", bar.amount
	done, err := vmcore.Write(ctx, f, content, o)
	bar.end()
	if err != nil {
		f.abandon()
		if f.failed != nil {
			err = f.failed
		}
		return nil, err
	}
	if err := f.commit(); err != nil {
		return nil, err
	}
	c.Size, c.Saved, c.Zeros, c.Left, c.Lost, c.Partial, c.Notes, c.Rest = done.Size, done.Saved, done.Zeros, done.NotSaved, done.Lost, done.Partial, done.NotesLeft, done.Rest
	gaps := faults{ctx: ctx, mem: remora.New(content.Space)}
	for _, g := range done.Gaps {
		gaps.add(&scan.Piece{Addr: g.Start, Size: g.Size, Err: g.Err})
	}
	if err := gaps.errors(); err != nil || c.Lost == 0 && !c.Rest {
		return c, err
	}
	return c, fmt.Errorf("convert %s: %s: %w", harmless(c.Source), c.missing(), remora.ErrTruncated)
}

// missing says what is lost.
func (c *conversion) missing() string {
	text := fmt.Sprintf("%d bytes of it are missing", c.Lost)
	if c.Rest {
		text += ", and what memory there was above"
	}
	return text
}

// Text prints what became of the memory.
func (c *conversion) Text(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %d bytes, %s", harmless(c.File), c.Size, c.Format)
	if c.Codec != "" {
		fmt.Fprintf(&b, " with %s", c.Codec)
	}
	fmt.Fprintf(&b, "\n  saved      %d bytes, %d of them in pages of zeros\n", c.Saved, c.Zeros)
	for _, row := range []struct {
		n    uint64
		text string
	}{
		{c.Left, "  not saved  %d bytes, as in the source\n"},
		{c.Lost, "  lost       %d bytes\n"},
		{c.Partial, "  left out   %d bytes in parts of pages\n"},
		{uint64(c.Notes), "  left out   %d notes, which are too large\n"},
	} {
		if row.n > 0 {
			fmt.Fprintf(&b, row.text, row.n)
		}
	}
	if c.Rest {
		b.WriteString("  lost       what memory there was above\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// mayCreate refuses a file that is there, unless it is to be replaced, and what cannot
// be written out of order.
func mayCreate(name string, force bool) error {
	st, err := os.Stat(name)
	switch {
	case name == "-":
		return usagef("an image is written out of order, which standard output does not take; name a file")
	case err != nil:
		return nil // as writing it will say
	case st.Mode()&(os.ModeNamedPipe|os.ModeSocket) != 0:
		return &fileError{"write", fmt.Errorf("%s: an image is written out of order, which a pipe does not take", name)}
	case st.Mode().IsRegular() && !force:
		return &fileError{"write", fmt.Errorf("%s: it is there already; --force replaces it", name)}
	}
	return nil
}
