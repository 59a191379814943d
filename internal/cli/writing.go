// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/remora-go/remora"
)

// writing is one run of write.
type writing struct {
	ctx    context.Context
	env    *Env
	spec   string
	target remora.Target
	mem    *remora.Memory
	opts   *writeOptions

	addr   remora.Addr
	data   []byte
	expect []byte // nil: whatever is there
	put    *undo  // what is put back; nil: nothing is
}

// locate finds out what is to be written, and where.
func (w *writing) locate(args []string) (err error) {
	if w.opts.restore != "" {
		if w.put, err = loadUndo(w.opts.restore); err != nil {
			return err
		}
		if w.put.target != w.spec {
			w.env.Note(fmt.Sprintf("the undo file was made of %s", w.put.target))
		}
		w.addr, w.data = w.put.addr, w.put.old
		return nil
	}
	l := locate(w.ctx, w.target)
	if w.addr, err = l.parseAddr(args[0]); err != nil {
		return err
	}
	e := &encoder{opts: w.opts, info: w.mem.Info(), addr: l.parseAddr}
	if w.data, err = e.data(args[1:], w.env.Stdin); err != nil {
		return err
	}
	if len(w.data) == 0 {
		return usagef("DATA is empty")
	}
	if w.opts.expects {
		if w.expect, err = e.expected(w.opts.expect); err != nil {
			return err
		}
		if len(w.expect) != len(w.data) {
			return usagef("--expect: %d bytes are to be replaced by %d", len(w.expect), len(w.data))
		}
	}
	return nil
}

// pause stops a target, and gives what lets it run on.
func pause(ctx context.Context, t remora.Target) (resume func() error, err error) {
	p, ok := remora.As[remora.Pauser](t)
	if !ok {
		return nil, fmt.Errorf("%s: this target cannot be paused: %w", t.Memory().Info().Name, errors.ErrUnsupported)
	}
	end, err := p.Pause(ctx)
	if err != nil {
		return nil, err
	}
	return func() error {
		if err := end(); !errors.Is(err, remora.ErrGone) { // it may have been killed while it stood
			return err
		}
		return nil
	}, nil
}

// refusal is an error because of which nothing was written.
type refusal struct{ err error }

func (e *refusal) Error() string { return e.err.Error() + "; nothing was written" }
func (e *refusal) Unwrap() error { return e.err }

// run looks, compares, saves, writes, and looks again, as far as each was asked for.
func (w *writing) run() (Result, error) {
	old, lookErr := look(w.ctx, w.mem, w.addr, len(w.data))
	if w.ctx.Err() != nil {
		return nil, &refusal{cmp.Or(lookErr, context.Cause(w.ctx))}
	}
	if err := w.mayWrite(old, lookErr); err != nil {
		return nil, &refusal{err}
	}
	res := &change{
		Target: w.spec, Address: w.addr.String(), Size: len(w.data), DryRun: w.opts.dryRun, Forced: w.opts.force,
		addr: w.addr, old: old, data: w.data, kind: w.opts.as.kind, info: w.mem.Info(), all: w.opts.verbose,
	}
	if w.opts.dryRun {
		res.count(len(w.data))
		return res, nil
	}
	if w.opts.undo != "" {
		u := &undo{w.spec, w.addr, old, w.data}
		if err := u.save(w.opts.undo); err != nil {
			return nil, &refusal{err}
		}
		res.Undo = w.opts.undo
	}
	n, err := w.mem.WriteAt(w.ctx, w.data, w.addr)
	res.count(n)
	if n == 0 && res.Undo != "" && err != nil && !errors.Is(err, remora.ErrInDoubt) {
		w.env.Note("the undo file is there, but nothing was written")
	}
	if n > 0 && w.ctx.Err() == nil {
		bad := readBack(w.ctx, w.mem, w.addr, w.data[:n])
		res.Verified = bad == nil
		err = errors.Join(err, bad)
	}
	return res, err
}

