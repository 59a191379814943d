// SPDX-License-Identifier: Apache-2.0

package vmcore

import (
	"context"
	"encoding/binary"
	"math/bits"
	"sync"
	"sync/atomic"
)

// The pieces of a bitmap, in bits, and the most of one that is kept in memory.
const (
	rankRegion     = 1 << 20 // 128 KiB of bitmap, 4 GiB of memory with pages of 4 KiB
	rankGroup      = 1 << 10
	rankGroupBytes = rankGroup / 8
	rankKept       = 8 << 20 // bytes: 256 GiB of memory with pages of 4 KiB
)

// rankBits is a bitmap in a file, one bit a page, the lowest bit of a byte first, with
// a table of ranks: how many bits are set below.
//
// Nothing is read before it is asked for. Then the bitmap is read once, from the start
// up to the region asked for, and of each region of 2^20 bits is kept: nothing but its
// rank where all its bits are alike; else a rank of 4 bytes for each 1,024 bits, which
// is a 32nd of the bitmap, and the bits themselves while they come to 8 MiB at most.
// Beyond that, bits are read in place, 128 bytes a look.
type rankBits struct {
	src *source
	off int64
	n   uint64 // bits

	built  atomic.Int64 // regions that are known; they do not change any more
	mu     sync.Mutex   // for what follows, and to build
	pieces []*rankPieces
	kept   int
}

// rankPieces are regions that follow one another. They are made when they are needed: a
// header can claim a million of regions.
type rankPieces [256]rankPiece

// rankPiece is a region. A uniform one has no ranks.
type rankPiece struct {
	base  uint64 // bits set below the region
	set   uint32 // bits set in it
	ranks []uint32
	bits  []byte // nil: in the file
}

// rankBuffers hold a region of a bitmap, or a group of one.
var (
	rankBuffers = sync.Pool{New: func() any { return new([rankRegion / 8]byte) }}
	rankGroups  = sync.Pool{New: func() any { return new([rankGroupBytes]byte) }}
)

// piece gives the region r, which must lie within n.
func (b *rankBits) piece(ctx context.Context, r int64) (*rankPiece, error) {
	if r >= b.built.Load() {
		if err := b.build(ctx, r); err != nil {
			return nil, err
		}
	}
	return b.at(r), nil
}

// at gives region r, which is known or about to be.
func (b *rankBits) at(r int64) *rankPiece {
	return &b.pieces[r/int64(len(rankPieces{}))][r%int64(len(rankPieces{}))]
}

// length is how many bits region r has.
func (b *rankBits) length(r int64) uint64 { return min(rankRegion, b.n-uint64(r)*rankRegion) }

func (b *rankBits) build(ctx context.Context, last int64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.pieces == nil {
		b.pieces = make([]*rankPieces, b.n/(rankRegion*uint64(len(rankPieces{})))+1)
	}
	buf := rankBuffers.Get().(*[rankRegion / 8]byte)
	defer rankBuffers.Put(buf)
	for r := b.built.Load(); r <= last; r++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := b.buildPiece(r, buf); err != nil {
			return err
		}
		b.built.Store(r + 1)
	}
	return nil
}

func (b *rankBits) buildPiece(r int64, buf *[rankRegion / 8]byte) error {
	n := b.length(r)
	raw := buf[:(n+7)/8]
	if err := b.src.load(raw, b.off+r*int64(len(buf))); err != nil {
		return err
	}
	if rest := n % 8; rest != 0 {
		raw[len(raw)-1] &= 1<<rest - 1
	}
	clear(buf[len(raw):])
	if i := r / int64(len(rankPieces{})); b.pieces[i] == nil {
		b.pieces[i] = new(rankPieces)
	}
	p := b.at(r)
	if r > 0 {
		p.base = b.at(r-1).base + uint64(b.at(r-1).set)
	}
	groups := int((n + rankGroup - 1) / rankGroup)
	var ranks [rankRegion / rankGroup]uint32
	p.set = 0
	for g := range groups {
		ranks[g] = p.set
		p.set += uint32(ones(buf[g*rankGroupBytes:][:rankGroupBytes]))
	}
	if p.set == 0 || uint64(p.set) == n {
		return nil
	}
	p.ranks = append([]uint32(nil), ranks[:groups]...)
	if size := groups * rankGroupBytes; b.kept+size <= rankKept {
		p.bits = append([]byte(nil), buf[:size]...)
		b.kept += size
	}
	return nil
}

