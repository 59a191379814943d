// SPDX-License-Identifier: Apache-2.0

package vmcore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/xfer"
)

// kdumpCheck is a look at all that a dump holds.
type kdumpCheck struct {
	reporter
	k   *kdump
	ctx context.Context
}

// check looks at the headers, at all of the bitmaps, and at every descriptor and page.
// Pages that follow one another and are lost for the same reason are one report.
func (k *kdump) check(ctx context.Context, report func(*remora.FormatError)) error {
	c := &kdumpCheck{reporter: reporter{report: report}, k: k, ctx: ctx}
	all := append(append([]*kdumpPart(nil), k.parts...), k.empty...)
	for _, err := range k.problems {
		if bad := (*remora.FormatError)(nil); errors.As(err, &bad) {
			c.found(bad)
		}
	}
	for i, p := range all {
		c.headers(p)
		if i > 0 {
			c.sameBitmaps(all[0], p)
		}
	}
	c.bitmaps()
	for _, p := range k.parts {
		if ctx.Err() != nil {
			break
		}
		c.pages(p)
	}
	return ctx.Err()
}

// headers looks at what opening passes over.
func (c *kdumpCheck) headers(p *kdumpPart) {
	h := p.head
	at := int64(h.layout.status)
	if rest := h.status &^ (kdumpCodecs | kdumpIncomplete | kdumpVmemmap); rest != 0 {
		c.found(p.src.bad(at, remora.ErrCorrupt, "a status of known bits", fmt.Sprintf("0x%x: unknown bit 0x%x", h.status, rest)))
	}
	if h.status&kdumpIncomplete != 0 {
		c.found(p.src.bad(at, remora.ErrTruncated, "a complete dump", fmt.Sprintf("status 0x%x: incomplete", h.status)))
	}
	if h.sub.level < -1 || h.sub.level > 31 {
		c.found(p.src.bad(h.block+int64(h.sub.layout.level), remora.ErrCorrupt, "a dump level from 0 to 31", fmt.Sprint(h.sub.level)))
	}
	if bad := (*remora.FormatError)(nil); errors.As(h.sub.erase.judge(p.src, h.block, 1<<40), &bad) {
		c.found(bad)
	}
	info, err := p.blob(&h.sub.info, kdumpMostInfo)
	if err != nil || info == nil {
		return // a problem that opening has found
	}
	p.src.checkInfo(bytes.TrimRight(info, "\x00"), int64(h.sub.info.off), c.found)
}

// sameBitmaps compares all of the bitmaps of two parts, up to the first difference.
func (c *kdumpCheck) sameBitmaps(a, b *kdumpPart) {
	length := b.head.bitmaps * b.head.block
	for at := int64(0); at < length && c.ctx.Err() == nil; at += rankRegion / 8 {
		if bad := (*remora.FormatError)(nil); errors.As(matchBitmap(a, b, at, min(rankRegion/8, length-at)), &bad) {
			c.found(bad)
			return
		}
	}
}

// bitmaps looks for pages that are saved where there is no memory, and for bits behind
// the last page.
func (c *kdumpCheck) bitmaps() {
	k := c.k
	saved, ram := k.saved, k.ram
	c.behind(saved)
	if ram == saved {
		return
	}
	c.behind(ram)
	const piece = rankRegion / 8
	buf := make([]byte, 2*piece)
	var run [2]uint64 // of pages that are only in saved
	flush := func() {
		if run[1] > run[0] {
			c.found(saved.src.bad(saved.off+int64(run[0]/8), remora.ErrCorrupt, fmt.Sprintf("pages that the first bitmap, at 0x%x, has too", saved.src.at(ram.off+int64(run[0]/8))),
				fmt.Sprintf("pages 0x%x to 0x%x, which it does not have", k.base+run[0], k.base+run[1]-1)))
		}
		run = [2]uint64{}
	}
	length := int64(saved.n+7) / 8
	for at := int64(0); at < length && c.ctx.Err() == nil; at += piece {
		n := min(piece, length-at)
		s, r := buf[:n], buf[piece:][:n]
		for _, b := range []struct {
			bits *rankBits
			to   []byte
		}{{saved, s}, {ram, r}} {
			if err := b.bits.src.load(b.to, b.bits.off+at); err != nil {
				c.found(b.bits.src.failed(b.bits.off+at, n, "the bitmap of the pages", err))
				flush()
				return
			}
		}
		for i := range s {
			for wrong, bit := s[i]&^r[i], uint64(0); wrong != 0; wrong, bit = wrong>>1, bit+1 {
				pfn := uint64(at+int64(i))*8 + bit
				if wrong&1 == 0 || pfn >= saved.n {
					continue
				}
				if pfn != run[1] || run[1] == 0 {
					flush()
					run[0] = pfn
				}
				run[1] = pfn + 1
			}
		}
	}
	flush()
}

