// SPDX-License-Identifier: Apache-2.0

package vmcore

import "io"

// source is a file, or what stands for one: the payload of a flattened stream.
type source struct {
	name string // for messages
	size int64  // bytes
	r    io.ReaderAt
	w    io.WriterAt // nil unless it is to be written
	flat bool
	// place gives the offset in the file called name where the byte at off lies, for
	// messages; nil: off itself.
	place func(off int64) int64
	// lost says why bytes past size are missing, nil when the file just ends there.
	lost error
}

// at gives the offset to name in a message about the byte at off.
func (s *source) at(off int64) int64 {
	if s.place == nil {
		return off
	}
	return s.place(off)
}
