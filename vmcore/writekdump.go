// SPDX-License-Identifier: Apache-2.0

package vmcore

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"iter"

	"github.com/remora-go/remora"
)

const (
	// maxBitmap bounds the two bitmaps, which name every page up to the last.
	maxBitmap = 4 << 30

	// maxSubBlocks is how large a sub header may be that has the notes in it; larger
	// ones come last in the file.
	maxSubBlocks = 32
)

// kdumpPlan is where in the file everything is.
type kdumpPlan struct {
	notesAt    int64
	infoAt     int64 // of the text of VMCOREINFO; 0: none
	infoSize   int
	sub        uint64 // blocks
	bitmap     uint64 // blocks of both
	descAt     int64
	dataAt     int64
	maxPfn     uint64 // one past the last page
	present    uint64 // pages of memory
	described  uint64 // pages with a descriptor
	notes      []byte
	notesAfter bool
}

// packed is a page of a job, packed: size bytes of its out.
type packed struct {
	size  uint32
	flags uint32
	kind  pageKind
}

type pageKind uint8

const (
	kindData pageKind = iota
	kindZero
	kindLost
)

// kdump writes a kdump-compressed image of version 6: main header, sub header with the
// notes, two bitmaps, descriptors, pages. Pages of zeros share one.
func (wr *writing) kdump(ctx context.Context) error {
	probe, err := newPacker(wr.o.Codec, wr.o.Level)
	if err != nil {
		return err
	}
	l, err := wr.layout(ctx)
	if err != nil {
		return err
	}
	if err := wr.bitmaps(ctx, l); err != nil {
		return err
	}
	if err := wr.kdumpPages(ctx, l, probe); err != nil {
		return err
	}
	if l.notesAfter {
		l.notesAt += wr.w.end
		if l.infoAt != 0 {
			l.infoAt += wr.w.end
		}
	}
	if err := wr.w.put(l.notes, l.notesAt); err != nil {
		return err
	}
	if err := wr.kdumpHeaders(l); err != nil {
		return err
	}
	return wr.w.close()
}

// layout counts pages, and finds out where everything goes.
func (wr *writing) layout(ctx context.Context) (*kdumpPlan, error) {
	l := &kdumpPlan{}
	for r, err := range wr.pages(ctx, func(n uint64) { wr.out.Partial += n }, func() { wr.out.Rest = true }) {
		if err != nil {
			return nil, err
		}
		l.maxPfn = r.first + r.count
		l.present += r.count
		switch r.class {
		case pageLeft:
			wr.out.NotSaved += r.count * wr.page
			continue
		case pageLost:
			wr.out.Lost += r.count * wr.page
		default:
			wr.total += r.count * wr.page
		}
		l.described += r.count
	}
	block := wr.page
	half := max(((l.maxPfn+7)/8+block-1)/block, 1)
	if half > maxBitmap/2/block {
		return nil, fmt.Errorf("memory up to %#x would take a bitmap of %d MiB; an ELF image has none: %w",
			(l.maxPfn-1)*wr.page, 2*half*block>>20, errors.ErrUnsupported)
	}
	l.bitmap = 2 * half
	notes, at, size, err := wr.notes()
	if err != nil {
		return nil, err
	}
	l.notes, l.infoSize = notes, size
	l.sub = 1
	if blocks := (uint64(wr.subHeaderSize()) + uint64(len(notes)) + block - 1) / block; blocks <= maxSubBlocks {
		l.sub = blocks
		l.notesAt = int64(block) + int64(wr.subHeaderSize())
	} else {
		l.notesAfter = true
	}
	if size > 0 {
		l.infoAt = l.notesAt + int64(at)
	}
	l.descAt = int64((1 + l.sub + l.bitmap) * block)
	l.dataAt = l.descAt + int64(l.described)*kdumpDescSize
	return l, nil
}

// bitmaps writes the two: what is memory, and what has a descriptor.
func (wr *writing) bitmaps(ctx context.Context, l *kdumpPlan) error {
	at := int64((1 + l.sub) * wr.page)
	half := int64(l.bitmap / 2 * wr.page)
	first := bitStream{stream: stream{s: &wr.w, off: at}, limit: at + half}
	second := bitStream{stream: stream{s: &wr.w, off: at + half}, limit: at + 2*half}
	for r, err := range wr.pages(ctx, nil, func() {}) {
		if err != nil {
			return err
		}
		if err := first.set(r.first, r.count); err != nil {
			return err
		}
		if r.class != pageLeft {
			if err := second.set(r.first, r.count); err != nil {
				return err
			}
		}
	}
	return errors.Join(first.end(), second.end())
}

// bitStream writes a bitmap, from its beginning.
type bitStream struct {
	stream
	limit int64  // where the bitmap ends
	next  uint64 // the bit that is bit 0 of last
	last  byte   // not written yet
}

// set sets bits that lie behind those that were set before.
func (b *bitStream) set(first, count uint64) error {
	for ; count > 0 && first%8 != 0; first, count = first+1, count-1 {
		if err := b.or(first, 1); err != nil {
			return err
		}
	}
	for ; count >= 8; first, count = first+8, count-8 {
		if err := b.or(first, 0xff); err != nil {
			return err
		}
	}
	if count > 0 {
		return b.or(first, byte(1<<count-1))
	}
	return nil
}

// or adds bits from the bit first on, all in one byte.
func (b *bitStream) or(first uint64, bits byte) error {
	for first-first%8 > b.next {
		if err := b.push(min(first/8-b.next/8, streamBytes)); err != nil {
			return err
		}
	}
	b.last |= bits << (first % 8)
	return nil
}

