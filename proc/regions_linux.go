// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"context"
	"io"
	"io/fs"
	"iter"
	"os"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/xfer"
)

// Regions lists the mappings, read anew at each call.
func (p *Process) Regions(ctx context.Context) iter.Seq2[remora.Region, error] {
	return listed(ctx, p, "maps", ParseMaps)
}

// Usage lists the mappings with what each holds in memory (proc_pid_smaps(5)).
func (p *Process) Usage(ctx context.Context) iter.Seq2[Usage, error] {
	return listed(ctx, p, "smaps", ParseSmaps)
}

// listed streams one of the process's files through its parser.
func listed[T any](ctx context.Context, p *Process, name string, parse func(io.Reader) iter.Seq2[T, error]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var zero T
		if !p.gate.Enter() {
			yield(zero, fs.ErrClosed)
			return
		}
		defer p.gate.Leave()
		yield = handing(&p.gate, yield)
		f, err := os.Open(p.path(name))
		if err != nil {
			yield(zero, p.lostOr(err))
			return
		}
		defer f.Close()
		for item, err := range parse(f) {
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				yield(zero, err)
				return
			}
			if !yield(item, nil) {
				return
			}
		}
		if !p.identical() {
			yield(zero, remora.ErrGone)
		}
	}
}

// handing is yield, during which the call rests: it holds no address space then, and a read
// that is made there need not fear so (R50).
func handing[T any](g *xfer.Gate, yield func(T, error) bool) func(T, error) bool {
	return func(item T, err error) bool {
		g.Rest()
		defer g.Wake()
		return yield(item, err)
	}
}

// identical is same for work outside of a transfer.
func (p *Process) identical() bool {
	return p.opts.FollowExec || p.stays(p.as)
}

// lostOr gives ErrGone if the process is gone, else the refusal that err is.
func (p *Process) lostOr(err error) error {
	if p.exited() {
		return remora.ErrGone
	}
	return p.refused("read the map of", err)
}
