// SPDX-License-Identifier: Apache-2.0

package scan

import (
	"context"
	"errors"
	"iter"

	"github.com/remora-go/remora"
)

// Copied is a part of a range that was to be copied, and what became of it.
type Copied struct {
	Off  uint64 // from the start of the range
	Size uint64
	Data []byte // what was written, valid until the next one; nil where nothing was
	From error  // the cause, where it could not be read
	To   error  // the cause, where it could be read but not written
	Past bool   // with From: it lies behind the last address
}

// Copy reads r of src and writes it at a of dst, and gives the parts in order. What
// cannot be read is not written: there dst stays as it is. A part that cannot be written
// is passed over as one that cannot be read is. Up to 16 MiB are read before they are
// written; larger ranges that overlap in one memory come out wrong. An error is the last
// thing that is given. The destination must end at or below the last address.
func Copy(ctx context.Context, src *remora.Memory, r remora.Range, dst *remora.Memory, a remora.Addr) iter.Seq2[Copied, error] {
	w := &writer{reader: reader{ctx: ctx, mem: dst}, to: a}
	return w.copies(src, r, w.write)
}

// WouldCopy reads as Copy does, and looks in the map of dst where it could be written:
// all of it where there is no map. Page protections do not count where dst adds remora.Force.
func WouldCopy(ctx context.Context, src *remora.Memory, r remora.Range, dst *remora.Memory, a remora.Addr) iter.Seq2[Copied, error] {
	w := &writer{reader: reader{ctx: ctx, mem: dst}, to: a}
	return w.copies(src, r, w.look)
}

// writer writes what was read. It knows the map of its memory as a reader does.
type writer struct {
	reader
	to remora.Addr
}

// copies reads r of src, and puts what there is.
func (w *writer) copies(src *remora.Memory, r remora.Range, put func([]byte, uint64, func(Copied, error) bool) bool) iter.Seq2[Copied, error] {
	return func(yield func(Copied, error) bool) {
		off := uint64(0)
		for p, err := range Read(w.ctx, src, []remora.Range{r}) {
			switch {
			case err != nil:
				yield(Copied{}, err)
				return
			case p.Err != nil:
				if !yield(Copied{Off: off, Size: p.Size, From: p.Err, Past: p.Past}, nil) {
					return
				}
			case !put(p.Data, off, yield):
				return
			}
			off += p.Size
		}
	}
}

// write writes data off bytes behind the start, with holes. It says whether to go on.
func (w *writer) write(data []byte, off uint64, yield func(Copied, error) bool) bool {
	for len(data) > 0 {
		at := w.to + remora.Addr(off)
		seg := [1]remora.Seg{{Addr: at, Buf: data}}
		_, _ = w.mem.WriteV(w.ctx, seg[:])
		n, cause := seg[0].N, seg[0].Err
		if n > 0 && !yield(Copied{Off: off, Size: uint64(n), Data: data[:n]}, nil) {
			return false
		}
		if cause == nil {
			return true
		}
		at += remora.Addr(n)
		if !errors.Is(cause, remora.ErrFault) {
			yield(Copied{}, remora.SegFault(w.ctx, w.mem, remora.Write|w.mem.Bits(), &remora.Seg{Addr: at, Err: cause}))
			return false
		}
		w.regs = nil // as the map is now
		hole := min(uint64(len(data)-n), uint64(w.holeEnd(at, cause)-at)+1)
		if !yield(Copied{Off: off + uint64(n), Size: hole, To: cause}, nil) {
			return false
		}
		data, off = data[uint64(n)+hole:], off+uint64(n)+hole
	}
	return true
}

// look gives what write would do with data, as far as the map tells.
func (w *writer) look(data []byte, off uint64, yield func(Copied, error) bool) bool {
	w.regs = nil
	force := w.mem.Bits()&remora.Force != 0
	for len(data) > 0 {
		at := w.to + remora.Addr(off)
		reg, ok := w.regionFrom(at)
		n, cause := uint64(len(data)), remora.Cause(0)
		switch {
		case !ok:
		case reg.Size == 0:
			cause = remora.ErrUnmapped
		case reg.Start > at:
			n, cause = min(n, uint64(reg.Start-at)), remora.ErrUnmapped
		default:
			n = min(n, uint64(reg.Last()-at)+1)
			if reg.Perm&remora.PermWrite == 0 && (!force || reg.Shared) {
				cause = remora.ErrProtected
			}
		}
		part := Copied{Off: off, Size: n, Data: data[:n]}
		if cause != 0 {
			part.Data, part.To = nil, cause
		}
		if !yield(part, nil) {
			return false
		}
		data, off = data[n:], off+n
	}
	return true
}
