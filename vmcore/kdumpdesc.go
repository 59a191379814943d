// SPDX-License-Identifier: Apache-2.0

package vmcore

import (
	"context"
	"math/bits"

	"github.com/remora-go/remora"
)

// kdumpDesc is a page descriptor (struct page_desc), and where it lies. Its page_flags
// nobody fills in.
type kdumpDesc struct {
	off   int64 // of the data; a value that no file has is -1
	size  uint32
	flags uint32
	at    int64 // of the descriptor
}

// kdumpWhere is what there is to know of a page without a look at its data.
type kdumpWhere struct {
	part *kdumpPart
	desc kdumpDesc
	zero bool // the page is zeros, and has no data
}

// locate finds page pfn. The error is the constant cause why it is not there.
func (k *kdump) locate(ctx context.Context, pfn uint64, j *kdumpJob) (w kdumpWhere, err error) {
	if pfn >= k.head.maxPFN {
		return w, remora.ErrHole
	}
	set, _, err := k.saved.look(ctx, pfn)
	if err != nil {
		return w, err
	}
	if !set {
		return w, k.absent(ctx, pfn, &w)
	}
	if w.part = k.partOf(pfn); w.part == nil {
		return w, remora.ErrTruncated
	}
	descs, err := k.descs(ctx, w.part, pfn, 1, j)
	if err != nil {
		return w, err
	}
	w.desc = descs[0]
	w.zero, err = k.judge(w.part, &w.desc)
	return w, err
}

// absent says why page pfn is not saved.
func (k *kdump) absent(ctx context.Context, pfn uint64, w *kdumpWhere) error {
	ram, _, err := k.ram.look(ctx, pfn)
	switch {
	case err != nil:
		return err
	case !ram:
		return remora.ErrHole
	case k.excludedZeros():
		w.zero = true
		return nil
	}
	return remora.ErrNotSaved
}

// descs reads the descriptors of n pages from pfn, all of which are saved in p, into j.
func (k *kdump) descs(ctx context.Context, p *kdumpPart, pfn, n uint64, j *kdumpJob) ([]kdumpDesc, error) {
	first, err := k.firstRank(ctx, p)
	if err != nil {
		return nil, err
	}
	_, rank, err := k.saved.look(ctx, pfn)
	if err != nil {
		return nil, err
	}
	at := k.head.descOff() + int64(rank-first)*kdumpDescSize
	raw := j.raw[:n*kdumpDescSize]
	if err := p.src.load(raw, at); err != nil {
		return nil, err
	}
	descs := j.descs[:n]
	for i := range descs {
		descs[i] = k.parseDesc(raw[i*kdumpDescSize:], at+int64(i)*kdumpDescSize)
	}
	return descs, nil
}

func (k *kdump) parseDesc(b []byte, at int64) kdumpDesc {
	d := kdumpDesc{off: int64(k.head.order.Uint64(b)), size: k.head.order.Uint32(b[8:]), flags: k.head.order.Uint32(b[12:]), at: at}
	d.off = max(d.off, -1)
	return d
}

// firstRank is the rank of the first page of p: its descriptor is the first of the file.
func (k *kdump) firstRank(ctx context.Context, p *kdumpPart) (uint64, error) {
	if r := p.first.Load(); r != 0 {
		return r - 1, nil
	}
	_, r, err := k.saved.look(ctx, p.start)
	if err != nil {
		return 0, err
	}
	p.first.Store(r + 1)
	return r, nil
}

// judge says what a descriptor comes to: data to inflate, zeros, or a cause.
//
// A page without an offset was never written: the dump ended early. One of size 0 with
// an offset is what some writers make of a page of zeros.
func (k *kdump) judge(p *kdumpPart, d *kdumpDesc) (zeros bool, err error) {
	switch {
	case d.off == 0:
		return false, remora.ErrTruncated
	case d.off < d.at+kdumpDescSize, d.flags&^kdumpCodecs != 0, bits.OnesCount32(d.flags) > 1,
		d.size > uint32(k.head.block), d.flags == 0 && d.size != 0 && d.size != uint32(k.head.block):
		return false, remora.ErrCorrupt
	case d.off > p.src.size || int64(d.size) > p.src.size-d.off:
		return false, remora.ErrTruncated
	}
	return d.size == 0, nil
}
