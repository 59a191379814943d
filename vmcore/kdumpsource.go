// SPDX-License-Identifier: Apache-2.0

package vmcore

import (
	"errors"
	"io"

	"github.com/remora-go/remora"
)

// cut is the error of something at off that lies past the end of src.
func (s *source) cut(off int64, want string) *remora.FormatError {
	return s.bad(off, remora.ErrTruncated, want, s.end())
}

// readSome fills b from off as far as src goes. The error is one of reading.
func (s *source) readSome(b []byte, off int64) (int, error) {
	if off < 0 || off >= s.size {
		return 0, nil
	}
	if int64(len(b)) > s.size-off {
		b = b[:s.size-off]
	}
	n, err := s.r.ReadAt(b, off)
	if n == len(b) || errors.Is(err, io.EOF) || err == nil {
		return n, nil
	}
	return n, s.bad(off+int64(n), err, "bytes that can be read", err.Error())
}

// load fills b from off, and gives the cause where it cannot: a constant.
func (s *source) load(b []byte, off int64) error {
	if off < 0 || off > s.size || int64(len(b)) > s.size-off {
		return remora.ErrTruncated
	}
	for len(b) > 0 {
		n, err := s.read(b, off)
		if err != nil {
			return err
		}
		b, off = b[n:], off+int64(n)
	}
	return nil
}
