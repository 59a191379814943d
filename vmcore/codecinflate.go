// SPDX-License-Identifier: Apache-2.0

package vmcore

import (
	"encoding/binary"
	"errors"
)

// inflater inflates zlib streams (RFC 1950, 1951) whose length is known: pages. Being
// given all of the input and all of the output it needs neither windows nor state between
// calls, and takes half the time of a reader.
//
// Symbols are looked up in tables of 32-bit entries. The low byte of an entry is the
// number of bits of the code. A literal has bit 31 and the byte from bit 16 on; a length
// or a distance its base from bit 16 and the number of extra bits from bit 8 on. Bit 15
// marks the rest: a longer code, with the place and the bits of its own table in the same
// fields; the end of the block; or no code at all.
type inflater struct {
	src  []byte
	pos  int    // of the next byte that is not in bits
	bits uint64 // from the lowest on; what lies above have is not wrong
	have uint   // how many of bits count

	dst  []byte // kept, with room behind the page
	want int    // bytes of the page
	out  int    // bytes made

	lit    [litSize]uint32 // of the block
	dist   [distSize]uint32
	isLast bool

	ready       bool // the next two are made: they never change
	litEntries  [maxSymbols]uint32
	distEntries [maxDistSymbols]uint32
	fixed       bool // and these
	fixedLit    [litSize]uint32
	fixedDist   [distSize]uint32

	sorted [maxSymbols]uint16
	lens   [maxSymbols + maxDistSymbols + 138]uint8
	order  [1 << precodeBits]uint32
}

const (
	litBits     = 10 // of a first look-up
	distBits    = 8
	precodeBits = 7
	litSize     = 2048 // entries; 1334 are the most that a code for 288 symbols needs
	distSize    = 512  // 402 for 32

	maxSymbols     = 288
	maxDistSymbols = 32
	maxCodeLen     = 15

	entryLiteral = 1 << 31
	entryOther   = 1 << 15
	entryEnd     = 1 << 14
	entryBad     = 1 << 13
)

var (
	errInflateShort    = errors.New("the data end too early")
	errInflateHeader   = errors.New("no zlib stream")
	errInflateBlock    = errors.New("a damaged block")
	errInflateCodes    = errors.New("damaged code lengths")
	errInflateDistance = errors.New("a copy of what is not there")
	errInflateSum      = errors.New("a wrong checksum")
)

// zlib inflates src, which must give exactly dst. Bytes behind the stream are not looked
// at.
func (f *inflater) zlib(dst, src []byte) error {
	if len(src) < 2 {
		return errInflateShort
	}
	if src[0]&0xf != 8 || src[0]>>4 > 7 || src[1]&0x20 != 0 || binary.BigEndian.Uint16(src)%31 != 0 {
		return errInflateHeader
	}
	f.src, f.want, f.out, f.pos, f.bits, f.have, f.isLast = src, len(dst), 0, 2, 0, 0, false
	if len(f.dst) < len(dst)+fastSlack {
		f.dst = make([]byte, len(dst)+fastSlack)
	}
	if !f.ready {
		setLitEntries(&f.litEntries)
		setDistEntries(&f.distEntries)
		f.ready = true
	}
	err := f.blocks()
	f.src = nil
	if err != nil {
		return err
	}
	if f.out < len(dst) {
		return errInflatedShort
	}
	at := f.pos - int(f.have/8)
	if at+4 > len(src) {
		return errInflateShort
	}
	if binary.BigEndian.Uint32(src[at:]) != adler(f.dst[:f.want]) {
		return errInflateSum
	}
	copy(dst, f.dst)
	return nil
}

