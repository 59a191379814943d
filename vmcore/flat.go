// SPDX-License-Identifier: Apache-2.0

package vmcore

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"sort"
	"sync/atomic"

	"github.com/remora-go/remora"
)

// The flattened format of makedumpfile -F, and of QEMU: a block with the mark, then
// records of an offset and a size, both big-endian, and that many bytes, which belong at
// the offset of the file meant. Offset and size -1 end the stream. Of records that
// overlap the last one counts, and what is in none is zeros.
const (
	flatHead       = 4096 // bytes before the first record
	flatRecordHead = 16
	flatMostOff    = 1 << 48
	flatReach      = 1024    // times its own length is what a stream can hold, and 1 MiB: the rest are zeros
	flatMost       = 1 << 28 // records
)

// isFlat says whether a file that begins with b is a flattened stream.
func isFlat(b []byte) bool { return bytes.HasPrefix(b, []byte("makedumpfile\x00\x00\x00\x00")) }

// flatPiece is a record, or what later ones leave of it, in 16 bytes: two offsets of 48
// bits, of the contents and of the stream, and a size of 32.
type flatPiece struct{ a, b uint64 }

func newFlatPiece(off, at int64, size uint32) flatPiece {
	return flatPiece{uint64(off)<<16 | uint64(size)>>16, uint64(at)<<16 | uint64(size)&0xffff}
}
func (p flatPiece) off() int64  { return int64(p.a >> 16) }
func (p flatPiece) at() int64   { return int64(p.b >> 16) }
func (p flatPiece) size() int64 { return int64(p.a&0xffff<<16 | p.b&0xffff) }
func (p flatPiece) end() int64  { return p.off() + p.size() }

// flat is the contents of a flattened stream, as an io.ReaderAt: pieces in order that do
// not overlap.
type flat struct {
	src    *source
	pieces []flatPiece
	size   int64
	last   atomic.Int64 // the piece that was read last
}

// unwrapFlat gives the contents of the flattened stream src. It reads the stream's record
// headers once, and keeps 16 bytes for each record; no contents are copied. A stream
// without an end gives what there is, and its source says that the rest is lost.
func unwrapFlat(src *source) (*source, error) {
	var head [32]byte
	n, err := src.readSome(head[:], 0, anImage)
	if err != nil {
		return nil, err
	}
	if !isFlat(head[:n]) {
		return nil, src.bad(0, remora.ErrUnrecognized, `"makedumpfile"`, fmt.Sprintf("%q", head[:min(n, 16)]))
	}
	if n < len(head) || src.size < flatHead {
		return nil, src.cut(src.size, fmt.Sprintf("a header of %d bytes", flatHead))
	}
	for i, name := range []string{"type", "version"} {
		if v := int64(binary.BigEndian.Uint64(head[16+8*i:])); v != 1 {
			return nil, src.bad(int64(16+8*i), remora.ErrCorrupt, name+" 1 of a flattened stream", fmt.Sprint(v))
		}
	}
	f := &flat{src: src}
	lost, err := f.scan()
	if err != nil {
		return nil, err
	}
	f.settle()
	out := &source{name: src.name, size: f.size, r: f, flat: true, place: f.place}
	if lost != nil {
		out.lost = lost
	}
	return out, nil
}

