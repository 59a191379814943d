// SPDX-License-Identifier: Apache-2.0

package vmcore

import (
	"encoding/binary"
	"math/bits"
)

// The order in which the lengths of the code for code lengths come, and what its symbols
// from 16 on repeat (RFC 1951, 3.2.7).
var (
	precodeOrder = [19]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}
	repeatBase   = [32]int{16: 3, 17: 3, 18: 11}
	repeatBits   = [32]uint8{16: 2, 17: 3, 18: 7}
)

// setLitEntries makes the entries of literals, the end of a block and lengths, without
// the bits of the code (RFC 1951, 3.2.5).
func setLitEntries(all *[maxSymbols]uint32) {
	for i := range 256 {
		all[i] = entryLiteral | uint32(i)<<16
	}
	all[256] = entryOther | entryEnd
	base := uint32(3)
	for i := range 28 {
		extra := uint32(max(0, i/4-1))
		all[257+i] = base<<16 | extra<<8
		base += 1 << extra
	}
	all[285] = 258 << 16
	all[286], all[287] = entryOther|entryBad, entryOther|entryBad
}

// setDistEntries makes those of distances.
func setDistEntries(all *[maxDistSymbols]uint32) {
	base := uint32(1)
	for i := range 30 {
		extra := uint32(max(0, i/2-1))
		all[i] = base<<16 | extra<<8
		base += 1 << extra
	}
	all[30], all[31] = entryOther|entryBad, entryOther|entryBad
}

// table makes the table for the canonical code with these lengths, whose first look-up
// takes first bits. entries are those of the symbols; nil: the symbols themselves from
// bit 16 on. It gives false for lengths that are no code. Only one that consists of a
// single code of one bit, or of none, may leave codes without a symbol.
func (f *inflater) table(table []uint32, lens []uint8, entries []uint32, first uint) bool {
	var count, at [maxCodeLen + 2]int
	for _, n := range lens {
		count[n]++
	}
	count[0] = 0
	left, longest := 1, uint(0)
	for n := 1; n <= maxCodeLen; n++ {
		left = left*2 - count[n]
		if left < 0 {
			return false
		}
		if count[n] > 0 {
			longest = uint(n)
		}
		at[n+1] = at[n] + count[n]
	}
	if left > 0 && (longest > 1 || entries == nil) {
		return false
	}
	// The symbols by the lengths of their codes.
	next := at
	for s, n := range lens {
		if n != 0 {
			f.sorted[next[n]] = uint16(s)
			next[n]++
		}
	}
	entry := func(s uint16) uint32 {
		if entries == nil {
			return uint32(s) << 16
		}
		return entries[s]
	}
	// Codes come from the lowest bit on: a table of n bits is twice that of n-1 bits, with
	// the codes of n bits written over it.
	table[0] = entryOther | entryBad
	code, size := uint16(0), 1
	i := 0
	for n := uint(1); n <= first; n++ {
		copy(table[size:2*size], table[:size])
		size *= 2
		code <<= 1
		for range count[n] {
			table[bits.Reverse16(code)>>(16-n)] = entry(f.sorted[i]) | uint32(n)
			code++
			i++
		}
	}
	return longest <= first || f.longCodes(table, entry, code, i, first, longest, &count)
}

// longCodes adds the codes of more than first bits, each in a table for all that have the
// same first bits.
func (f *inflater) longCodes(table []uint32, entry func(uint16) uint32, code uint16, i int, first, longest uint, count *[maxCodeLen + 2]int) bool {
	start, end, prefix := 0, 1<<first, -1
	for n := first + 1; n <= longest; n++ {
		code <<= 1
		for done := range count[n] {
			rev := int(bits.Reverse16(code) >> (16 - n))
			if p := rev & (1<<first - 1); p != prefix {
				prefix = p
				// As many bits as it takes for the codes that follow to fill the table.
				more := n - first
				for used := count[n] - done; used < 1<<more && first+more < longest; {
					more++
					used = used*2 + count[first+more]
				}
				start = end
				if end += 1 << more; end > len(table) {
					return false
				}
				table[prefix] = entryOther | uint32(start)<<16 | uint32(more)<<8 | uint32(first)
			}
			e := entry(f.sorted[i]) | uint32(n-first)
			for k := start + rev>>first; k < end; k += 1 << (n - first) {
				table[k] = e
			}
			code++
			i++
		}
	}
	return true
}

