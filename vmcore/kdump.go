// SPDX-License-Identifier: Apache-2.0

package vmcore

import (
	"context"
	"math/bits"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/remora-go/remora"
)

// kdump is a kdump-compressed image (makedumpfile, QEMU; diskdump in old times), in one
// file or in the parts of a split set.
//
// Opening reads the headers, the notes, VMCOREINFO and a few page descriptors, which tell
// whether the file was cut off. The bitmaps are read when a page
// is first asked for (see rankBits), page descriptors for each page. Inflated pages are
// kept in a pageCache; runs of whole pages go past it, straight to the caller, and are
// inflated on all processors.
type kdump struct {
	head  *kdumpHead
	parts []*kdumpPart // by their pages; empty ones are left out
	empty []*kdumpPart
	base  uint64 // page frame number of the first bit
	shift uint
	ram   *rankBits // there was memory
	saved *rankBits // and it is saved; the same one if there is only one bitmap

	cacheBytes int
	cacheOnce  sync.Once
	cache      *pageCache
	crew       crew
	ahead      readAhead
	jobs       sync.Pool

	notes    []Note
	info     []byte
	problems []error
	ends     []error // problems too, which a check finds again with the pages
}

// kdumpPart is one file.
type kdumpPart struct {
	src        *source
	id         int32
	head       *kdumpHead
	start, end uint64                    // of its pages
	first      atomic.Uint64             // rank of start, one more; 0: not known yet
	zero       atomic.Pointer[kdumpDesc] // that of a page of zeros, nil: not known yet
}

// openKdump opens a kdump-compressed image. srcs are all its files, in any order; what
// parts of it are not among them is lost.
func openKdump(srcs []*source, o *Options) (format, error) {
	parts := make([]*kdumpPart, len(srcs))
	for i, src := range srcs {
		h, err := readKdumpHead(src)
		if err != nil {
			return nil, err
		}
		parts[i] = &kdumpPart{src: src, head: h, start: h.sub.start, end: h.sub.end}
	}
	if err := matchParts(parts); err != nil {
		return nil, err
	}
	k := &kdump{head: parts[0].head, shift: uint(bits.TrailingZeros64(uint64(parts[0].head.block)))}
	if o != nil {
		k.cacheBytes = o.CacheBytes
	}
	k.jobs.New = func() any { return new(kdumpJob) }
	for i, p := range parts {
		p.id = int32(i)
		if p.start == p.end {
			k.empty = append(k.empty, p)
		} else {
			k.parts = append(k.parts, p)
		}
	}
	slices.SortStableFunc(k.parts, byPages)
	h, src := k.head, parts[0].src
	k.saved = &rankBits{src: src, off: h.bitmapOff(), n: h.maxPFN}
	k.ram = k.saved
	if h.twoBitmaps() {
		k.ram = &rankBits{src: src, off: h.bitmapOff(), n: h.maxPFN}
		k.saved = &rankBits{src: src, off: h.bitmapOff() + h.half(), n: h.maxPFN}
	}
	if err := matchBitmaps(parts); err != nil {
		return nil, err
	}
	if h.arm32() {
		k.base = h.sub.physBase >> k.shift
	}
	k.readBlobs(parts)
	k.foresee(parts)
	return k, nil
}

// pages gives the cache, which is made when it is first needed.
func (k *kdump) pages() *pageCache {
	k.cacheOnce.Do(func() { k.cache = newPageCache(k.cacheBytes, int(k.head.block)) })
	return k.cache
}

func (k *kdump) writable() bool  { return false }
func (k *kdump) granule() uint32 { return uint32(k.head.block) }

func (k *kdump) close() error {
	k.crew.close()
	return nil
}

// kdumpBulk is from how many whole pages on a read goes past the cache.
const kdumpBulk = 4

// Move reads a prefix of buf.
func (k *kdump) Move(ctx context.Context, _ remora.Op, a remora.Addr, buf []byte) (int, error) {
	block := int(k.head.block)
	pages := k.pages()
	n := 0
	for n < len(buf) {
		at := uint64(a) + uint64(n)
		pfn, in := at>>k.shift, int(at&uint64(block-1))
		if pfn < k.base {
			return n, remora.ErrHole
		}
		pfn -= k.base
		rest := buf[n:]
		if in == 0 && len(rest) >= kdumpBulk*block {
			m, err := k.bulk(ctx, pfn, rest[:len(rest)&^(block-1)])
			if n += m; err != nil {
				return n, err
			}
			continue
		}
		rest = rest[:min(block-in, len(rest))]
		if !pages.copy(rest, pfn, in) {
			if err := k.miss(ctx, pfn, in, rest); err != nil {
				return n, err
			}
		}
		n += len(rest)
	}
	return n, nil
}

