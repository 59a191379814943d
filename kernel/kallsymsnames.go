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

// table decodes all, once.
func (s *kallsyms) table(ctx context.Context) (*sym.Table, error) {
	return s.all.do(ctx, s.decode)
}

// decode goes over all names. If numbers of tokens of two bytes do not fit they are of
// one, as before 6.1.
func (s *kallsyms) decode(ctx context.Context) (*sym.Table, error) {
	offsets := make([]byte, s.count*uint64(s.encoding.size()))
	if _, err := s.mem.ReadAt(ctx, offsets, s.offsets); err != nil {
		return nil, err
	}
	t, err := s.decodeAs(ctx, offsets, false)
	if err != nil && ctx.Err() == nil {
		if t, err := s.decodeAs(ctx, offsets, true); err == nil {
			return t, nil
		}
	}
	return t, err
}

func (s *kallsyms) decodeAs(ctx context.Context, offsets []byte, plain bool) (*sym.Table, error) {
	var (
		table sym.Builder
		text  = make([]byte, 0, maxSymbolName+maxToken)
		names = &namesReader{s: s, plain: plain, size: namesChunk}
		size  = s.encoding.size()
		total = 0
	)
	table.Grow(int(s.count), int(min(s.count, 1<<19))*20)
	for i := range s.count {
		if i%perMarker == 0 && s.marks != nil && names.at != s.marks[i/perMarker] {
			return nil, s.bad("kallsyms_names", int64(names.at), fmt.Sprintf("symbol %d at %d, as a marker has it", i, s.marks[i/perMarker]), "not there")
		}
		tokens, err := names.next(ctx)
		if err != nil {
			return nil, err
		}
		if text = s.expand(text[:0], tokens); text == nil {
			return nil, s.badName(names.at, i)
		}
		if total += len(text); total > maxSymbolText {
			return nil, s.bad("kallsyms_names", int64(names.at), fmt.Sprintf("at most %d bytes of names", maxSymbolText), "more")
		}
		addr := s.address(i, offsets[int(i)*size:], s.encoding)
		if err := table.AddName(addr, text[0], text[1:]); err != nil {
			return nil, err
		}
	}
	return table.Table(), nil
}

// badName says that the tokens before an offset in the names are no name.
func (s *kallsyms) badName(off, i uint64) error {
	return s.bad("kallsyms_names", int64(off), "a letter and a name", fmt.Sprintf("of symbol %d none, or more than %d bytes", i, maxSymbolName))
}