// Room that the fast loop needs: two literals, which come before what is held against the
// length of the page, and three refills. Behind the page it may write a longest match, and
// what is copied beyond.
const (
	fastOut   = 2
	fastIn    = 24
	fastSlack = 258 + 16
)

// roomy says whether there is that room.
func (f *inflater) roomy() bool { return len(f.src)-f.pos >= fastIn && f.want-f.out >= fastOut }

// block makes what a block of Huffman codes gives.
func (f *inflater) block(lit *[litSize]uint32, dist *[distSize]uint32) error {
	for {
		if f.roomy() {
			if end, err := f.fast(lit, dist); end || err != nil {
				return err
			}
		}
		if end, err := f.slow(lit, dist); end || err != nil {
			return err
		}
	}
}

// fast makes symbols while there is room, without a look at the ends of input and output.
// The next symbol is looked up before a match is copied: neither waits for the other.
func (f *inflater) fast(lit *[litSize]uint32, dist *[distSize]uint32) (end bool, err error) {
	src, dst := f.src, f.dst
	pos, b, have, out := f.pos, f.bits, f.have, f.out
	lastIn, lastOut := len(src)-fastIn, f.want-fastOut
	b, pos, have = fill(src, b, pos, have)
	e := lit[b&(1<<litBits-1)]
	for pos <= lastIn && out <= lastOut {
		// Three literals leave enough for the code of a length.
		if e&entryLiteral != 0 {
			b, have = b>>(e&63), have-uint(e&0xff)
			dst[out] = byte(e >> 16)
			out++
			e = lit[b&(1<<litBits-1)]
			if e&entryLiteral != 0 {
				b, have = b>>(e&63), have-uint(e&0xff)
				dst[out] = byte(e >> 16)
				out++
				e = lit[b&(1<<litBits-1)]
				if e&entryLiteral != 0 {
					b, have = b>>(e&63), have-uint(e&0xff)
					dst[out] = byte(e >> 16)
					out++
					b, pos, have = fill(src, b, pos, have)
					e = lit[b&(1<<litBits-1)]
					continue
				}
			}
		}
		if e&entryOther != 0 {
			if e&(entryEnd|entryBad) == 0 {
				b, have = b>>(e&63), have-uint(e&0xff)
				e = lit[(uint64(e>>16)+b&(1<<(e>>8&15)-1))&(litSize-1)]
			}
			if e&entryOther != 0 {
				if e&entryBad != 0 {
					return false, errInflateBlock
				}
				b, have = b>>(e&63), have-uint(e&0xff)
				end = true
				break
			}
			if e&entryLiteral != 0 {
				b, have = b>>(e&63), have-uint(e&0xff)
				dst[out] = byte(e >> 16)
				out++
				b, pos, have = fill(src, b, pos, have)
				e = lit[b&(1<<litBits-1)]
				continue
			}
		}
		extra := e >> 8 & 31
		n := int(e>>16) + int(b>>(e&63)&(1<<extra-1))
		both := uint(e&0xff) + uint(extra)
		b, have = b>>(both&63), have-both

		if have < maxCodeLen+13 {
			b, pos, have = fill(src, b, pos, have)
		}
		d := dist[b&(1<<distBits-1)]
		if d&entryOther != 0 {
			if d&entryBad == 0 {
				b, have = b>>(d&63), have-uint(d&0xff)
				d = dist[(uint64(d>>16)+b&(1<<(d>>8&15)-1))&(distSize-1)]
			}
			if d&entryOther != 0 {
				return false, errInflateBlock
			}
		}
		extra = d >> 8 & 31
		back := int(d>>16) + int(b>>(d&63)&(1<<extra-1))
		both = uint(d&0xff) + uint(extra)
		b, have = b>>(both&63), have-both
		if back > out {
			return false, errInflateDistance
		}
		b, pos, have = fill(src, b, pos, have)
		e = lit[b&(1<<litBits-1)]
		from, stop := out-back, out+n
		if back < 8 {
			for ; out < stop; out, from = out+1, from+1 {
				dst[out] = dst[from]
			}
			continue
		}
		// Most matches are that short.
		setWord(dst, out, word(dst, from))
		setWord(dst, out+8, word(dst, from+8))
		for out, from = out+16, from+16; out < stop; out, from = out+8, from+8 {
			setWord(dst, out, word(dst, from))
		}
		out = stop
	}
	f.pos, f.bits, f.have, f.out = pos, b, have, out
	if out > f.want {
		return false, errInflatedLong
	}
	return end, nil
}