// scan reads the record headers. It gives why the stream ends before its end record, nil
// if it does not.
func (f *flat) scan() (lost *remora.FormatError, err error) {
	w := flatWindow{src: f.src.unmapped()}
	// What a file can claim is bounded by its length, so that of a stream's contents must
	// be bounded too.
	reach := int64(min(1<<20+flatReach*uint64(f.src.size), flatMostOff-1))
	for at := int64(flatHead); ; {
		head, err := w.read(at)
		if err != nil {
			return nil, err
		}
		if len(head) < flatRecordHead {
			return f.src.bad(at, remora.ErrTruncated, "a record or the end record of a flattened stream", f.src.end()), nil
		}
		off, size := int64(binary.BigEndian.Uint64(head)), int64(binary.BigEndian.Uint64(head[8:]))
		switch {
		case off == -1 && size == -1:
			return nil, nil
		case off == 0 && size == 0: // as of a copy that was given its size before its bytes
			return f.src.bad(at, remora.ErrTruncated, "a record or the end record of a flattened stream", "zeros"), nil
		case at > flatMostOff:
			return nil, f.src.bad(at, remora.ErrCorrupt, "a stream of at most 2^48 bytes", "more")
		case off < 0 || off > reach:
			return nil, f.src.bad(at, remora.ErrCorrupt, fmt.Sprintf("a record's offset from 0 to 0x%x, or -1 and the size -1", reach), fmt.Sprint(off))
		case size < 0 || size > reach-off:
			return nil, f.src.bad(at+8, remora.ErrCorrupt, fmt.Sprintf("a record's size that ends at 0x%x at most", reach), fmt.Sprint(size))
		case len(f.pieces) >= flatMost:
			return nil, f.src.bad(at, remora.ErrCorrupt, fmt.Sprintf("at most %d records", flatMost), "more")
		}
		at += flatRecordHead
		have := min(size, f.src.size-at)
		f.add(off, at, have)
		if have < size {
			return f.src.bad(at+have, remora.ErrTruncated, fmt.Sprintf("%d bytes of a record", size), f.src.end()), nil
		}
		at += size
	}
}

// add puts a record, or a few that are shorter, behind the pieces.
func (f *flat) add(off, at, size int64) {
	f.size = max(f.size, off+size)
	for size > 0 {
		n := min(size, 1<<31)
		f.pieces = append(f.pieces, newFlatPiece(off, at, uint32(n)))
		off, at, size = off+n, at+n, size-n
	}
}

// settle sorts the pieces and cuts off what later records overwrite.
func (f *flat) settle() {
	byOff := func(a, b flatPiece) int { return cmp.Compare(a.off(), b.off()) }
	if !slices.IsSortedFunc(f.pieces, byOff) {
		// Later ones lie later in the stream.
		slices.SortFunc(f.pieces, func(a, b flatPiece) int { return cmp.Or(byOff(a, b), cmp.Compare(a.at(), b.at())) })
	}
	for i := 1; i < len(f.pieces); i++ {
		if f.pieces[i-1].end() > f.pieces[i].off() {
			f.pieces = overwrite(f.pieces)
			break
		}
	}
	if cap(f.pieces) > len(f.pieces)+len(f.pieces)/64 {
		f.pieces = append(make([]flatPiece, 0, len(f.pieces)), f.pieces...)
	}
}

// overwrite gives pieces, sorted by their offset, without overlaps: of two the one that
// lies later in the stream keeps what both have. It goes through the ends of pieces in
// order and keeps those that are open in a heap, the latest first.
func overwrite(pieces []flatPiece) []flatPiece {
	out := make([]flatPiece, 0, len(pieces)+len(pieces)/8)
	var open flatHeap
	at := int64(0)
	emit := func(to int64) { // what lies between at and to, of the latest
		for at < to && len(open) > 0 {
			p := open[0]
			if p.end() <= at {
				open.pop()
				continue
			}
			n := min(to, p.end()) - at
			piece := newFlatPiece(at, p.at()+at-p.off(), uint32(n))
			if k := len(out) - 1; k >= 0 && out[k].end() == at && out[k].at()+out[k].size() == piece.at() && out[k].size()+n < 1<<32 {
				out[k] = newFlatPiece(out[k].off(), out[k].at(), uint32(out[k].size()+n))
			} else {
				out = append(out, piece)
			}
			at += n
		}
		at = to
	}
	for _, p := range pieces {
		emit(p.off())
		open.push(p)
	}
	emit(1<<63 - 1)
	return out
}

// flatHeap is a heap of pieces, the one that lies latest in the stream at its root.
type flatHeap []flatPiece

func (h *flatHeap) push(p flatPiece) {
	*h = append(*h, p)
	s := *h
	for i := len(s) - 1; i > 0; {
		up := (i - 1) / 2
		if s[up].at() >= s[i].at() {
			return
		}
		s[up], s[i] = s[i], s[up]
		i = up
	}
}

func (h *flatHeap) pop() {
	s := *h
	n := len(s) - 1
	s[0] = s[n]
	s = s[:n]
	*h = s
	for i := 0; ; {
		child := 2*i + 1
		if child+1 < n && s[child+1].at() > s[child].at() {
			child++
		}
		if child >= n || s[i].at() >= s[child].at() {
			return
		}
		s[i], s[child] = s[child], s[i]
		i = child
	}
}

