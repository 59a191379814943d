// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/remora-go/remora"
)

// What the tables of kallsyms may be like, to be believed.
const (
	tokenCount = 256
	maxTokens  = 64 << 10      // bytes of the token table, whose index is of 16 bits
	minStep    = 2 * perMarker // bytes from a marker to the next
	maxStep    = 512 * perMarker
	maxNames   = 64 << 20
	nearNames  = 6 << 20 // before the tokens, of what is read at first
	minSymbols = 1000
	maxMarkers = 64 // runs of them that are tried, the longest ones first
	maxRuns    = 1 << 16
)

// kallsymsScan is a search for the tables of a kernel's own symbols, by physical addresses:
// they are in its image, which is in one piece.
type kallsymsScan struct{ kallsymsAt }

// findKallsyms finds the tables whose tokens for the digits are at a physical address. The
// error says what they are not like.
func findKallsyms(ctx context.Context, phys remora.Space, digitsAt remora.Addr) (*kallsyms, error) {
	k := &kallsymsScan{kallsymsAt: kallsymsAt{mem: remora.New(phys)}}
	if err := k.findTokens(ctx, phys, digitsAt); err != nil {
		return nil, err
	}
	var err error
	for _, size := range []uint64{nearNames, maxNames} {
		w := windowBefore(ctx, phys, k.tokens, size)
		if err = k.findNames(w); err == nil {
			return k.open(ctx, phys)
		}
		if uint64(len(w.b)) < size {
			break // there is no more
		}
	}
	return nil, err
}

// findTokens looks at what stands behind the tokens for the digits: the other ones, and
// the index of all.
func (k *kallsymsScan) findTokens(ctx context.Context, phys remora.Space, at remora.Addr) error {
	var err error
	for _, size := range []int{8 << 10, maxTokens} {
		b := windowAt(ctx, phys, at, uint64(size+16+2*tokenCount)).b
		if err = k.tokensIn(b, at); err == nil || !errors.Is(err, errShort) {
			break
		}
	}
	return err
}

// errShort says that the tokens do not end in what was read, errNoTokens that there are
// none, as in most places where there are digits.
var (
	errNoTokens = errors.New("no tokens with an index behind them")
	errShort    = fmt.Errorf("%w: it is too short", errNoTokens)
)

// tokensIn looks for the tokens, and the index, in the memory at an address.
func (k *kallsymsScan) tokensIn(b []byte, at remora.Addr) error {
	var offs [tokenCount - '0']int
	pos := 0
	for i := range offs {
		offs[i] = pos
		n := bytes.IndexByte(b[pos:], 0)
		if n < 0 || pos+n >= maxTokens {
			return errShort
		}
		pos += n + 1
	}
	if len(b)-pos < 16+2*tokenCount {
		return errShort
	}
	for pad := range 16 {
		if uint64(at)+uint64(pos+pad)&1 == 1 {
			continue
		}
		index := b[pos+pad:]
		entry := func(i int) int { return int(binary.LittleEndian.Uint16(index[2*i:])) }
		digit, fits := entry('0'), entry(0) == 0
		for i := 0; i < len(offs) && fits; i++ {
			fits = entry('0'+i) == digit+offs[i]
		}
		for i := 1; i <= '0' && fits; i++ {
			fits = entry(i) > entry(i-1)
		}
		if fits && uint64(digit) <= uint64(at) && (uint64(at)-uint64(digit))%4 == 0 {
			k.tokens, k.index = at-remora.Addr(digit), at+remora.Addr(pos+pad)
			return nil
		}
	}
	return errNoTokens
}

// window is a piece of memory.
type window struct {
	at remora.Addr
	b  []byte
}

// windowAt gives up to size bytes from at on: as many as can be read.
func windowAt(ctx context.Context, phys remora.Space, at remora.Addr, size uint64) window {
	w := window{at, make([]byte, size)}
	segs := [1]remora.Seg{{Addr: at, Buf: w.b}}
	_, _ = phys.Transfer(ctx, remora.Read, segs[:]) // it is in the segment
	w.b = w.b[:segs[0].N]
	return w
}

