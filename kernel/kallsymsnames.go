// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"fmt"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/sym"
)

// namesChunk is how much of the names is read at once.
const namesChunk = 256 << 10

// namesReader walks over the names from one on.
type namesReader struct {
	s     *kallsyms
	plain bool   // numbers of tokens have one byte
	at    uint64 // of rest, in the names
	rest  []byte // read, and not yet taken
	buf   []byte // that rest is in
	stop  error  // of the read of what is behind rest
	size  int    // to be read next
}

// fromMarker gives a reader of the names from marker g on, that first reads what the
// markers say of its group.
func (s *kallsyms) fromMarker(g uint64) *namesReader {
	r := &namesReader{s: s, at: s.marks[g], size: 8 << 10}
	if g+1 < uint64(len(s.marks)) {
		r.size = int(s.marks[g+1] - s.marks[g])
	}
	return r
}

// next gives the tokens of the next name, until the next call.
func (r *namesReader) next(ctx context.Context) ([]byte, error) {
	for {
		name, rest := nextName(r.rest, r.plain)
		switch {
		case len(name) > 0:
			r.at += uint64(len(r.rest) - len(rest))
			r.rest = rest
			return name, nil
		case name != nil:
			return nil, r.s.bad("kallsyms_names", int64(r.at), "a name", "none")
		case r.stop != nil:
			return nil, r.stop
		}
		r.more(ctx)
	}
}

// more reads on. What is left of a name that did not fit moves to the front.
func (r *namesReader) more(ctx context.Context) {
	buf := r.buf
	if len(buf) < len(r.rest)+r.size {
		buf = make([]byte, len(r.rest)+r.size)
	}
	n := copy(buf, r.rest)
	got, err := r.s.mem.ReadAt(ctx, buf[n:], r.s.names+remora.Addr(r.at+uint64(n)))
	r.rest, r.buf, r.stop, r.size = buf[:n+got], buf, err, namesChunk
}

// table decodes all, once. Where memory of the tables cannot be read, and there are
// markers to go on from, the rest is there, and the error is why that is not all.
func (s *kallsyms) table(ctx context.Context) (*sym.Table, error) {
	return s.all.do(ctx, s.decode)
}

// decode goes over all names. If numbers of tokens of two bytes do not fit they are of
// one, as before 6.1.
func (s *kallsyms) decode(ctx context.Context) (*sym.Table, error) {
	addrs := &addressReader{s: s}
	addrs.read(ctx)
	t, err := s.decodeAs(ctx, addrs, false)
	if t == nil && ctx.Err() == nil {
		if t, err := s.decodeAs(ctx, addrs, true); t != nil {
			return t, err
		}
	}
	return t, err
}

// addressReader has the addresses of all symbols, but for those that cannot be read.
type addressReader struct {
	s    *kallsyms
	b    []byte
	lost map[uint64]bool // by the number of the marker
	why  error
}

// read reads all at once, and what cannot be read so by what a marker has.
func (r *addressReader) read(ctx context.Context) {
	size := uint64(r.s.encoding.size())
	r.b = make([]byte, r.s.count*size)
	n, err := r.s.mem.ReadAt(ctx, r.b, r.s.offsets)
	if err == nil {
		return
	}
	r.why, r.lost = err, map[uint64]bool{}
	step := perMarker * size
	for at := uint64(n) / step * step; at < uint64(len(r.b)) && ctx.Err() == nil; at += step {
		part := r.b[at:min(at+step, uint64(len(r.b)))]
		if _, err := r.s.mem.ReadAt(ctx, part, r.s.offsets+remora.Addr(at)); err != nil {
			r.lost[at/step] = true
		}
	}
}

// decoder makes a table of the names.
type decoder struct {
	s     *kallsyms
	names *namesReader
	addrs *addressReader
	table sym.Builder
	text  []byte
	total int // bytes of names
}

func (s *kallsyms) decodeAs(ctx context.Context, addrs *addressReader, plain bool) (*sym.Table, error) {
	d := &decoder{s: s, addrs: addrs, names: &namesReader{s: s, plain: plain, size: namesChunk}, text: make([]byte, 0, maxSymbolName+maxToken)}
	d.table.Grow(int(s.count), int(min(s.count, 1<<19))*20)
	problem := addrs.why
	for first := uint64(0); first < s.count; first += perMarker {
		g := first / perMarker
		if s.marks != nil && d.names.at != s.marks[g] {
			return nil, s.bad("kallsyms_names", int64(d.names.at), fmt.Sprintf("symbol %d at %d, as a marker has it", first, s.marks[g]), "not there")
		}
		err := d.group(ctx, first)
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case d.names.stop == nil || s.marks == nil: // it is not that memory is missing
			return nil, err
		default:
			if problem == nil {
				problem = err
			}
			if g+1 < uint64(len(s.marks)) {
				d.names = s.fromMarker(g + 1)
				d.names.plain = plain
			}
		}
	}
	t := d.table.Table()
	if t.Len() == 0 {
		return nil, problem
	}
	return t, problem
}

// group decodes the names of a marker.
func (d *decoder) group(ctx context.Context, first uint64) error {
	s, size := d.s, uint64(d.s.encoding.size())
	lost := d.addrs.lost[first/perMarker]
	for i := first; i < min(first+perMarker, s.count); i++ {
		tokens, err := d.names.next(ctx)
		if err != nil {
			return err
		}
		if d.text = s.expand(d.text[:0], tokens); d.text == nil {
			return s.badName(d.names.at, i)
		}
		if d.total += len(d.text); d.total > maxSymbolText {
			return s.bad("kallsyms_names", int64(d.names.at), fmt.Sprintf("at most %d bytes of names", maxSymbolText), "more")
		}
		if lost {
			continue
		}
		if err := d.table.AddName(s.address(i, d.addrs.b[i*size:], s.encoding), d.text[0], d.text[1:]); err != nil {
			return err
		}
	}
	return nil
}

// badName says that the tokens before an offset in the names are no name.
func (s *kallsyms) badName(off, i uint64) error {
	return s.bad("kallsyms_names", int64(off), "a letter and a name", fmt.Sprintf("of symbol %d none, or more than %d bytes", i, maxSymbolName))
}
