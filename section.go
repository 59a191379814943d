// SPDX-License-Identifier: Apache-2.0

package remora

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// Section is a window of a Memory with the methods of package io, whose offsets
// count from the start of the window: io's signed offsets cannot name a kernel
// address. It is bound to the context it was made with. The end of the window is
// io.EOF; a hole in it is a *Fault, never io.EOF and never zeros.
//
// ReadAt and WriteAt may be called concurrently; Read, Write and Seek share one
// position and may not.
type Section struct {
	ctx context.Context
	mem *Memory
	rng Range
	pos int64
}

var (
	_ io.ReaderAt   = (*Section)(nil)
	_ io.WriterAt   = (*Section)(nil)
	_ io.ReadSeeker = (*Section)(nil)
)

var (
	errWhence = errors.New("remora: Seek: bad whence")
	errOffset = errors.New("remora: negative position")
)

// Section gives the window r. The size that io can address is at most 2^63-1
// bytes; what lies beyond that cannot be reached.
func (m *Memory) Section(ctx context.Context, r Range) *Section {
	return &Section{ctx: ctx, mem: m, rng: r}
}

// Size is the length of the window in bytes, at most 2^63-1.
func (s *Section) Size() int64 { return int64(min(s.rng.Size, 1<<63-1)) }

// ReadAt reads from offset off of the window.
func (s *Section) ReadAt(p []byte, off int64) (int, error) {
	q, err := s.cut(p, off)
	if err != nil || len(q) == 0 {
		return 0, err
	}
	n, err := s.mem.ReadAt(s.ctx, q, s.rng.Start+Addr(off))
	if err == nil && len(q) < len(p) {
		err = io.EOF
	}
	return n, err
}

// WriteAt writes at offset off of the window. What would pass its end is not
// written, and gives io.ErrShortWrite.
func (s *Section) WriteAt(p []byte, off int64) (int, error) {
	q, err := s.cut(p, off)
	if err == io.EOF {
		return 0, io.ErrShortWrite
	}
	if err != nil || len(q) == 0 {
		return 0, err
	}
	n, err := s.mem.WriteAt(s.ctx, q, s.rng.Start+Addr(off))
	if err == nil && len(q) < len(p) {
		err = io.ErrShortWrite
	}
	return n, err
}

// cut gives the part of p that lies inside the window.
func (s *Section) cut(p []byte, off int64) ([]byte, error) {
	if off < 0 {
		return nil, errOffset
	}
	if len(p) == 0 {
		return nil, nil
	}
	left := s.Size() - off
	if left <= 0 {
		return nil, io.EOF
	}
	return p[:min(int64(len(p)), left)], nil
}

// Read reads from the current position.
func (s *Section) Read(p []byte) (int, error) {
	n, err := s.ReadAt(p, s.pos)
	s.pos += int64(n)
	if n > 0 && err == io.EOF {
		err = nil
	}
	return n, err
}

// Seek sets the position for the next Read.
func (s *Section) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekStart:
	case io.SeekCurrent:
		offset += s.pos
	case io.SeekEnd:
		offset += s.Size()
	default:
		return 0, fmt.Errorf("%w %d", errWhence, whence)
	}
	if offset < 0 {
		return 0, errOffset
	}
	s.pos = offset
	return offset, nil
}