// look reads up to n bytes of what is there. Memory that is not readable is read as a
// debugger does, where the target can.
func look(ctx context.Context, mem *remora.Memory, a remora.Addr, n int) ([]byte, error) {
	buf := make([]byte, n)
	n, err := mem.ReadAt(ctx, buf, a)
	if errors.Is(err, remora.ErrProtected) && mem.Info().Ops&remora.Force != 0 {
		var more int
		more, err = mem.With(remora.Force).ReadAt(ctx, buf[n:], a+remora.Addr(n))
		n += more
	}
	return buf[:n], err
}

// mayWrite gives the reason not to write.
func (w *writing) mayWrite(old []byte, lookErr error) error {
	_, mapped := remora.As[remora.Mapper](w.target)
	if w.opts.check || w.opts.dryRun && mapped {
		if err := w.checkSpan(); err != nil {
			return err
		}
	}
	needsOld := w.opts.check || w.opts.undo != "" || w.expect != nil || w.put != nil
	if lookErr != nil && (needsOld || !errors.Is(lookErr, remora.ErrFault)) {
		return lookErr
	}
	if w.expect != nil && !bytes.Equal(old, w.expect) {
		return w.differs(old)
	}
	if w.put != nil && !w.opts.anyway {
		for i, b := range old {
			if b != w.put.new[i] && b != w.put.old[i] {
				return fmt.Errorf("%v: want %02x as it was written, or %02x as it was before, found %02x; --anyway puts the old bytes back all the same",
					w.addr+remora.Addr(i), w.put.new[i], w.put.old[i], b)
			}
		}
	}
	return nil
}

// mostShown is how many bytes a message shows.
const mostShown = 16

// differs says what was expected and what is there, from the first difference on; of
// values all of it.
func (w *writing) differs(old []byte) error {
	at := 0
	for old[at] == w.expect[at] {
		at++
	}
	if k := w.opts.as.kind; k != nil && k.width >= 0 {
		width := int(k.bytes(w.mem.Info()))
		at -= at % width
		big := w.mem.Info().BigEndian
		return fmt.Errorf("%v: expected %s, found %s", w.addr+remora.Addr(at),
			k.show(word(w.expect[at:at+width], big)), k.show(word(old[at:at+width], big)))
	}
	end := min(len(old), at+mostShown)
	return fmt.Errorf("%v: expected % x, found % x", w.addr+remora.Addr(at), w.expect[at:end], old[at:end])
}

// checkSpan looks in the map whether all of the span can be written.
func (w *writing) checkSpan() error {
	m, ok := remora.As[remora.Mapper](w.target)
	if !ok {
		return fmt.Errorf("%s: --check needs a list of mappings: %w", w.mem.Info().Name, errors.ErrUnsupported)
	}
	at, last := w.addr, w.addr+remora.Addr(len(w.data)-1)
	if last < at {
		return &remora.Fault{Space: w.mem.Info().Name, Op: remora.Write, Past: true, Err: remora.ErrUnmapped}
	}
	for reg, err := range m.Regions(w.ctx) {
		switch {
		case err != nil:
			return err
		case reg.Last() < at:
			continue
		case reg.Start > at:
			return w.fault(at, remora.ErrUnmapped)
		case !w.writable(reg):
			return w.fault(at, remora.ErrProtected)
		case reg.Last() >= last:
			return nil
		}
		at = reg.Last() + 1
	}
	return w.fault(at, remora.ErrUnmapped)
}

// writable says whether a region may be written: with Force all but a shared one that
// is read-only.
func (w *writing) writable(reg remora.Region) bool {
	return reg.Perm&remora.PermWrite != 0 || w.opts.force && !reg.Shared
}

func (w *writing) fault(a remora.Addr, c remora.Cause) error {
	return remora.SegFault(w.ctx, w.mem, remora.Write|w.mem.Bits(), &remora.Seg{Addr: a, Err: c})
}

// readBack looks whether data, which was written at a, is there.
func readBack(ctx context.Context, mem *remora.Memory, a remora.Addr, data []byte) error {
	back, err := look(ctx, mem, a, len(data))
	if err != nil {
		return fmt.Errorf("written, but it cannot be read back: %w", err)
	}
	for i, b := range back {
		if b != data[i] {
			return fmt.Errorf("%v: wrote %02x, but %02x is there now: the target has changed it since", a+remora.Addr(i), data[i], b)
		}
	}
	return nil
}