// push writes the last byte, and n-1 bytes of zeros behind it.
func (b *bitStream) push(n uint64) error {
	var few [1]byte
	few[0], b.last = b.last, 0
	b.next += 8 * n
	if err := b.write(few[:]); err != nil || n == 1 {
		return err
	}
	return b.write(make([]byte, n-1))
}

// end writes the rest of the bitmap.
func (b *bitStream) end() error {
	for b.at() < b.limit {
		if err := b.push(uint64(min(b.limit-b.at(), streamBytes))); err != nil {
			return err
		}
	}
	return b.flush()
}

// kdumpJobs cuts what is saved into jobs. A run of pages that are lost is a job without
// memory: its off counts them.
func (wr *writing) kdumpJobs(ctx context.Context) iter.Seq2[job, error] {
	return func(yield func(job, error) bool) {
		for r, err := range wr.pages(ctx, nil, func() {}) {
			if err != nil {
				yield(job{}, err)
				return
			}
			if r.class == pageLeft {
				continue
			}
			if r.class == pageLost {
				if !yield(job{off: int64(r.count)}, nil) {
					return
				}
				continue
			}
			for per := max(jobBytes/wr.page, 1); r.count > 0; {
				n := min(per-r.first%per, r.count)
				if !yield(job{Range: remora.Range{Start: remora.Addr(r.first * wr.page), Size: n * wr.page}}, nil) {
					return
				}
				r.first, r.count = r.first+n, r.count-n
			}
		}
	}
}

// kdumpPages writes descriptors and pages.
func (wr *writing) kdumpPages(ctx context.Context, l *kdumpPlan, zeros *packer) error {
	order := wr.order()
	desc := &stream{s: &wr.w, off: l.descAt}
	data := &stream{s: &wr.w, off: l.dataAt}
	var none [kdumpDescSize]byte
	var zero []byte // the descriptor of the page that all pages of zeros share
	put := func(off int64, size, flags uint32) []byte {
		b := order.AppendUint64(make([]byte, 0, kdumpDescSize), uint64(off))
		b = order.AppendUint32(b, size)
		b = order.AppendUint32(b, flags)
		return order.AppendUint64(b, 0)
	}
	p := &pipe{space: wr.c.Space, page: wr.page, n: wr.o.Workers, work: wr.packing}
	p.put = func(j *job) error {
		for range j.off {
			if err := desc.write(none[:]); err != nil {
				return err
			}
		}
		for _, g := range j.gaps {
			wr.gap(g)
			wr.out.Partial -= g.Size // of the pages that are lost for it
		}
		out := j.out
		for i := range j.packed {
			var d []byte
			switch k := &j.packed[i]; k.kind {
			case kindLost:
				wr.out.Partial += wr.page
				d = none[:]
			case kindZero:
				wr.out.Saved += wr.page
				wr.out.Zeros += wr.page
				if zero == nil {
					b, flags, err := zeros.one(nil, make([]byte, wr.page))
					if err != nil {
						return err
					}
					zero = put(data.at(), uint32(len(b)), flags)
					if err := data.write(b); err != nil {
						return err
					}
				}
				d = zero
			default:
				wr.out.Saved += wr.page
				d = put(data.at(), k.size, k.flags)
				if err := data.write(out[:k.size]); err != nil {
					return err
				}
				out = out[k.size:]
			}
			if err := desc.write(d); err != nil {
				return err
			}
		}
		wr.progress(j.Size)
		return nil
	}
	if err := p.run(ctx, wr.kdumpJobs(ctx)); err != nil {
		return err
	}
	if desc.at() != l.dataAt {
		return fmt.Errorf("the source changed while it was read: %w", remora.ErrCorrupt)
	}
	return errors.Join(desc.flush(), data.flush())
}

// packing gives what a worker does with a job.
func (wr *writing) packing() (func(*job), error) {
	p, err := newPacker(wr.o.Codec, wr.o.Level)
	if err != nil {
		return nil, err
	}
	return func(j *job) {
		j.packed, j.out = j.packed[:0], j.out[:0]
		gaps := j.gaps
		for at := uint64(0); at < j.Size; at += wr.page {
			page := j.buf[at : at+wr.page]
			a := j.Start + remora.Addr(at)
			for len(gaps) > 0 && gaps[0].Last() < a {
				gaps = gaps[1:]
			}
			switch {
			case len(gaps) > 0 && gaps[0].Start <= a+remora.Addr(wr.page-1):
				j.packed = append(j.packed, packed{kind: kindLost})
			case allZeros(page):
				j.packed = append(j.packed, packed{kind: kindZero})
			default:
				n := len(j.out)
				var k packed
				if j.out, k.flags, j.err = p.one(j.out, page); j.err != nil {
					return
				}
				k.size = uint32(len(j.out) - n)
				j.packed = append(j.packed, k)
			}
		}
	}, nil
}

// one packs a page, or leaves it as it is where that is no longer.
func (p *packer) one(dst, page []byte) ([]byte, uint32, error) {
	if p != nil {
		out, err := p.pack(dst, page)
		if err != nil {
			return dst, 0, err
		}
		if len(out)-len(dst) < len(page) {
			return out, p.flag, nil
		}
	}
	return append(dst, page...), 0, nil
}

// machineName gives what uname calls a machine, "" when it is not known here.
func machineName(m elf.Machine) string {
	switch m {
	case elf.EM_X86_64:
		return "x86_64"
	case elf.EM_386:
		return "i686"
	case elf.EM_AARCH64:
		return "aarch64"
	case elf.EM_ARM:
		return "arm"
	case elf.EM_RISCV:
		return "riscv64"
	case elf.EM_S390:
		return "s390x"
	case elf.EM_PPC64:
		return "ppc64"
	}
	return ""
}
