// SPDX-License-Identifier: Apache-2.0

package vmcore

import (
	"context"
	"errors"
	"fmt"
	"math/bits"

	"github.com/remora-go/remora"
)

// explain says where the page of a is in the files, and what is wrong there.
func (k *kdump) explain(a remora.Addr, cause error) error {
	pfn := uint64(a) >> k.shift
	if pfn < k.base {
		return fmt.Errorf("%w: below the physical base 0x%x", cause, k.base<<k.shift)
	}
	pfn -= k.base
	if pfn >= k.head.maxPFN {
		return fmt.Errorf("%w: this dump is of memory below 0x%x", cause, (k.base+k.head.maxPFN)<<k.shift)
	}
	switch {
	case errors.Is(cause, remora.ErrNotSaved):
		if k.head.sub.level >= 0 {
			return fmt.Errorf("%w: left out at dump level %d", cause, k.head.sub.level)
		}
		return cause
	case errors.Is(cause, remora.ErrHole):
		return cause
	}
	if bad := k.diagnose(context.Background(), pfn); bad != nil {
		return fmt.Errorf("%w: page 0x%x: %w", cause, k.base+pfn, bad)
	}
	return fmt.Errorf("%w: page 0x%x: a second look succeeded", cause, k.base+pfn)
}

// diagnose reads page pfn and says what is wrong with it, nil if nothing is.
func (k *kdump) diagnose(ctx context.Context, pfn uint64) *remora.FormatError {
	j := k.jobs.Get().(*kdumpJob)
	defer k.jobs.Put(j)
	set, rank, err := k.saved.look(ctx, pfn)
	if err != nil {
		at := k.saved.off + int64(pfn/8)
		return k.saved.src.failed(at, 1, "the bitmap of the pages", err)
	}
	if !set {
		return nil
	}
	p := k.partOf(pfn)
	if p == nil {
		for _, gap := range k.gaps() {
			if pfn >= gap[0] && pfn < gap[1] {
				return k.missingPart(gap)
			}
		}
		return nil
	}
	first, err := k.firstRank(ctx, p)
	if err != nil {
		return k.saved.src.failed(k.saved.off+int64(p.start/8), 1, "the bitmap of the pages", err)
	}
	descs, err := k.descs(ctx, p, pfn, 1, j)
	if err != nil {
		return p.src.failed(k.head.descOff()+int64(rank-first)*kdumpDescSize, kdumpDescSize, "a page descriptor", err)
	}
	if bad := k.badDesc(p, &descs[0]); bad != nil {
		return bad
	}
	if zeros, err := k.judge(p, &descs[0]); zeros || err != nil {
		return nil
	}
	c := codecs.Get().(*codec)
	defer codecs.Put(c)
	return k.badData(c, p, &descs[0])
}

// badDesc says what is wrong with a descriptor, nil if nothing is. It is judge in words.
func (k *kdump) badDesc(p *kdumpPart, d *kdumpDesc) *remora.FormatError {
	block := uint32(k.head.block)
	switch {
	case d.off == 0:
		got := "none"
		if p.head.status&kdumpIncomplete != 0 {
			got = "none: the dump is incomplete"
		}
		return p.src.bad(d.at, remora.ErrTruncated, "a page descriptor with an offset", got)
	case d.off < d.at+kdumpDescSize:
		got := fmt.Sprintf("offset 0x%x", d.off)
		if d.off < 0 {
			got = "an offset beyond 2^63"
		}
		return p.src.bad(d.at, remora.ErrCorrupt, "a page descriptor with data behind the descriptors", got)
	case d.flags&^kdumpCodecs != 0:
		return p.src.bad(d.at+12, remora.ErrCorrupt, "flags of zlib (0x1), lzo (0x2), snappy (0x4), zstd (0x20) or none",
			fmt.Sprintf("0x%x: unknown bit 0x%x", d.flags, d.flags&^kdumpCodecs))
	case bits.OnesCount32(d.flags) > 1:
		return p.src.bad(d.at+12, remora.ErrCorrupt, "the flag of one algorithm", fmt.Sprintf("0x%x", d.flags))
	case d.size > block:
		return p.src.bad(d.at+8, remora.ErrCorrupt, fmt.Sprintf("data of at most %d bytes", block), fmt.Sprint(d.size))
	case d.flags == 0 && d.size != 0 && d.size != block:
		return p.src.bad(d.at+8, remora.ErrCorrupt, fmt.Sprintf("%d bytes of a page that is not compressed", block), fmt.Sprint(d.size))
	case d.off > p.src.size || int64(d.size) > p.src.size-d.off:
		return p.src.cut(d.off, fmt.Sprintf("%d bytes of data, as the page descriptor at 0x%x says", d.size, p.src.at(d.at)))
	}
	return nil
}

// badData reads and inflates a page, and says what is wrong with it, nil if nothing is.
func (k *kdump) badData(c *codec, p *kdumpPart, d *kdumpDesc) *remora.FormatError {
	in := c.buffer(int(d.size))
	what := fmt.Sprintf("%d bytes of a page, as the page descriptor at 0x%x says", d.size, p.src.at(d.at))
	if err := p.src.load(in, d.off); err != nil {
		return p.src.failed(d.off, int64(d.size), what, err)
	}
	if err := c.inflate(c.scratch(int(k.head.block)), in, d.flags); err != nil {
		_, names := statusNames(d.flags)
		return p.src.bad(d.off, remora.ErrCorrupt, fmt.Sprintf("%d bytes of %v that give %d, as the page descriptor at 0x%x says",
			d.size, names, k.head.block, p.src.at(d.at)), err.Error())
	}
	return nil
}
