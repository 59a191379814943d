// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/proc"
	"github.com/remora-go/remora/scan"
)

// copying is one run of copy.
type copying struct {
	ctx      context.Context
	env      *Env
	opts     *copyOptions
	src, dst remora.Target // the same one, or nil where it was not opened
	from     remora.Range
	to       remora.Addr
}

// copied is the Result of copy.
type copied struct {
	Source   string `json:"source"`
	Address  string `json:"address"`
	Target   string `json:"target"`
	To       string `json:"to"`
	Size     uint64 `json:"size"`    // how many bytes were to be copied
	Read     uint64 `json:"read"`    // how many could be read
	Written  uint64 `json:"written"` // how many of them were written, or would be
	Verified bool   `json:"verified"`
	DryRun   bool   `json:"dry_run"`
	Forced   bool   `json:"forced"`
}

// Text prints a line about the whole.
func (c *copied) Text(w io.Writer) error {
	amount := strconv.FormatUint(c.Written, 10)
	if c.Written < c.Size {
		amount += " of " + strconv.FormatUint(c.Size, 10)
	}
	amount += " byte"
	if c.Size != 1 {
		amount += "s"
	}
	act := "copied"
	if c.DryRun {
		act = "would be copied"
	}
	text := fmt.Sprintf("%s %s from %s of %s to %s of %s", amount, act, c.Address, harmless(c.Source), c.To, harmless(c.Target))
	switch {
	case c.DryRun:
		text += "; nothing was written"
	case c.Verified:
		text += "; read back: equal"
	}
	_, err := io.WriteString(w, text+"\n")
	return err
}

func (c *copying) close() {
	if c.src != nil {
		c.src.Close()
	}
	if c.dst != nil && c.dst != c.src {
		c.dst.Close()
	}
}

// one says whether both targets are one process, by other words.
func (c *copying) one() bool {
	a, ok := remora.As[*proc.Process](c.src)
	b, too := remora.As[*proc.Process](c.dst)
	return ok && too && a.Pid() == b.Pid()
}

// locate finds out what is to be copied, and to where.
func (c *copying) locate(from, to string) (err error) {
	src := locate(c.ctx, c.src)
	if c.from, err = src.parseSpan(from, size{}); err != nil {
		return err
	}
	if c.from.Size == 0 {
		return usagef("%q: how many bytes? ADDR+LEN", from)
	}
	dst := locate(c.ctx, c.dst)
	if c.to, err = dst.parseAddr(to); err != nil {
		return err
	}
	last := c.to + remora.Addr(c.from.Size-1)
	if last < c.to {
		return usagef("%d bytes at %v lie past the last address", c.from.Size, c.to)
	}
	if c.src == c.dst && !c.from.Intersect(remora.Range{Start: c.to, Size: c.from.Size}).Empty() {
		return usagef("the ranges overlap")
	}
	return nil
}

// run copies, or only looks.
func (c *copying) run(res *copied) error {
	src, dst := c.src.Memory(), c.dst.Memory()
	if c.opts.force {
		src, dst = src.With(remora.Force), dst.With(remora.Force)
	}
	in := faults{ctx: c.ctx, mem: src}
	out := faults{ctx: c.ctx, mem: dst, op: remora.Write}
	parts := scan.Copy
	if c.opts.dryRun {
		parts = scan.WouldCopy
	}
	var changed []error
	for p, err := range parts(c.ctx, src, c.from, dst, c.to) {
		if err != nil {
			return errors.Join(append([]error{in.errors(), out.errors(), err}, changed...)...)
		}
		switch {
		case p.From != nil:
			in.add(&scan.Piece{Addr: c.from.Start + remora.Addr(p.Off), Size: p.Size, Err: p.From, Past: p.Past})
			continue
		case p.To != nil:
			out.add(&scan.Piece{Addr: c.to + remora.Addr(p.Off), Size: p.Size, Err: p.To})
		default:
			res.Written += p.Size
			if !c.opts.dryRun && len(changed) < mostFaults {
				if bad := readBack(c.ctx, dst, c.to+remora.Addr(p.Off), p.Data); bad != nil {
					changed = append(changed, bad)
				}
			}
		}
		res.Read += p.Size
	}
	res.Verified = !c.opts.dryRun && res.Written > 0 && len(changed) == 0
	return errors.Join(append([]error{in.errors(), out.errors()}, changed...)...)
}
