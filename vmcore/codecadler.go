// SPDX-License-Identifier: Apache-2.0

package vmcore

import "encoding/binary"

const (
	adlerPrime = 65521
	adlerWords = 16 // of a block: the sums of sums of one byte of each stay below 65536
)

// adler gives the Adler-32 (RFC 1950) of at most 16 MiB. The sum of bytes and the sum of
// those sums are kept for each of the eight bytes of a word, in 16 bits each, and are
// added up after some words: that takes a third of the time of byte after byte.
func adler(b []byte) uint32 {
	const lanes = 0x00ff00ff00ff00ff
	s1, s2 := uint64(1), uint64(0)
	for len(b) >= 8*adlerWords {
		var even, odd, evens, odds uint64 // bytes 0, 2, 4, 6 and 1, 3, 5, 7: their sums, and the sums of those
		for k := 0; k < 8*adlerWords; k += 8 {
			w := binary.LittleEndian.Uint64(b[k : k+8])
			even += w & lanes
			odd += w >> 8 & lanes
			evens += even
			odds += odd
		}
		// A byte counts once for itself and once for each behind it: 8 for each word that
		// follows, its own included, less its place in the word.
		e0, e2, e4, e6 := even&0xffff, even>>16&0xffff, even>>32&0xffff, even>>48
		o1, o3, o5, o7 := odd&0xffff, odd>>16&0xffff, odd>>32&0xffff, odd>>48
		s2 += 8*adlerWords*s1 + 8*(across(evens)+across(odds)) - (o1 + 2*e2 + 3*o3 + 4*e4 + 5*o5 + 6*e6 + 7*o7)
		s1 += e0 + e2 + e4 + e6 + o1 + o3 + o5 + o7
		b = b[8*adlerWords:]
	}
	for _, c := range b {
		s1 += uint64(c)
		s2 += s1
	}
	return uint32(s2%adlerPrime)<<16 | uint32(s1%adlerPrime)
}

// across adds up four numbers of 16 bits.
func across(x uint64) uint64 { return x&0xffff + x>>16&0xffff + x>>32&0xffff + x>>48 }
