// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"

	"github.com/spf13/pflag"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/target"
)

func copyCommand() Command {
	return Command{
		Name:  "copy",
		Args:  "SOURCE RANGE TARGET ADDR",
		Short: "copy memory from one target to another",
		Long: "Reads RANGE of SOURCE, writes it at ADDR of TARGET, and reads back what was written. Each may be a target of any\n" +
			"kind, the second one that can be written; both may be the same, if the ranges do not overlap.\n\n" +
			"What cannot be read leaves TARGET as it is there, and what cannot be written is passed over: the rest is copied\n" +
			"all the same. Each such place is listed on stderr, with its exact first address and the cause; then the exit code\n" +
			"is 5, and the number of bytes that were copied is that of those that were written.\n\n" +
			"A RANGE is ADDR+LEN, ADDR-END, or begins with the name of a symbol or region: [stack], NAME+OFF+LEN. ADDR is a\n" +
			"number, or begins with such a name in TARGET. Up to 16 MiB are read before they are written; a target that runs\n" +
			"may change what is copied in between, unless --pause stops it.",
		Examples: []string{
			"remora copy core:core.1234 0x601040+64 5678 0x601040   # what it was when it crashed, into one that runs",
			"remora copy 1234 '[heap]' 1234 0x7f0000000000          # within one process",
			"remora copy 1234 0x601040+64K 5678 '[heap]+0x10' --dry-run",
		},
		New: func(flags *pflag.FlagSet) Run {
			o := &copyOptions{open: openFlags(flags)}
			flags.BoolVar(&o.force, "force", false, "ignore page protections of both, as a debugger does")
			flags.BoolVar(&o.dryRun, "dry-run", false, "show how much could be copied, and write nothing")
			flags.BoolVar(&o.pause, "pause", false, "stop both targets meanwhile")
			return func(ctx context.Context, env *Env, args []string) (Result, error) {
				return runCopy(ctx, env, args, o)
			}
		},
	}
}

// copyOptions are the flags of copy.
type copyOptions struct {
	open   *target.Options
	force  bool
	dryRun bool
	pause  bool
}

func runCopy(ctx context.Context, env *Env, args []string, o *copyOptions) (_ Result, err error) {
	c := &copying{ctx: ctx, env: env, opts: o}
	defer c.close()
	if err := c.openBoth(args[0], args[2]); err != nil {
		return nil, err
	}
	if err := c.locate(args[1], args[3]); err != nil {
		return nil, err
	}
	if o.pause {
		for _, t := range c.live() {
			resume, stopped := pause(ctx, t)
			if stopped != nil {
				return nil, stopped
			}
			defer func() { err = errors.Join(err, resume()) }()
		}
	}
	res := &copied{Source: args[0], Address: c.from.Start.String(), Target: args[2], To: c.to.String(), Size: c.from.Size,
		DryRun: o.dryRun, Forced: o.force}
	return res, c.run(res)
}

// openBoth opens the targets. Where they are one, there is one handle, since a process
// can be stopped by one alone.
func (c *copying) openBoth(from, to string) (err error) {
	w := *c.opts.open
	w.Write = true
	if from == to {
		c.dst, err = c.env.Open(c.ctx, to, &w)
		c.src = c.dst
		return err
	}
	if c.src, err = c.env.Open(c.ctx, from, c.opts.open); err != nil {
		return err
	}
	if c.dst, err = c.env.Open(c.ctx, to, &w); err != nil {
		return err
	}
	if c.one() {
		err = c.src.Close()
		c.src = c.dst
	}
	return err
}

// live gives the targets that run.
func (c *copying) live() (all []remora.Target) {
	for _, t := range []remora.Target{c.src, c.dst} {
		if t.Memory().Info().Live && (len(all) == 0 || all[0] != t) {
			all = append(all, t)
		}
	}
	return all
}