// fill gets 56 bits or more: 8 bytes at pos are there.
func fill(src []byte, b uint64, pos int, have uint) (uint64, int, uint) {
	return b | word(src, pos)<<(have&63), pos + int((63-have)>>3), have | 56
}

// word gives the 8 bytes at i, by the form that takes the fewest checks.
func word(b []byte, i int) uint64 { return binary.LittleEndian.Uint64(b[i : i+8 : i+8]) }

func setWord(b []byte, i int, v uint64) { binary.LittleEndian.PutUint64(b[i:i+8:i+8], v) }

// slow makes symbols near the ends of input and output, and returns when there is room for
// fast again.
func (f *inflater) slow(lit *[litSize]uint32, dist *[distSize]uint32) (end bool, err error) {
	for {
		e, ok := f.symbol(lit[:], litBits)
		switch {
		case !ok:
			return false, errInflateShort
		case e&entryBad != 0 && e&entryOther != 0:
			return false, errInflateBlock
		case e&entryLiteral != 0:
			if f.out == f.want {
				return false, errInflatedLong
			}
			f.dst[f.out] = byte(e >> 16)
			f.out++
			continue
		case e&entryOther != 0:
			return true, nil
		}
		n, ok := f.extra(e)
		if !ok {
			return false, errInflateShort
		}
		d, ok := f.symbol(dist[:], distBits)
		switch {
		case !ok:
			return false, errInflateShort
		case d&entryOther != 0:
			return false, errInflateBlock
		}
		back, ok := f.extra(d)
		switch {
		case !ok:
			return false, errInflateShort
		case back > f.out:
			return false, errInflateDistance
		case n > f.want-f.out:
			return false, errInflatedLong
		}
		for stop := f.out + n; f.out < stop; f.out++ {
			f.dst[f.out] = f.dst[f.out-back]
		}
		if f.roomy() {
			return false, nil
		}
	}
}

// symbol takes a code. It gives false where the input ends before it does.
func (f *inflater) symbol(table []uint32, first uint) (uint32, bool) {
	f.refill()
	e := table[f.bits&(1<<first-1)]
	if e&entryOther != 0 && e&(entryEnd|entryBad) == 0 {
		if f.have < first {
			return 0, false
		}
		f.take(first)
		e = table[uint64(e>>16)+f.bits&(1<<(e>>8&15)-1)]
	}
	if uint(e&0xff) > f.have {
		return 0, false
	}
	f.take(uint(e & 0xff))
	return e, true
}

// extra takes the extra bits of a length or a distance.
func (f *inflater) extra(e uint32) (int, bool) {
	n := uint(e >> 8 & 31)
	if f.have < n {
		if f.refill(); f.have < n {
			return 0, false
		}
	}
	return int(e>>16) + int(f.take(n)), true
}
