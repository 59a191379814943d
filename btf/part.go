// SPDX-License-Identifier: Apache-2.0

package btf

import (
	"bytes"
	"context"
)

// part is the types or the strings: bytes that are read where they are needed.
type part struct {
	read Read
	off  uint32
	size uint32
	data []byte // as large as all of it, when the first of it is needed
	have []uint64
}

// stride is how much is read at once.
const stride = 32 << 10

// need has data read from one offset up to another one, which must be within the part.
func (p *part) need(ctx context.Context, from, to uint32) error {
	if p.data == nil {
		p.data = make([]byte, p.size)
		p.have = make([]uint64, (p.size/stride+64)/64)
	}
	if from >= to {
		return nil
	}
	for i := from / stride; i <= (to-1)/stride; i++ {
		if p.have[i/64]>>(i%64)&1 != 0 {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		start := i * stride
		end := min(start+stride, p.size)
		if err := p.read(ctx, p.data[start:end], p.off+start); err != nil {
			return err
		}
		p.have[i/64] |= 1 << (i % 64)
	}
	return nil
}

// at gives n bytes from an offset on. ok is false where there are not so many.
func (p *part) at(ctx context.Context, off, n uint32) (b []byte, ok bool, err error) {
	if off > p.size || n > p.size-off {
		return nil, false, nil
	}
	if err := p.need(ctx, off, off+n); err != nil {
		return nil, true, err
	}
	return p.data[off : off+n : off+n], true, nil
}

// cstring gives the bytes from an offset on up to a zero, which must be there within
// maxName of them.
func (p *part) cstring(ctx context.Context, off uint32) (b []byte, ok bool, err error) {
	if off >= p.size {
		return nil, false, nil
	}
	end := off + min(p.size-off, maxName+1)
	for from := off; from < end; {
		to := min((from/stride+1)*stride, end)
		if err := p.need(ctx, from, to); err != nil {
			return nil, true, err
		}
		if i := bytes.IndexByte(p.data[from:to], 0); i >= 0 {
			return p.data[off : int(from)+i], true, nil
		}
		from = to
	}
	return nil, false, nil
}

// place is where a string is.
type place struct {
	off  uint32
	some bool
}

// find gives where a string is.
func (p *part) find(ctx context.Context, want []byte) (place, error) {
	for from, to := uint32(0), uint32(0); to < p.size; {
		to += min(stride, p.size-to)
		if err := p.need(ctx, from, to); err != nil {
			return place{}, err
		}
		for {
			i := bytes.Index(p.data[from:to], want)
			if i < 0 {
				break
			}
			at := from + uint32(i)
			if end := at + uint32(len(want)); end < p.size && (at == 0 || p.data[at-1] == 0) {
				if err := p.need(ctx, end, end+1); err != nil {
					return place{}, err
				}
				if p.data[end] == 0 {
					return place{at, true}, nil
				}
			}
			from = at + 1
		}
		// What begins before the end may go on behind it.
		if n := uint32(len(want)); to-from >= n {
			from = to - n + 1
		}
	}
	return place{}, nil
}
