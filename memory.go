// SPDX-License-Identifier: Apache-2.0

package remora

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"sync"
)

// Memory is what a user holds: a Space with the conveniences. It is itself a
// Space, and safe for concurrent use.
type Memory struct {
	space Space
	bits  Op
	pool  *sync.Pool // of *scratch
}

var _ Space = (*Memory)(nil)

// scratch is what a scalar call needs on the heap, since segments escape
// through the Space interface.
type scratch struct {
	segs [1]Seg
	word [8]byte
}

// New gives the Memory of a Space. It does no I/O.
func New(s Space) *Memory {
	if m, ok := s.(*Memory); ok {
		return m
	}
	return &Memory{space: s, pool: &sync.Pool{New: func() any { return new(scratch) }}}
}

// With gives the same memory with bits (Force, Resident, StopAtFault) added to
// every operation.
func (m *Memory) With(bits Op) *Memory {
	return &Memory{space: m.space, bits: m.bits | bits&^Write, pool: m.pool}
}

// Bits gives what With has added to every operation. Who goes past the Memory, to an ability of its Space,
// adds them too.
func (m *Memory) Bits() Op { return m.bits }

// Transfer is the Space's, with the bits of With added.
func (m *Memory) Transfer(ctx context.Context, op Op, segs []Seg) (int64, error) {
	return m.space.Transfer(ctx, op|m.bits, segs)
}

// Info gives the facts of the Space.
func (m *Memory) Info() Info { return m.space.Info() }

// Unwrap gives the Space, so that As sees its abilities.
func (m *Memory) Unwrap() any { return m.space }

// ReadV reads every segment. The bytes moved and the cause are in each segment;
// the error is the first cause. FirstFault tells where it was.
func (m *Memory) ReadV(ctx context.Context, segs []Seg) (int64, error) {
	return m.Transfer(ctx, Read, segs)
}

// WriteV writes every segment in order, and reports as ReadV does.
func (m *Memory) WriteV(ctx context.Context, segs []Seg) (int64, error) {
	return m.Transfer(ctx, Write, segs)
}

// ReadAt reads len(p) bytes at a. It returns the length of the prefix that was
// read, and a *Fault if that is not all of p.
func (m *Memory) ReadAt(ctx context.Context, p []byte, a Addr) (int, error) {
	return m.scalar(ctx, Read, p, a)
}

// WriteAt writes p at a. It returns the length of the prefix that was written,
// and a *Fault if that is not all of p.
func (m *Memory) WriteAt(ctx context.Context, p []byte, a Addr) (int, error) {
	return m.scalar(ctx, Write, p, a)
}

func (m *Memory) scalar(ctx context.Context, op Op, p []byte, a Addr) (int, error) {
	s := m.pool.Get().(*scratch)
	n, err := m.one(ctx, op, s, p, a)
	m.pool.Put(s)
	return n, err
}

// one moves p through the segment in s, and leaves nothing of the caller's there.
func (m *Memory) one(ctx context.Context, op Op, s *scratch, p []byte, a Addr) (int, error) {
	seg := &s.segs[0]
	*seg = Seg{Addr: a, Buf: p}
	_, err := m.space.Transfer(ctx, op|m.bits, s.segs[:])
	n := seg.N
	if seg.Err != nil {
		err = SegFault(ctx, m.space, op|m.bits, seg)
	}
	*seg = Seg{}
	return n, err
}

// word reads size bytes as an unsigned integer in the target's byte order.
func (m *Memory) word(ctx context.Context, a Addr, size int) (uint64, error) {
	s := m.pool.Get().(*scratch)
	defer m.pool.Put(s)
	b := s.word[:size]
	if _, err := m.one(ctx, Read, s, b, a); err != nil {
		return 0, err
	}
	if m.space.Info().BigEndian {
		clear(s.word[size:])
		return binary.BigEndian.Uint64(s.word[:]) >> (64 - 8*size), nil
	}
	clear(s.word[size:])
	return binary.LittleEndian.Uint64(s.word[:]), nil
}

// Uint8 reads one byte.
func (m *Memory) Uint8(ctx context.Context, a Addr) (uint8, error) {
	v, err := m.word(ctx, a, 1)
	return uint8(v), err
}

// Uint16 reads two bytes in the target's byte order.
func (m *Memory) Uint16(ctx context.Context, a Addr) (uint16, error) {
	v, err := m.word(ctx, a, 2)
	return uint16(v), err
}

// Uint32 reads four bytes in the target's byte order.
func (m *Memory) Uint32(ctx context.Context, a Addr) (uint32, error) {
	v, err := m.word(ctx, a, 4)
	return uint32(v), err
}

// Uint64 reads eight bytes in the target's byte order.
func (m *Memory) Uint64(ctx context.Context, a Addr) (uint64, error) {
	return m.word(ctx, a, 8)
}

// Addr reads a pointer of the target's own size.
func (m *Memory) Addr(ctx context.Context, a Addr) (Addr, error) {
	size := int(m.space.Info().PtrSize)
	if size != 4 && size != 8 {
		return 0, fmt.Errorf("%s: the size of a pointer is not known", m.space.Info().Name)
	}
	v, err := m.word(ctx, a, size)
	return Addr(v), err
}

// firstChunk is how much of a string is read at first; most are shorter.
const firstChunk = 256

// CString reads bytes up to a NUL, which is not part of the result, and at most
// limit bytes. A string that lies against unreadable memory is read whole. When there
// is no NUL the result holds what was read, and the error is the *Fault that
// ended it or Is bufio.ErrTooLong.
func (m *Memory) CString(ctx context.Context, a Addr, limit int) (string, error) {
	var out []byte
	chunk := firstChunk
	for len(out) < limit {
		have := len(out)
		if a+Addr(have) < a {
			return string(out), &Fault{Space: m.Info().Name, Op: m.bits, Past: true, Err: ErrUnmapped}
		}
		out = append(out, make([]byte, min(chunk, limit-have))...)
		n, err := m.ReadAt(ctx, out[have:], a+Addr(have))
		if end := bytes.IndexByte(out[have:have+n], 0); end >= 0 {
			return string(out[:have+end]), nil
		}
		out = out[:have+n]
		if err != nil {
			return string(out), err
		}
		chunk *= 2
	}
	return string(out), fmt.Errorf("string at %v: no end within %d bytes: %w", a, limit, bufio.ErrTooLong)
}