func (f *inflater) blocks() error {
	for !f.isLast {
		f.refill()
		if f.have < 3 {
			return errInflateShort
		}
		f.isLast = f.take(1) == 1
		var err error
		switch f.take(2) {
		case 0:
			err = f.stored()
		case 1:
			f.fixedCodes()
			err = f.block(&f.fixedLit, &f.fixedDist)
		case 2:
			if err = f.codes(); err == nil {
				err = f.block(&f.lit, &f.dist)
			}
		default:
			err = errInflateBlock
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// refill gets 56 bits or more, or what is left.
func (f *inflater) refill() {
	if f.pos+8 <= len(f.src) {
		f.bits |= binary.LittleEndian.Uint64(f.src[f.pos:]) << (f.have & 63)
		f.pos += int((63 - f.have) / 8)
		f.have |= 56
		return
	}
	for f.have < 56 && f.pos < len(f.src) {
		f.bits |= uint64(f.src[f.pos]) << f.have
		f.pos++
		f.have += 8
	}
	f.bits &= 1<<f.have - 1
}

// take gives n bits that are there.
func (f *inflater) take(n uint) uint {
	v := uint(f.bits & (1<<n - 1))
	f.bits >>= n
	f.have -= n
	return v
}

// stored copies a block that is not compressed.
func (f *inflater) stored() error {
	f.pos -= int(f.have / 8)
	f.bits, f.have = 0, 0
	if f.pos+4 > len(f.src) {
		return errInflateShort
	}
	n := int(binary.LittleEndian.Uint16(f.src[f.pos:]))
	if n != int(^binary.LittleEndian.Uint16(f.src[f.pos+2:])) {
		return errInflateBlock
	}
	f.pos += 4
	switch {
	case n > len(f.src)-f.pos:
		return errInflateShort
	case n > f.want-f.out:
		return errInflatedLong
	}
	f.out += copy(f.dst[f.out:], f.src[f.pos:f.pos+n])
	f.pos += n
	return nil
}

// codes reads the code lengths of a block, and makes its tables.
func (f *inflater) codes() error {
	f.refill()
	if f.have < 14 {
		return errInflateShort
	}
	lits, dists, pre := int(f.take(5))+257, int(f.take(5))+1, int(f.take(4))+4
	if lits > 286 || dists > 30 {
		return errInflateCodes
	}
	lens := &f.lens
	clear(lens[:19])
	for i := range pre {
		if f.have < 3 {
			if f.refill(); f.have < 3 {
				return errInflateShort
			}
		}
		lens[precodeOrder[i]] = uint8(f.take(3))
	}
	if !f.table(f.order[:], lens[:19], nil, precodeBits) {
		return errInflateCodes
	}
	for i := 0; i < lits+dists; {
		f.refill()
		e := f.order[f.bits&(1<<precodeBits-1)]
		n := uint(e & 0xff)
		if e&entryOther != 0 {
			return errInflateCodes
		}
		if f.have < n+7 && f.have < n+uint(repeatBits[e>>16&31]) {
			return errInflateShort
		}
		f.take(n)
		s := e >> 16
		if s < 16 {
			lens[i] = uint8(s)
			i++
			continue
		}
		again, value := repeatBase[s]+int(f.take(uint(repeatBits[s]))), uint8(0)
		if s == 16 {
			if i == 0 {
				return errInflateCodes
			}
			value = lens[i-1]
		}
		if again > lits+dists-i {
			return errInflateCodes
		}
		for range again {
			lens[i] = value
			i++
		}
	}
	if lens[256] == 0 || !f.table(f.lit[:], lens[:lits], f.litEntries[:], litBits) ||
		!f.table(f.dist[:], lens[lits:lits+dists], f.distEntries[:], distBits) {
		return errInflateCodes
	}
	return nil
}

// fixedCodes makes the tables of the fixed codes, once.
func (f *inflater) fixedCodes() {
	if f.fixed {
		return
	}
	lens := f.lens[:maxSymbols]
	for i := range lens {
		switch {
		case i < 144:
			lens[i] = 8
		case i < 256:
			lens[i] = 9
		case i < 280:
			lens[i] = 7
		default:
			lens[i] = 8
		}
	}
	f.table(f.fixedLit[:], lens, f.litEntries[:], litBits)
	for i := range maxDistSymbols {
		lens[i] = 5
	}
	f.table(f.fixedDist[:], lens[:maxDistSymbols], f.distEntries[:], distBits)
	f.fixed = true
}