// behind looks for bits behind the last page, as far as its byte and the block go.
func (c *kdumpCheck) behind(b *rankBits) {
	at := int64(b.n / 8)
	end := (at + c.k.head.block - 1) / c.k.head.block * c.k.head.block
	end = min(max(end, at+1), c.k.head.half())
	raw := make([]byte, max(end-at, 0))
	if len(raw) == 0 || b.src.load(raw, b.off+at) != nil {
		return
	}
	raw[0] &^= 1<<(b.n%8) - 1
	for i, x := range raw {
		if x != 0 {
			c.found(b.src.bad(b.off+at+int64(i), remora.ErrCorrupt, fmt.Sprintf("a bitmap of %d pages, and no bits behind them", b.n), fmt.Sprintf("0x%02x", x)))
			return
		}
	}
}

// pages looks at the descriptors of a part in order, and at its pages on all processors.
func (c *kdumpCheck) pages(p *kdumpPart) {
	jobs := make(chan *kdumpJob)
	var wait sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wait.Go(func() { c.inflate(p, jobs) })
	}
	t := c.newTable(p)
	c.eachDescs(p, func(pfn uint64, j *kdumpJob) {
		for i := range j.descs[:j.n] {
			d := &j.descs[i]
			j.dst[i] = nil
			bad := c.k.badDesc(p, d)
			if t.lost.add(c, c.k.base+pfn+uint64(i), bad, d); bad != nil {
				continue
			}
			if t.judge(d) && d.size > 0 {
				j.dst[i] = j.raw[:0] // to be inflated
			}
		}
		jobs <- j
	})
	close(jobs)
	wait.Wait()
	t.lost.flush(c)
	t.settle()
}

// eachDescs calls each with the descriptors of all the pages of a part, some at a time,
// and a job that is each's to keep. It reports when they cannot be read, and ends.
func (c *kdumpCheck) eachDescs(p *kdumpPart, each func(pfn uint64, j *kdumpJob)) {
	k := c.k
	for pfn := p.start; pfn < p.end; {
		if c.ctx.Err() != nil {
			return
		}
		set, end, err := k.saved.span(c.ctx, pfn)
		if err != nil {
			if k.ram == k.saved && c.ctx.Err() == nil { // nobody else has reported it
				c.found(k.saved.src.failed(k.saved.off+int64(pfn/8), 1, "the bitmap of the pages", err))
			}
			return
		}
		end = min(end, p.end)
		if !set {
			pfn = end
			continue
		}
		n := min(end-pfn, xfer.ChunkBytes>>k.shift)
		j := k.jobs.Get().(*kdumpJob)
		_, err = k.descs(c.ctx, p, pfn, n, j)
		for err != nil && n > 1 && c.ctx.Err() == nil {
			n /= 2
			_, err = k.descs(c.ctx, p, pfn, n, j)
		}
		if err != nil {
			k.jobs.Put(j)
			if bad := k.diagnose(c.ctx, pfn); bad != nil && c.ctx.Err() == nil {
				c.found(bad)
			}
			return
		}
		j.part, j.n = p, int(n)
		each(pfn, j)
		pfn += n
	}
}

// inflate inflates the pages of jobs whose dst is not nil, and looks closer at those
// that fail.
func (c *kdumpCheck) inflate(p *kdumpPart, jobs <-chan *kdumpJob) {
	k := c.k
	block := int(k.head.block)
	co := codecs.Get().(*codec)
	defer codecs.Put(co)
	var page []byte
	for j := range jobs {
		if len(page) < j.n*block {
			page = make([]byte, j.n*block)
		}
		for i := range j.n {
			j.errs[i] = nil
			if j.dst[i] != nil {
				j.dst[i] = page[i*block:][:block]
			}
		}
		j.bad.Store(int32(j.n))
		j.inflate(co, 0, j.n)
		for i := range j.n {
			if j.errs[i] != nil {
				if bad := k.badData(co, p, &j.descs[i]); bad != nil {
					c.found(bad)
				}
			}
			j.dst[i] = nil
		}
		k.jobs.Put(j)
	}
}