// partOf gives the part that has page pfn, or nil.
func (k *kdump) partOf(pfn uint64) *kdumpPart {
	if len(k.parts) == 1 {
		if p := k.parts[0]; pfn >= p.start && pfn < p.end {
			return p
		}
		return nil
	}
	i, found := slices.BinarySearchFunc(k.parts, pfn, func(p *kdumpPart, pfn uint64) int {
		switch {
		case p.end <= pfn:
			return -1
		case p.start > pfn:
			return 1
		}
		return 0
	})
	if !found {
		return nil
	}
	return k.parts[i]
}

// run gives the run of pages with one answer that holds a.
func (k *kdump) run(a remora.Addr) Run {
	block := uint64(k.head.block)
	pfn := uint64(a) >> k.shift
	if pfn < k.base {
		return Run{Range: remora.Range{Size: k.base << k.shift}, Err: remora.ErrHole, Offset: -1}
	}
	r := Run{Range: remora.Range{Start: a &^ remora.Addr(block-1)}, Offset: -1}
	if pfn -= k.base; pfn >= k.head.maxPFN {
		r.Range, r.Err = remora.Between(r.Start, 0), remora.ErrHole
		return r
	}
	ctx := context.Background()
	set, end, err := k.saved.span(ctx, pfn)
	switch {
	case err != nil:
		r.Err, end = err, k.saved.lostTo(pfn)
	case set:
		end = k.savedRun(ctx, &r, pfn, end)
	default:
		end = k.unsavedRun(ctx, &r, pfn, end)
	}
	r.Size = (end - pfn) << k.shift
	return r
}

// unsavedRun fills in r for pages that are not saved, and gives the end of the run.
func (k *kdump) unsavedRun(ctx context.Context, r *Run, pfn, end uint64) uint64 {
	ram, ramEnd, err := k.ram.span(ctx, pfn)
	if err != nil {
		r.Err = err
		return min(end, k.ram.lostTo(pfn))
	}
	r.Err = remora.ErrHole
	if ram {
		if r.Err = remora.ErrNotSaved; k.excludedZeros() {
			r.Err, r.Zeros = nil, true
		}
	}
	return min(end, ramEnd)
}

// excludedZeros says that a page that is not saved is one of zeros: version 0 leaves
// out nothing else.
func (k *kdump) excludedZeros() bool { return k.head.version == 0 }

// savedRun fills in r for pages that the bitmap has as saved: what their descriptors
// say.
func (k *kdump) savedRun(ctx context.Context, r *Run, pfn, end uint64) uint64 {
	p := k.partOf(pfn)
	if p == nil {
		r.Err = remora.ErrTruncated
		return min(end, k.nextPart(pfn))
	}
	r.File = p.src.name
	end = min(end, p.end)
	j := k.jobs.Get().(*kdumpJob)
	defer k.jobs.Put(j)
	for at := pfn; at < end; {
		n := min(end-at, kdumpJobPages)
		descs, err := k.descs(ctx, p, at, n, j)
		if err != nil {
			if at > pfn {
				return at
			}
			r.Err = err
			if n > 1 { // which of them can be read
				n = 1
				if descs, err = k.descs(ctx, p, at, n, j); err == nil {
					r.Zeros, r.Err = k.judge(p, &descs[0])
				}
			}
			return at + n
		}
		for i := range descs {
			zeros, err := k.judge(p, &descs[i])
			if at == pfn && i == 0 {
				r.Zeros, r.Err = zeros, err
			} else if zeros != r.Zeros || err != r.Err {
				return at + uint64(i)
			}
		}
		at += n
	}
	return end
}

// nextPart is the first page that a part has at or behind pfn, or the end of all.
func (k *kdump) nextPart(pfn uint64) uint64 {
	for _, p := range k.parts {
		if p.start >= pfn {
			return p.start
		}
	}
	return k.head.maxPFN
}
