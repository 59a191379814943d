// SPDX-License-Identifier: Apache-2.0

package vmcore

import (
	"context"
	"sync/atomic"

	"github.com/remora-go/remora"
)

// miss reads from byte in of page pfn, which the cache does not have, and puts the page
// there.
func (k *kdump) miss(ctx context.Context, pfn uint64, in int, dst []byte) error {
	j := k.jobs.Get().(*kdumpJob)
	defer k.jobs.Put(j)
	w, err := k.locate(ctx, pfn, j)
	if err != nil {
		return err
	}
	if w.zero {
		clear(dst)
		return nil
	}
	pages := k.cache
	if n := k.ahead.length(pfn, k.aheadPages()); n > 1 {
		k.prefetch(ctx, w.part, pfn, n, j)
		if pages.copy(dst, pfn, in) {
			return nil
		}
	}
	key := w.key()
	ref, answer := pages.claim(key, true)
	switch answer {
	case claimNone:
		return k.inflatePiece(&w, in, dst)
	case claimLoad:
		err := k.inflate(&w, pages.page(ref))
		if pages.done(key, ref, err == nil); err != nil {
			return err
		}
	}
	copy(dst, pages.page(ref)[in:])
	pages.link(pfn, ref)
	pages.unpin(ref)
	return nil
}

func (w *kdumpWhere) key() cacheKey {
	return cacheKey{off: w.desc.off, part: w.part.id, size: w.desc.size, flags: w.desc.flags}
}

// inflate makes the page dst of its data. The error is a constant cause.
func (k *kdump) inflate(w *kdumpWhere, dst []byte) error {
	c := codecs.Get().(*codec)
	defer codecs.Put(c)
	return c.page(w.part, &w.desc, dst)
}

// page reads the data that d describes, and makes the page dst of them. The error is a
// constant cause.
func (c *codec) page(p *kdumpPart, d *kdumpDesc, dst []byte) error {
	if d.flags == 0 {
		return p.src.load(dst, d.off)
	}
	in := c.buffer(int(d.size))
	if err := p.src.load(in, d.off); err != nil {
		return err
	}
	if c.inflate(dst, in, d.flags) != nil {
		return remora.ErrCorrupt
	}
	return nil
}

// inflatePiece reads from byte in of a page for which the cache has no room now.
func (k *kdump) inflatePiece(w *kdumpWhere, in int, dst []byte) error {
	c := codecs.Get().(*codec)
	defer codecs.Put(c)
	page := c.scratch(int(k.head.block))
	if err := c.page(w.part, &w.desc, page); err != nil {
		return err
	}
	copy(dst, page[in:])
	return nil
}

// readAhead sees readers that go from one page to the next.
type readAhead struct {
	next [8]atomic.Uint64 // one more than the page that a reader asks for next
	hand atomic.Uint32
}

// length says how many pages from pfn on to read: all of most if the page before was
// read too.
func (r *readAhead) length(pfn, most uint64) uint64 {
	for i := range r.next {
		if r.next[i].Load() == pfn+1 {
			r.next[i].Store(pfn + 1 + most)
			return most
		}
	}
	r.next[r.hand.Add(1)%uint32(len(r.next))].Store(pfn + 2)
	return 1
}

// aheadBytes is how much a small sequential read reads ahead at most.
const aheadBytes = 256 << 10

// aheadPages is the same in pages. It is no more than a quarter of the cache.
func (k *kdump) aheadPages() uint64 {
	return min(aheadBytes>>k.shift, uint64(len(k.cache.frames)/4), kdumpJobPages)
}

// prefetch puts up to n saved pages of p from pfn on into the cache. Those that are
// damaged or on their way already are left out.
func (k *kdump) prefetch(ctx context.Context, p *kdumpPart, pfn, n uint64, j *kdumpJob) {
	_, end, err := k.saved.span(ctx, pfn)
	if err != nil {
		return
	}
	descs, err := k.descs(ctx, p, pfn, min(n, end-pfn, p.end-pfn), j)
	if err != nil {
		return
	}
	pages := k.cache
	w := kdumpWhere{part: p}
	for i := range descs {
		j.dst[i], j.refs[i], j.errs[i] = nil, 0, nil
		if zeros, err := k.judge(p, &descs[i]); zeros || err != nil {
			continue
		}
		w.desc = descs[i]
		ref, answer := pages.claim(w.key(), false)
		switch answer {
		case claimHit:
			pages.link(pfn+uint64(i), ref)
			pages.unpin(ref)
		case claimLoad:
			j.dst[i], j.refs[i] = pages.page(ref), ref
		}
	}
	k.work(j, p, len(descs))
	for i := range descs {
		if j.dst[i] == nil {
			continue
		}
		w.desc = descs[i]
		ok := j.errs[i] == nil && !j.skipped(i)
		if pages.done(w.key(), j.refs[i], ok); ok {
			pages.link(pfn+uint64(i), j.refs[i])
			pages.unpin(j.refs[i])
		}
	}
}