// ones counts the bits set in b, whose length is a multiple of 8.
func ones(b []byte) int {
	n := 0
	for ; len(b) >= 8; b = b[8:] {
		n += bits.OnesCount64(binary.LittleEndian.Uint64(b))
	}
	return n
}

// group gives the bits of group g of region r, from memory or in buf.
func (b *rankBits) group(p *rankPiece, r int64, g uint64, buf *[rankGroupBytes]byte) ([]byte, error) {
	if p.bits != nil {
		return p.bits[g*rankGroupBytes:][:rankGroupBytes], nil
	}
	at := uint64(r)*rankRegion + g*rankGroup
	n := min(rankGroup, b.n-at)
	raw := buf[:(n+7)/8]
	if err := b.src.load(raw, b.off+int64(at/8)); err != nil {
		return nil, err
	}
	if rest := n % 8; rest != 0 {
		raw[len(raw)-1] &= 1<<rest - 1
	}
	clear(buf[len(raw):])
	return buf[:], nil
}

// look gives bit i, which is clear from n on, and how many are set below it.
func (b *rankBits) look(ctx context.Context, i uint64) (set bool, rank uint64, err error) {
	if i >= b.n {
		r := int64(b.n-1) / rankRegion
		p, err := b.piece(ctx, r)
		if err != nil {
			return false, 0, err
		}
		return false, p.base + uint64(p.set), nil
	}
	r, in := int64(i/rankRegion), i%rankRegion
	p, err := b.piece(ctx, r)
	if err != nil {
		return false, 0, err
	}
	if p.ranks == nil {
		if p.set == 0 {
			return false, p.base, nil
		}
		return true, p.base + in, nil
	}
	g := in / rankGroup
	var buf *[rankGroupBytes]byte
	if p.bits == nil {
		buf = rankGroups.Get().(*[rankGroupBytes]byte)
		defer rankGroups.Put(buf)
	}
	raw, err := b.group(p, r, g, buf)
	if err != nil {
		return false, 0, err
	}
	word := in % rankGroup / 64 * 8
	w := binary.LittleEndian.Uint64(raw[word:])
	rank = p.base + uint64(p.ranks[g]) + uint64(ones(raw[:word])) + uint64(bits.OnesCount64(w&(1<<(i%64)-1)))
	return w>>(i%64)&1 != 0, rank, nil
}

// lostTo gives the end of a run of bits that cannot be read, as bit i cannot: all of them
// where the file ends before, and some where it could not be read.
func (b *rankBits) lostTo(i uint64) uint64 {
	if b.off+int64(i/rankRegion*(rankRegion/8)) >= b.src.size-rankRegion/8 {
		return b.n
	}
	return min((i/rankRegion+1)*rankRegion, b.n)
}

// span gives bit i, which must lie within n, and the end of a run of bits like it:
// that of the longest one, or less where that needs another look at the file.
func (b *rankBits) span(ctx context.Context, i uint64) (set bool, end uint64, err error) {
	r, in := int64(i/rankRegion), i%rankRegion
	p, err := b.piece(ctx, r)
	if err != nil {
		return false, 0, err
	}
	start, n := uint64(r)*rankRegion, b.length(r)
	if p.ranks == nil {
		return p.set != 0, start + n, nil
	}
	if p.bits != nil {
		set, in = sameBits(p.bits, in)
		return set, start + min(in, n), nil
	}
	buf := rankGroups.Get().(*[rankGroupBytes]byte)
	defer rankGroups.Put(buf)
	g := in / rankGroup
	raw, err := b.group(p, r, g, buf)
	if err != nil {
		return false, 0, err
	}
	set, in = sameBits(raw, in%rankGroup)
	return set, start + min(g*rankGroup+in, n), nil
}

// sameBits gives bit i of b and the end of the run of bits like it. The length of b is
// a multiple of 8.
func sameBits(b []byte, i uint64) (set bool, end uint64) {
	flip := uint64(0)
	w := binary.LittleEndian.Uint64(b[i/64*8:])
	if w>>(i%64)&1 != 0 {
		set, flip = true, ^uint64(0)
	}
	w = (w ^ flip) &^ (1<<(i%64) - 1)
	at := i / 64 * 8
	for w == 0 {
		if at += 8; at == uint64(len(b)) {
			return set, at * 8
		}
		w = binary.LittleEndian.Uint64(b[at:]) ^ flip
	}
	return set, at*8 + uint64(bits.TrailingZeros64(w))
}
