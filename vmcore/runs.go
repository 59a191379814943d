// SPDX-License-Identifier: Apache-2.0

package vmcore

import (
	"context"
	"errors"
	"io/fs"

	"github.com/remora-go/remora"
)

var errClosed = fs.ErrClosed

// runs joins what the format gives piece by piece.
func (m *Image) runs(ctx context.Context, yield func(Run, error) bool) {
	var last Run // Size 0: none
	flush := func() bool { return last.Size == 0 || yield(last, nil) }
	for a := remora.Addr(0); ; {
		if err := ctx.Err(); err != nil {
			yield(Run{}, err)
			return
		}
		r := m.f.run(a)
		if !errors.Is(r.Err, remora.ErrHole) {
			if last.Size > 0 && joins(&last, &r) {
				last.Size += r.Size
			} else {
				if !flush() {
					return
				}
				last = r
			}
		}
		if r.Last() == remora.MaxAddr {
			break
		}
		a = r.Last() + 1
	}
	flush()
}

// joins says whether r goes on where last ends, with the same answer.
func joins(last, r *Run) bool {
	if last.Last()+1 != r.Start || last.Err != r.Err || last.Zeros != r.Zeros || last.File != r.File {
		return false
	}
	if last.Offset < 0 || r.Offset < 0 {
		return last.Offset == r.Offset
	}
	return last.Offset+int64(last.Size) == r.Offset
}
