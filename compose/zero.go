// SPDX-License-Identifier: Apache-2.0

package compose

import (
	"context"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/xfer"
)

// Zero gives a read-only Space that holds zeros at every address of r and nothing
// elsewhere. A Translator names it in Extent.In where a page is known to be zero
// though no copy of it exists.
func Zero(r remora.Range) remora.Space { return &zero{r} }

type zero struct{ remora.Range }

var (
	_ remora.Space = (*zero)(nil)
	_ xfer.Mover   = (*zero)(nil)
)

// zeroGranule bounds Info.Granule of a Space of zeros, in bytes.
const zeroGranule = 4096

const zeroOps = remora.StopAtFault | remora.Force | remora.Resident

func (z *zero) Info() remora.Info {
	borders := uint64(z.Start) | z.Size | zeroGranule
	return remora.Info{
		Name:    "zeros",
		Ops:     zeroOps,
		Granule: uint32(borders & -borders),
		Atomic:  8,
		Last:    z.Last(),
	}
}

func (z *zero) Transfer(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
	if err := xfer.Refusal(op, zeroOps, false, true); err != nil {
		return xfer.Refuse(segs, err)
	}
	return xfer.Each(ctx, op, segs, z)
}

// Move clears what lies in the range.
func (z *zero) Move(_ context.Context, _ remora.Op, a remora.Addr, buf []byte) (int, error) {
	if !z.Contains(a) {
		return 0, remora.ErrUnmapped
	}
	n := min(uint64(len(buf)), z.Size-uint64(a-z.Start))
	clear(buf[:n])
	return int(n), nil
}
