// SPDX-License-Identifier: Apache-2.0

package vmcore

import "io"

// File is an open file of an image. R must be safe for concurrent use, as io.ReaderAt
// asks for.
type File struct {
	Name string // for messages
	Size int64  // bytes
	R    io.ReaderAt
	W    io.WriterAt // nil: read only
}
