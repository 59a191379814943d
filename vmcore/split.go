// SPDX-License-Identifier: Apache-2.0

package vmcore

import (
	"bytes"
	"cmp"
	"fmt"

	"github.com/remora-go/remora"
)

func byPages(a, b *kdumpPart) int {
	return cmp.Or(cmp.Compare(a.start, b.start), cmp.Compare(a.end, b.end))
}

// matchParts refuses files that are not parts of one dump. Each part has the headers and
// bitmaps of the whole, and pages of its own.
func matchParts(parts []*kdumpPart) error {
	if len(parts) == 0 {
		return &remora.FormatError{Want: "a file", Got: "none", Err: remora.ErrUnrecognized}
	}
	if len(parts) == 1 {
		return nil
	}
	first := parts[0]
	for _, p := range parts {
		if !p.head.sub.split {
			at := p.head.block + int64(kdumpSubLayoutOf(p.head.wide, true).split)
			return p.src.bad(at, remora.ErrCorrupt, "a part of a split set, as there is more than one file", "a dump that is not split")
		}
	}
	for _, p := range parts[1:] {
		if err := matchHead(first, p); err != nil {
			return err
		}
	}
	for i, p := range parts {
		for _, q := range parts[:i] {
			if max(p.start, q.start) < min(p.end, q.end) {
				at := p.head.block + int64(p.head.sub.layout.start)
				return p.src.bad(at, remora.ErrCorrupt, "pages that no other part has",
					fmt.Sprintf("pages %d to %d, of which %s has %d to %d", p.start, p.end, q.src.name, q.start, q.end))
			}
		}
	}
	return nil
}

// matchHead compares what all parts of a dump have in common.
func matchHead(a, b *kdumpPart) error {
	l := b.head.layout
	for _, f := range []struct {
		name string
		at   int
		a, b any
	}{
		{"the signature", 0, a.head.sig, b.head.sig},
		{"the version", 8, a.head.version, b.head.version},
		{"the byte order", 8, fmt.Sprint(a.head.order), fmt.Sprint(b.head.order)},
		{"the size of a long", l.block, a.head.wordSize(), b.head.wordSize()},
		{"the names of the system", 12, fmt.Sprintf("%q", a.head.uname), fmt.Sprintf("%q", b.head.uname)},
		{"the time", l.time, [2]uint64{a.head.sec, a.head.usec}, [2]uint64{b.head.sec, b.head.usec}},
		{"the block size", l.block, a.head.block, b.head.block},
		{"the bitmap's blocks", l.bitmaps, a.head.bitmaps, b.head.bitmaps},
		{"max_mapnr", l.maxPFN, a.head.maxPFN, b.head.maxPFN},
		{"the physical base", int(b.head.block), a.head.sub.physBase, b.head.sub.physBase},
	} {
		if f.a != f.b {
			return b.src.bad(int64(f.at), remora.ErrCorrupt, fmt.Sprintf("%s of %s, which is %v", f.name, a.src.name, f.a), fmt.Sprint(f.b))
		}
	}
	return nil
}

// The bitmaps of a set are compared at opening in so many pieces, spread evenly, of so
// many bytes. A check compares all of them.
const (
	bitmapPieces = 64
	bitmapPiece  = 4 << 10
)

// matchBitmaps compares pieces of the bitmaps of a split set.
func matchBitmaps(parts []*kdumpPart) error {
	for _, p := range parts[1:] {
		length := p.head.bitmaps * p.head.block
		step := max(bitmapPiece, (length/bitmapPieces+bitmapPiece-1)/bitmapPiece*bitmapPiece)
		for at := int64(0); at < length; at += step {
			if err := matchBitmap(parts[0], p, at, min(bitmapPiece, length-at)); err != nil {
				return err
			}
		}
	}
	return nil
}

// matchBitmap compares n bytes at at of the bitmaps of two parts. Where one is cut off
// there is nothing to compare.
func matchBitmap(a, b *kdumpPart, at, n int64) error {
	both := make([]byte, 2*n)
	x, y := both[:n], both[n:]
	offA, offB := a.head.bitmapOff()+at, b.head.bitmapOff()+at
	if a.src.load(x, offA) != nil || b.src.load(y, offB) != nil || bytes.Equal(x, y) {
		return nil
	}
	i := int64(0)
	for x[i] == y[i] {
		i++
	}
	return b.src.bad(offB+i, remora.ErrCorrupt, fmt.Sprintf("the bitmap of %s, which has 0x%02x at 0x%x", a.src.name, x[i], a.src.at(offA+i)),
		fmt.Sprintf("0x%02x", y[i]))
}

// gaps gives the runs of pages that no part has.
func (k *kdump) gaps() [][2]uint64 {
	var all [][2]uint64
	at := uint64(0)
	for _, p := range k.parts {
		if p.start > at {
			all = append(all, [2]uint64{at, p.start})
		}
		at = p.end
	}
	if at < k.head.maxPFN {
		all = append(all, [2]uint64{at, k.head.maxPFN})
	}
	return all
}

// missingPart is the error that a part of the set is not there.
func (k *kdump) missingPart(gap [2]uint64) *remora.FormatError {
	p := k.anyPart()
	return p.src.bad(p.head.block+int64(p.head.sub.layout.start), remora.ErrTruncated,
		fmt.Sprintf("the part of the set with pages 0x%x to 0x%x too", gap[0], gap[1]-1), fmt.Sprintf("pages 0x%x to 0x%x", p.start, max(p.end, 1)-1))
}

// anyPart gives the file whose headers stand for all.
func (k *kdump) anyPart() *kdumpPart {
	if len(k.parts) > 0 {
		return k.parts[0]
	}
	return k.empty[0]
}
