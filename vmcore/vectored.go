// SPDX-License-Identifier: Apache-2.0

package vmcore

import (
	"context"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/xfer"
)

// vectoredFormat is a format that can read segments which follow one another in memory at
// once.
type vectoredFormat interface {
	// vector reads a prefix of segs, of which there are at least two, xfer.ChunkSegs at
	// most, and fills in what became of these. It gives how many they are, each complete.
	vector(ctx context.Context, segs []remora.Seg) int
}

// vectored is Transfer for such a format.
func (m *Image) vectored(ctx context.Context, op remora.Op, segs []remora.Seg, f vectoredFormat) (int64, error) {
	for i := 0; i < len(segs); {
		n := adjacent(segs[i:])
		if n > 1 && ctx.Err() == nil {
			done := f.vector(ctx, segs[i:i+n])
			i, n = i+done, n-done
		} else if n < 2 {
			for n = 1; i+n < len(segs) && adjacent(segs[i+n:]) < 2; n++ {
			}
		}
		_, err := xfer.Each(ctx, op, segs[i:i+n], (*mover)(m))
		i += n
		if err == nil {
			continue
		}
		if cut := xfer.Cut(ctx, err); cut != nil {
			xfer.Abandon(segs, i, cut)
			break
		}
		if op&remora.StopAtFault != 0 {
			xfer.Abandon(segs, i, remora.ErrStopped)
			break
		}
	}
	return xfer.Finish(ctx, segs)
}

// adjacent gives how many segments from the first on follow one another, as many as one
// call takes.
func adjacent(segs []remora.Seg) int {
	size := 0
	for n := range segs {
		s := &segs[n]
		if n == xfer.ChunkSegs || len(s.Buf) == 0 || s.Addr != segs[0].Addr+remora.Addr(size) || s.Addr < segs[0].Addr ||
			size+len(s.Buf) > xfer.ChunkBytes {
			return n
		}
		size += len(s.Buf)
	}
	return len(segs)
}
