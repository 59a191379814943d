// SPDX-License-Identifier: Apache-2.0

package vmcore

import "io"

// sink is the file that is written.
type sink struct {
	w     io.WriterAt
	fresh bool  // what is not written reads as zeros
	end   int64 // of what was written, or passed over as zeros
	wrote int64 // of what was written
}

// put writes p at off.
func (s *sink) put(p []byte, off int64) error {
	if len(p) == 0 {
		return nil
	}
	s.end = max(s.end, off+int64(len(p)))
	s.wrote = max(s.wrote, off+int64(len(p)))
	_, err := s.w.WriteAt(p, off)
	return err
}

// sparse writes p at off but for the blocks of zeros, where they need not be written.
func (s *sink) sparse(p []byte, off int64) error {
	if !s.fresh || len(p) == 0 {
		return s.put(p, off)
	}
	s.end = max(s.end, off+int64(len(p)))
	begin := 0 // of what is to be written
	for i := 0; i < len(p); {
		n := min(len(p)-i, sparseBlock)
		if allZeros(p[i : i+n]) {
			if err := s.put(p[begin:i], off+int64(begin)); err != nil {
				return err
			}
			begin = i + n
		}
		i += n
	}
	return s.put(p[begin:], off+int64(begin))
}

// sparseBlock is how many zeros in a row are passed over.
const sparseBlock = 4096

// empty begins again. What cannot be emptied is written over.
func (s *sink) empty() error {
	s.end, s.wrote = 0, 0
	if t, ok := s.w.(interface{ Truncate(size int64) error }); ok && s.fresh {
		return t.Truncate(0)
	}
	s.fresh = false
	return nil
}

// close makes the file as long as it is to be, if its end is a hole.
func (s *sink) close() error {
	if s.wrote >= s.end {
		return nil
	}
	return s.put([]byte{0}, s.end-1)
}

// stream writes one byte after the other, many at once.
type stream struct {
	s   *sink
	off int64 // of buf[0]
	buf []byte
}

const streamBytes = 256 << 10

func (t *stream) write(p []byte) error {
	if len(t.buf)+len(p) > streamBytes {
		if err := t.flush(); err != nil {
			return err
		}
	}
	t.buf = append(t.buf, p...)
	return nil
}

// at is where the next byte goes.
func (t *stream) at() int64 { return t.off + int64(len(t.buf)) }

func (t *stream) flush() error {
	err := t.s.sparse(t.buf, t.off)
	t.off += int64(len(t.buf))
	t.buf = t.buf[:0]
	return err
}