// find gives the first piece that ends behind off.
func (f *flat) find(off int64) int {
	if i := int(f.last.Load()); i < len(f.pieces) && f.pieces[i].off() <= off {
		for range 2 {
			if off < f.pieces[i].end() {
				return i
			}
			if i++; i == len(f.pieces) || off < f.pieces[i].off() {
				return i
			}
		}
	}
	return sort.Search(len(f.pieces), func(i int) bool { return f.pieces[i].end() > off })
}

// flatTogether is how long records are that are read along with their neighbours.
const flatTogether = 16 << 10

// ReadAt reads the contents as io.ReaderAt says.
func (f *flat) ReadAt(b []byte, off int64) (int, error) {
	if off < 0 || off >= f.size {
		return 0, io.EOF
	}
	short := int64(len(b)) > f.size-off
	if short {
		b = b[:f.size-off]
	}
	n, i := 0, f.find(off)
	for n < len(b) {
		at := off + int64(n)
		if i == len(f.pieces) || f.pieces[i].off() > at {
			end := f.size
			if i < len(f.pieces) {
				end = f.pieces[i].off()
			}
			gap := min(end-at, int64(len(b)-n))
			clear(b[n : n+int(gap)])
			n += int(gap)
			continue
		}
		got, next, err := f.readPieces(b[n:], at, i)
		if n += got; err != nil {
			return n, err
		}
		f.last.Store(int64(min(next, len(f.pieces)-1)))
		i = next
	}
	if short {
		return n, io.EOF
	}
	return n, nil
}

// readPieces reads at off, which piece i holds, up to the end of the piece at least, or
// of b. Short pieces whose records follow one another are read at once, with the headers
// between them, which are then closed up. It gives the piece that holds what follows.
func (f *flat) readPieces(b []byte, off int64, i int) (n, next int, err error) {
	p := f.pieces[i]
	at := p.at() + off - p.off()
	n = int(min(p.end()-off, int64(len(b))))
	last := i
	for span := n; n < len(b) && last+1 < len(f.pieces); {
		q, r := f.pieces[last], f.pieces[last+1]
		if r.off() != q.end() || r.at() != q.at()+q.size()+flatRecordHead || r.size() > flatTogether {
			break
		}
		// The headers are read into b too.
		span += flatRecordHead + int(r.size())
		if span > len(b) {
			break
		}
		n += int(r.size())
		last++
	}
	span := n + (last-i)*flatRecordHead
	got, err := f.src.r.ReadAt(b[:span], at)
	if got < span {
		if err == nil || err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return min(got, int(min(p.end()-off, int64(got)))), i, err
	}
	to := int(min(p.end()-off, int64(n)))
	for k := i + 1; k <= last; k++ {
		from := to + (k-i)*flatRecordHead
		to += copy(b[to:], b[from:from+int(f.pieces[k].size())])
	}
	if off+int64(n) == f.pieces[last].end() {
		last++
	}
	return n, last, nil
}

// place gives the offset in the stream of the byte at off of the contents; that of the
// next record, or the end of the stream, for one that no record holds.
func (f *flat) place(off int64) int64 {
	i := f.find(max(off, 0))
	if i == len(f.pieces) {
		return f.src.size
	}
	return f.pieces[i].at() + max(0, off-f.pieces[i].off())
}

// flatWindow reads record headers. It reads ahead where the records are short.
type flatWindow struct {
	src  *source
	buf  []byte
	have []byte // of buf
	off  int64  // of have
	last int64  // of the last header
}

// read gives the 16 bytes at off, or fewer at the end of the stream. They hold until the
// next call.
func (w *flatWindow) read(off int64) ([]byte, error) {
	if in := off - w.off; in < 0 || in+flatRecordHead > int64(len(w.have)) {
		size := 64
		if w.buf == nil {
			w.buf = make([]byte, 128<<10)
		} else if jump := off - w.last; jump < 8<<10 {
			size = len(w.buf)
		}
		n, err := w.src.readSome(w.buf[:size], off, "a record of a flattened stream")
		if err != nil && n < flatRecordHead {
			return nil, err
		}
		w.have, w.off = w.buf[:n], off
	}
	w.last = off
	b := w.have[off-w.off:]
	return b[:min(len(b), flatRecordHead)], nil
}
