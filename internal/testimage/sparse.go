// SPDX-License-Identifier: Apache-2.0

package testimage

import (
	"io"
	"sync"
)

const chunk = 64 << 10 // bytes of one piece of a Sparse

// Sparse is a file in memory that holds only what was written to it: one of many
// TiB costs its few pages. What was not written reads as zeros. The zero Sparse is
// an empty file, for many goroutines.
type Sparse struct {
	mu     sync.RWMutex
	chunks map[int64]*[chunk]byte
	size   int64
}

// Size is the length of the file.
func (s *Sparse) Size() int64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.size
}

// Truncate makes the file size bytes long. What lay behind is forgotten.
func (s *Sparse) Truncate(size int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for n, c := range s.chunks {
		switch at := n * chunk; {
		case at >= size:
			delete(s.chunks, n)
		case size-at < chunk:
			clear(c[size-at:])
		}
	}
	s.size = size
}

// WriteAt writes b at off and makes the file longer if need be.
func (s *Sparse) WriteAt(b []byte, off int64) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.chunks == nil {
		s.chunks = make(map[int64]*[chunk]byte)
	}
	total := len(b)
	s.size = max(s.size, off+int64(total))
	for len(b) > 0 {
		c := s.chunks[off/chunk]
		if c == nil {
			c = new([chunk]byte)
			s.chunks[off/chunk] = c
		}
		n := copy(c[off%chunk:], b)
		b, off = b[n:], off+int64(n)
	}
	return total, nil
}

// ReadAt reads as io.ReaderAt says.
func (s *Sparse) ReadAt(b []byte, off int64) (int, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if off < 0 || off >= s.size {
		return 0, io.EOF
	}
	short := int64(len(b)) > s.size-off
	if short {
		b = b[:s.size-off]
	}
	total := len(b)
	for len(b) > 0 {
		n := int(min(int64(len(b)), chunk-off%chunk))
		if c := s.chunks[off/chunk]; c != nil {
			copy(b[:n], c[off%chunk:])
		} else {
			clear(b[:n])
		}
		b, off = b[n:], off+int64(n)
	}
	if short {
		return total, io.EOF
	}
	return total, nil
}

// Bytes gives the whole file, which must be a small one.
func (s *Sparse) Bytes() []byte {
	b := make([]byte, s.Size())
	_, _ = s.ReadAt(b, 0) // reads all there is
	return b
}

// sink writes a file and keeps its first error and its length so far.
type sink struct {
	w   io.WriterAt
	end int64 // behind the last byte that belongs to the file
	put int64 // behind the last byte written
	err error
}

func (s *sink) write(b []byte, off int64) {
	if len(b) == 0 || s.err != nil {
		return
	}
	_, s.err = s.w.WriteAt(b, off)
	s.put = max(s.put, off+int64(len(b)))
	s.end = max(s.end, s.put)
}

// grow says that the file is at least end bytes long.
func (s *sink) grow(end int64) { s.end = max(s.end, end) }

// close writes the last byte, if the file ends with bytes that were not written.
func (s *sink) close() error {
	if s.put < s.end {
		s.write([]byte{0}, s.end-1)
	}
	return s.err
}

// inMemory gives the file that write writes.
func inMemory(write func(io.WriterAt) error) []byte {
	var s Sparse
	if err := write(&s); err != nil {
		panic("testimage: " + err.Error()) // a Sparse gives no error: a mistake of this package
	}
	return s.Bytes()
}
