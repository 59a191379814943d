// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/scan"
)

// reading is the Result of read: it reads while it prints.
type reading struct {
	ctx    context.Context
	target remora.Target
	mem    *remora.Memory
	opts   *readOptions
	color  bool
	ranges []remora.Range
	resume func() error // ends the pause; nil if there is none
}

var (
	_ Result   = (*reading)(nil)
	_ Streamer = (*reading)(nil)
)

// firstLook is how much of a range without a length is read.
const firstLook = 256

// locate finds out what is to be read.
func (r *reading) locate(env *Env, args []string) error {
	def := size{firstLook, false}
	if r.opts.as.kind != nil {
		def.n = r.opts.as.kind.bytes(r.mem.Info())
	}
	if r.opts.size.set {
		def = size{r.opts.size.n, true}
	}
	l := locate(r.ctx, r.target)
	var err error
	if r.ranges, err = l.parseSpans(env, args, def); err != nil || r.opts.as.kind == nil {
		return err
	}
	return r.opts.as.kind.fits(r.mem.Info(), r.ranges)
}

// Output is the file that is written instead of standard output.
func (r *reading) Output() string { return *r.opts.output }

// Close lets the target run on, and lets go of it.
func (r *reading) Close() error {
	var err error
	if r.resume != nil {
		err = r.resume()
	}
	return errors.Join(err, r.target.Close())
}

// printer takes the pieces of the ranges, in order.
type printer interface {
	begin(i int, r remora.Range) error // before the first piece of a range
	bytes(a remora.Addr, data []byte) error
	hole(p *scan.Piece) error
	end() error // after the last piece of a range
}

// errEnough ends the printing early, without an error of its own.
var errEnough = errors.New("nothing more is to be printed")

// Text prints memory as it was asked for.
func (r *reading) Text(w io.Writer) error {
	tick := pulse{ctx: r.ctx}
	switch o := r.opts; {
	case o.raw:
		return r.run(&rawPrinter{tick: tick, w: w, fill: o.fill})
	case o.as.kind != nil:
		return r.run(r.values(func(v value) error { return v.print(w, o.plain) }))
	case o.plain:
		return r.run(&plainPrinter{tick: tick, w: w, cols: int(o.cols.or(32))})
	default:
		return r.run(&dumper{tick: tick, w: w, cols: int(o.cols.or(16)), group: int(o.group.or(1)), all: o.verbose, color: r.color})
	}
}

func (r *reading) values(emit func(value) error) printer {
	return &valuePrinter{kind: r.opts.as.kind, info: r.mem.Info(), emit: emit, tick: pulse{ctx: r.ctx}}
}

// pulse looks at a context now and then, for loops that print what is not there and
// have no other reason to end.
type pulse struct {
	ctx context.Context
	n   int
}

const lookEvery = 1 << 10

func (p *pulse) look() error {
	if p.n++; p.n%lookEvery == 0 && p.ctx.Err() != nil {
		return context.Cause(p.ctx)
	}
	return nil
}

// Lines gives memory in pieces of up to 1 MiB, or a value a line.
func (r *reading) Lines(emit func(any) error) error {
	if r.opts.as.kind != nil {
		return r.run(r.values(func(v value) error { return emit(v.object()) }))
	}
	return r.run(&linePrinter{emit: emit})
}

// run reads the ranges into a printer. The error holds a *remora.Fault for each hole.
func (r *reading) run(p printer) error {
	holes := faults{ctx: r.ctx, mem: r.mem}
	begun := -1
	to := func(i int) error { // begins the ranges up to i, and ends those before
		for begun < i {
			if begun >= 0 {
				if err := p.end(); err != nil {
					return err
				}
			}
			begun++
			if begun < len(r.ranges) {
				if err := p.begin(begun, r.ranges[begun]); err != nil {
					return err
				}
			}
		}
		return nil
	}
	for piece, err := range scan.Read(r.ctx, r.mem, r.ranges) {
		if err != nil {
			if begun >= 0 {
				err = errors.Join(err, p.end())
			}
			return errors.Join(holes.errors(), err)
		}
		if err := to(piece.Range); err != nil {
			return err
		}
		if piece.Err == nil {
			err = p.bytes(piece.Addr, piece.Data)
		} else {
			if seen, ok := p.(interface{ lacks(*scan.Piece) bool }); !ok || seen.lacks(&piece) {
				holes.add(&piece)
			}
			err = p.hole(&piece)
		}
		if err == errEnough {
			return holes.errors()
		}
		if err != nil {
			return errors.Join(holes.errors(), err)
		}
	}
	return errors.Join(to(len(r.ranges)), holes.errors())
}

// mostFaults is how many holes are told one by one.
const mostFaults = 20

// faults gathers holes; those that touch and have the same cause are one.
type faults struct {
	ctx  context.Context
	mem  *remora.Memory
	op   remora.Op
	list []scan.Piece
	more int
}

func (f *faults) add(p *scan.Piece) {
	if n := len(f.list); n > 0 && f.more == 0 {
		last := &f.list[n-1]
		if last.Range == p.Range && last.Err == p.Err && last.Past == p.Past && last.Addr+remora.Addr(last.Size) == p.Addr {
			last.Size += p.Size
			return
		}
	}
	if len(f.list) == mostFaults {
		f.more++
		return
	}
	f.list = append(f.list, *p)
}

// errors explains the holes, each with its first address.
func (f *faults) errors() error {
	var all []error
	for i := range f.list {
		all = append(all, f.list[i].Fault(f.ctx, f.mem, f.op))
	}
	if f.more > 0 {
		all = append(all, &moreFaults{f.more, f.op})
	}
	return errors.Join(all...)
}

// moreFaults stands for holes that are not told one by one.
type moreFaults struct {
	n  int
	op remora.Op
}

func (e *moreFaults) Error() string {
	if e.op&remora.Write != 0 {
		return fmt.Sprintf("%d more places could not be written", e.n)
	}
	return fmt.Sprintf("%d more places could not be read", e.n)
}

func (e *moreFaults) Is(target error) bool { return target == remora.ErrFault }

// linePrinter gives pieces as objects.
type linePrinter struct{ emit func(any) error }

// dumpPiece is one line of read --json: bytes, or a hole.
type dumpPiece struct {
	Address string `json:"address,omitempty"` // none past the last address
	Size    uint64 `json:"size"`
	Data    string `json:"data,omitempty"`
	Missing string `json:"missing,omitempty"` // the cause
}

func (p *linePrinter) begin(int, remora.Range) error { return nil }
func (p *linePrinter) end() error                    { return nil }

func (p *linePrinter) bytes(a remora.Addr, data []byte) error {
	return p.emit(dumpPiece{Address: a.String(), Size: uint64(len(data)), Data: hex.EncodeToString(data)})
}

func (p *linePrinter) hole(h *scan.Piece) error {
	piece := dumpPiece{Address: h.Addr.String(), Size: h.Size, Missing: h.Err.Error()}
	if h.Past {
		piece.Address = ""
	}
	return p.emit(piece)
}
