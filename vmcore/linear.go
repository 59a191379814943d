// SPDX-License-Identifier: Apache-2.0

package vmcore

import (
	"context"
	"errors"
	"fmt"
	"math/bits"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/xfer"
)

// maxPhys is the first address that no machine has memory at: amd64 and arm64 have
// 52 bits, riscv64 has 56.
const maxPhys = 1 << 56

// piece is a run of addresses with one answer.
type piece struct {
	first, last remora.Addr
	off         int64        // of first in the file, if it is saved
	cause       remora.Cause // 0: saved
	from        int32        // the segment, range or run of the format that it is of
}

// linear is a format that keeps memory in the file as it is, run by run. It holds a
// table with a row for each run, whatever their size.
type linear struct {
	src   *source
	table []piece // by address, apart
	// lost says why memory that no piece names may be missing, if it may: at lostFrom
	// and above, up to maxPhys.
	lost     string
	lostFrom remora.Addr
}

// find gives the index of the piece that holds a, or of the next one, and whether it
// holds a.
func (l *linear) find(a remora.Addr) (int, bool) {
	lo, hi := 0, len(l.table)
	for lo < hi {
		if mid := int(uint(lo+hi) >> 1); l.table[mid].last < a {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo, lo < len(l.table) && l.table[lo].first <= a
}

// Move moves what one piece holds of the bytes at a.
func (l *linear) Move(_ context.Context, op remora.Op, a remora.Addr, buf []byte) (int, error) {
	i, ok := l.find(a)
	if !ok {
		return 0, l.gap(a)
	}
	p := &l.table[i]
	if p.cause != 0 {
		return 0, p.cause
	}
	if room := uint64(p.last - a); uint64(len(buf))-1 > room {
		buf = buf[:room+1]
	}
	off := p.off + int64(a-p.first)
	if op&remora.Write != 0 {
		return l.src.write(buf, off)
	}
	return l.src.read(buf, off)
}

// Prefetch fetches the beginnings of ranges if the file is mapped.
func (l *linear) Prefetch(segs []remora.Seg) {
	m, ok := l.src.r.(prefetcher)
	if !ok {
		return
	}
	var places [xfer.PrefetchSegs]int64
	n := 0
	for i := range segs {
		if k, ok := l.find(segs[i].Addr); ok && l.table[k].cause == 0 {
			places[n] = l.table[k].off + int64(segs[i].Addr-l.table[k].first)
			n++
		}
	}
	m.prefetch(places, n)
}

// prefetcher is a file that can fetch the bytes at n places at once. They are an array so
// that no call allocates.
type prefetcher interface {
	prefetch(places [xfer.PrefetchSegs]int64, n int)
}

// gap is the answer where there is no piece.
func (l *linear) gap(a remora.Addr) remora.Cause {
	if l.lost != "" && a >= l.lostFrom && a < maxPhys {
		return remora.ErrTruncated
	}
	return remora.ErrHole
}

func (l *linear) run(a remora.Addr) Run {
	i, ok := l.find(a)
	if ok {
		return l.runOf(&l.table[i], a)
	}
	first, last := remora.Addr(0), remora.MaxAddr
	if i > 0 {
		first = l.table[i-1].last + 1
	}
	if i < len(l.table) {
		last = l.table[i].first - 1
	}
	r := Run{Err: l.gap(a), Offset: -1}
	edges := [...]remora.Addr{maxPhys, l.lostFrom}
	for _, edge := range edges {
		if first < edge && edge <= a {
			first = edge
		}
		if a < edge && edge <= last {
			last = edge - 1
		}
	}
	if r.Err == remora.ErrTruncated {
		r.File, r.Rest = l.src.name, last == maxPhys-1
	}
	r.Range = span(first, last)
	return r
}

// runOf gives the run of p that holds a: all of p, unless a stream lacks some of it.
func (l *linear) runOf(p *piece, a remora.Addr) Run {
	r := Run{Range: span(p.first, p.last), File: l.src.name, Offset: -1}
	switch {
	case p.cause != 0:
		r.Err = p.cause
	case l.src.lost != nil:
		n, ok := l.src.held(p.off + int64(a-p.first))
		if !ok {
			r.Err = remora.ErrTruncated
		}
		r.Range = span(a, a+min(p.last-a, remora.Addr(n-1)))
	case l.src.place == nil:
		r.Offset = p.off
	}
	return r
}

// span is the Range from first to last, which are not the ends of the whole space: a Range
// cannot hold that.
func span(first, last remora.Addr) remora.Range {
	return remora.Range{Start: first, Size: uint64(last-first) + 1}
}

func (l *linear) writable() bool { return l.src.w != nil }

func (l *linear) close() error { return nil }

// granule is the largest power of two, up to 4096, at whose multiples all runs begin and
// end.
func (l *linear) granule() uint32 {
	if l.src.lost != nil {
		return 1
	}
	all := uint64(4096)
	for i := range l.table {
		all |= uint64(l.table[i].first) | uint64(l.table[i].last+1)
	}
	if l.lost != "" {
		all |= uint64(l.lostFrom)
	}
	return 1 << bits.TrailingZeros64(all)
}

// bounds is the Range from the first to the last address that the file has memory for.
func (l *linear) bounds() remora.Range {
	if len(l.table) == 0 {
		return remora.Range{}
	}
	return span(l.table[0].first, l.table[len(l.table)-1].last)
}

// explainGap says what is known of an address that no piece names.
func (l *linear) explainGap(cause error) error {
	if errors.Is(cause, remora.ErrTruncated) && l.lost != "" {
		return fmt.Errorf("%w: %s", cause, l.lost)
	}
	return cause
}

// explainLost says why the byte at off of a file that has its place is lost.
func (l *linear) explainLost(off int64) string {
	if _, ok := l.src.held(off); !ok {
		return fmt.Sprintf(": 0x%x of the file that %s makes is in no record of it: %v", off, l.src.name, l.src.lost)
	}
	return l.again(off)
}

// again reads the byte at off once more, for what reading says.
func (l *linear) again(off int64) string {
	var b [1]byte
	at := l.src.at(off)
	if n, err := l.src.r.ReadAt(b[:], off); n == 0 && err != nil {
		return fmt.Sprintf(": at 0x%x of %s: %v", at, l.src.name, err)
	}
	return fmt.Sprintf(": at 0x%x of %s; a second look succeeded", at, l.src.name)
}
