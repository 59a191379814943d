// SPDX-License-Identifier: Apache-2.0

package vmcore

import (
	"context"
	"errors"
	"io"
	"iter"
	"path/filepath"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/xfer"
)

// Image is an open kernel image: a remora.Target, and the Space of physical memory.
type Image struct {
	gate xfer.Gate
	f    format
	mem  *remora.Memory
	info remora.Info
	zero bool // Options.ZeroExcluded
	meta Meta
	own  []io.Closer // the files, if Open opened them
}

var (
	_ remora.Target    = (*Image)(nil)
	_ remora.Space     = (*Image)(nil)
	_ remora.Explainer = (*Image)(nil)
	_ remora.Mapper    = (*Image)(nil)
	_ remora.Describer = (*Image)(nil)
	_ xfer.Mover       = (*mover)(nil)
	_ xfer.Prefetcher  = (*mover)(nil)
)

// newImage gives the Image of f.
func newImage(f format, name string, o *Options) *Image {
	m := &Image{f: f, zero: o.ZeroExcluded, meta: Meta{Version: -1, Level: -1}}
	f.describe(&m.meta)
	m.info = remora.Info{
		Name:      filepath.Base(name) + "@phys",
		Ops:       remora.StopAtFault | remora.Force | remora.Resident,
		PtrSize:   uint8(m.meta.WordSize),
		BigEndian: m.meta.BigEndian,
		Granule:   f.granule(),
		Last:      remora.MaxAddr,
		Writable:  f.writable(),
	}
	m.mem = remora.New(m)
	return m
}

// Memory is physical memory. The Image itself is its Space.
func (m *Image) Memory() *remora.Memory { return m.mem }

// Info gives the facts of the Space. It is live where OpenKcore gave it.
func (m *Image) Info() remora.Info { return m.info }

// Meta gives what the image says of itself. What it points to must not be changed.
func (m *Image) Meta() Meta { return m.meta }

// Transfer moves physical memory, and keeps the contract of remora.Space. Force and
// Resident change nothing: an image has neither protection nor paging.
func (m *Image) Transfer(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
	if err := m.gate.Admit(op, m.info.Ops, m.info.Writable); err != nil {
		return xfer.Refuse(segs, err)
	}
	defer m.gate.Leave()
	if f, ok := m.f.(vectoredFormat); ok && op&remora.Write == 0 && len(segs) > 1 {
		return m.vectored(ctx, op, segs, f)
	}
	return xfer.Each(ctx, op, segs, (*mover)(m))
}

// mover is an Image as the transfer engine sees it.
type mover Image

// Move moves a prefix of buf.
func (m *mover) Move(ctx context.Context, op remora.Op, a remora.Addr, buf []byte) (int, error) {
	n, err := m.f.Move(ctx, op, a, buf)
	if m.zero && op&remora.Write == 0 && errors.Is(err, remora.ErrNotSaved) {
		r := m.f.run(a + remora.Addr(n))
		more := min(uint64(len(buf)-n), uint64(r.Last()-a)-uint64(n)+1)
		clear(buf[n : n+int(more)])
		return n + int(more), nil
	}
	return n, err
}

// Prefetch fetches the beginnings of ranges of a format that is mapped.
func (m *mover) Prefetch(segs []remora.Seg) {
	if f, ok := m.f.(xfer.Prefetcher); ok {
		f.Prefetch(segs)
	}
}

// Explain says where in the file the byte at a is, or would be.
func (m *Image) Explain(_ context.Context, _ remora.Op, a remora.Addr, cause error) error {
	if !errors.Is(cause, remora.ErrFault) || !m.gate.Enter() {
		return cause
	}
	defer m.gate.Leave()
	return m.f.explain(a, cause)
}

// Runs gives all of physical memory in address order, each run as long as can be: what
// is saved, what was left out, what is lost. Holes are not among them.
func (m *Image) Runs(ctx context.Context) iter.Seq2[Run, error] {
	return func(yield func(Run, error) bool) {
		if !m.gate.Enter() {
			yield(Run{}, errClosed)
			return
		}
		defer m.gate.Leave()
		m.runs(ctx, yield)
	}
}

// Check looks at all that the image holds, on all processors, and reports all that is
// damaged, in no order but one call at a time.
func (m *Image) Check(ctx context.Context, report func(*remora.FormatError)) error {
	if !m.gate.Enter() {
		return errClosed
	}
	defer m.gate.Leave()
	return m.f.check(ctx, report)
}

// Close waits for running calls and closes the files. It may be called more than once.
func (m *Image) Close() error {
	if !m.gate.Close() {
		return nil
	}
	err := m.f.close()
	if bad := closeAll(m.own); err == nil {
		err = bad
	}
	return err
}
