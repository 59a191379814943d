// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"sync"

	"github.com/remora-go/remora"
)

// peek reads small pieces of a Space, and allocates nothing. The first error stays, and
// what is read after it is zero. It is the cause as the Space gave it, and why says what
// was read where.
type peek struct {
	ctx   context.Context
	space remora.Space
	err   error
	seg   [1]remora.Seg
	buf   [1024]byte
}

var peeks = sync.Pool{New: func() any { return new(peek) }}

// peekInto gives a peek from the pool; done must follow.
func peekInto(ctx context.Context, space remora.Space) *peek {
	p := peeks.Get().(*peek)
	p.ctx, p.space, p.err = ctx, space, nil
	return p
}

func (p *peek) done() {
	p.ctx, p.space, p.err, p.seg[0] = nil, nil, nil, remora.Seg{}
	peeks.Put(p)
}

// bytes reads n bytes at a, at most those of buf. They are good until the next call.
func (p *peek) bytes(a remora.Addr, n int) []byte {
	b := p.buf[:min(max(n, 0), len(p.buf))]
	if p.err == nil {
		p.seg[0] = remora.Seg{Addr: a, Buf: b}
		if _, err := p.space.Transfer(p.ctx, remora.Read, p.seg[:]); p.seg[0].Err != nil {
			p.err = p.seg[0].Err
		} else if p.seg[0].N < len(b) {
			p.err = err
		}
	}
	if p.err != nil {
		clear(b)
	}
	return b
}

// why gives the first error, with the place that could not be read.
func (p *peek) why() error {
	if p.err == nil || p.seg[0].Err == nil || p.ctx.Err() != nil {
		return p.err
	}
	return remora.SegFault(p.ctx, p.space, remora.Read, &p.seg[0])
}

// both puts the errors of two steps into one line.
func both(a, b error) error {
	if a == nil || b == nil {
		return cmp.Or(a, b)
	}
	return fmt.Errorf("%w; %w", a, b)
}

// word reads 8 bytes.
func (p *peek) word(a remora.Addr) uint64 { return binary.LittleEndian.Uint64(p.bytes(a, 8)) }

// uint reads an integer member of the structure at a.
func (p *peek) uint(a remora.Addr, f field) uint64 {
	n := int(min(f.size, 8))
	return f.value(p.bytes(a+remora.Addr(f.off), n), binary.LittleEndian)
}

// in takes an integer member out of the bytes of a structure: zero where it is not in
// them.
func (f field) in(b []byte) uint64 {
	n := uint64(min(f.size, 8))
	if f.off > uint64(len(b)) || n > uint64(len(b))-f.off {
		return 0
	}
	return f.value(b[f.off:f.off+n], binary.LittleEndian)
}

// reach is how many bytes of a structure hold the first 8 bytes of each of the members, as
// far as a structure is believed to reach.
func reach(all ...field) int {
	n := 0
	for _, f := range all {
		if f.has() {
			n = max(n, int(min(f.off, frameLimit))+int(min(f.size, 8)))
		}
	}
	return n
}

// damaged is an error that Is remora.ErrCorrupt.
func damaged(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, remora.ErrCorrupt)...)
}

// processAnswers are what was found out once about the memory of processes.
type processAnswers struct {
	vma   once[*vmaFields]
	swap  once[*swapKnown]
	page  once[*pageFrames]
	proc  once[*processFields]
	frame once[*frameFields]
}