// windowBefore gives up to size bytes that end at end: as many as can be read in one piece.
func windowBefore(ctx context.Context, phys remora.Space, end remora.Addr, size uint64) window {
	size = min(size, uint64(end))
	w := window{end, nil}
	buf := make([]byte, size)
	const most, page = 256 << 10, 4096
	for piece := uint64(most); size > 0 && ctx.Err() == nil; {
		n := min(size, piece)
		if piece == page { // the page before
			n = min(size, (uint64(w.at)-1)%page+1)
		}
		part := windowAt(ctx, phys, w.at-remora.Addr(n), n)
		if uint64(len(part.b)) < n {
			if piece == page {
				break
			}
			piece = page
			continue
		}
		size -= n
		copy(buf[size:], part.b)
		w.at -= remora.Addr(n)
	}
	w.b = buf[size:]
	return w
}

// findNames finds the markers and the names in the memory before the tokens. Between the
// markers and the tokens there may be the order of the names, of three or four bytes each.
func (k *kallsymsScan) findNames(w window) error {
	type run struct{ start, end, size int }
	var runs []run
	for _, size := range []int{4, 8} {
		for phase := len(w.b) % 4; phase < size; phase += 4 {
			for m := range markers(w.b, phase, size) {
				n, gap := (m[1]-m[0])/size, len(w.b)-m[1]
				within := func(each int) bool { return gap > each*(n-1)*perMarker && gap <= each*n*perMarker+16 }
				if n >= minSymbols/perMarker && (gap <= 16 || within(3) || within(4)) && len(runs) < maxRuns {
					runs = append(runs, run{m[0], m[1], size})
				}
			}
		}
	}
	slices.SortFunc(runs, func(a, b run) int { return (b.end-b.start)/b.size - (a.end-a.start)/a.size })
	for _, r := range runs[:min(len(runs), maxMarkers)] {
		k.markers, k.wide = w.at+remora.Addr(r.start), r.size == 8
		if k.namesBefore(w, r.start, r.end, r.size) {
			return nil
		}
	}
	if len(runs) > 0 {
		return fmt.Errorf("no names that the markers before the tokens fit")
	}
	return fmt.Errorf("no markers before the tokens")
}

// markers gives all runs of integers of a size that may be markers: the first one is 0, and
// the steps are not too small and not too large. A run that goes on is given at each
// length.
func markers(b []byte, phase, size int) func(func([2]int) bool) {
	return func(yield func([2]int) bool) {
		start, last := -1, uint64(0)
		for at := phase; at+size <= len(b); at += size {
			v := uint64(binary.LittleEndian.Uint32(b[at:]))
			if size == 8 {
				v = binary.LittleEndian.Uint64(b[at:])
			}
			switch {
			case v == 0:
				start = at
			case start < 0:
			case v < last+minStep || v > last+maxStep || v > maxNames:
				start = -1
			case !yield([2]int{start, at + size}):
				return
			}
			last = v
		}
	}
}

// namesBefore finds the names that end where the markers begin, and before them how many
// they are.
func (k *kallsymsScan) namesBefore(w window, start, end, size int) bool {
	behind := binary.LittleEndian.Uint32(w.b[end-size:])
	if uint64(behind) > uint64(start) {
		return false
	}
	last := int(behind)
	marks := (end - start) / size
	for at := (start - last - 2) &^ 3; at >= 4 && at >= start-last-maxStep-16; at -= 4 {
		for back := 4; back <= min(8, at); back += 4 {
			n := int(binary.LittleEndian.Uint32(w.b[at-back:]))
			if n < minSymbols || n > maxKallsyms || (n+perMarker-1)/perMarker != marks {
				continue
			}
			for _, plain := range []bool{false, true} {
				if walkNames(w.b[at:start], w.b[start:end], n, size, plain) {
					k.count, k.names = uint64(n), w.at+remora.Addr(at)
					return true
				}
			}
		}
	}
	return false
}

// walkNames says whether n names meet every marker, and end where the markers begin.
func walkNames(names, markers []byte, n, size int, plain bool) bool {
	rest := names
	for i := range n {
		pos := len(names) - len(rest)
		if i%perMarker == 0 && uint64(pos) != uint64(binary.LittleEndian.Uint32(markers[i/perMarker*size:])) {
			return false
		}
		var name []byte
		if name, rest = nextName(rest, plain); len(name) == 0 {
			return false
		}
	}
	return len(rest) < 8
}
