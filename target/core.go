// SPDX-License-Identifier: Apache-2.0

package target

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"path"
	"strings"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/usercore"
)

// Core gives what there is to write a core file of a process: of one in a kernel image. The
// list has what is not known of it: registers of threads, a name. Another target is an
// error that Is errors.ErrUnsupported.
func Core(ctx context.Context, t remora.Target) (*usercore.Contents, []error, error) {
	p, ok := remora.As[*Process](t)
	if !ok {
		return nil, nil, fmt.Errorf("%s: a core is written of a process in a kernel image, IMAGE@PID: %w", t.Memory().Info().Name, errors.ErrUnsupported)
	}
	c := &usercore.Contents{Machine: p.Kernel.Machine(), Memory: p.Memory(), Regions: p.Regions(ctx), PageSize: uint64(p.Info().Granule), Runs: p.runs}
	lacks := p.describe(ctx, c)
	for th, err := range p.Threads(ctx) {
		if err != nil {
			lacks = append(lacks, fmt.Errorf("threads: %w", err))
			break
		}
		if th.Why != nil {
			lacks = append(lacks, fmt.Errorf("registers of thread %d: %w", th.PID, th.Why))
		}
		c.Threads = append(c.Threads, usercore.ThreadRegs{ID: int64(th.PID), Regs: th.Regs})
	}
	return c, lacks, ctx.Err()
}

// describe fills in what the process is.
func (p *Process) describe(ctx context.Context, c *usercore.Contents) (lacks []error) {
	task := p.Task
	c.Process = usercore.Process{PID: int64(task.TGID), PPID: int64(task.PPID), UID: task.Creds.UID, GID: task.Creds.GID, Command: task.Comm}
	if exe, err := p.Exe(ctx); err != nil {
		lacks = append(lacks, fmt.Errorf("the name of the program: %w", err))
	} else if exe != "" && c.Process.Command == "" {
		c.Process.Command = path.Base(exe)
	}
	args, err := p.Cmdline(ctx)
	if err != nil {
		lacks = append(lacks, fmt.Errorf("arguments: %w", err))
	}
	c.Process.Args = strings.TrimRight(strings.ReplaceAll(string(args), "\x00", " "), " ")
	if c.Auxv, err = p.Auxv(ctx); err != nil {
		lacks = append(lacks, fmt.Errorf("auxiliary vector: %w", err))
	}
	return lacks
}

// runs says what of a region is worth reading.
func (p *Process) runs(ctx context.Context, r remora.Region) iter.Seq2[usercore.Run, error] {
	return func(yield func(usercore.Run, error) bool) {
		for run, err := range p.Runs(ctx, r.Range) {
			if !yield(usercore.Run{Range: run.Range, Zero: run.Zero, Err: run.Err, None: run.None}, err) {
				return
			}
		}
	}
}
