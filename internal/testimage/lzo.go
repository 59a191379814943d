// SPDX-License-Identifier: Apache-2.0

package testimage

import "encoding/binary"

// LZO packs b as an LZO1X stream, from the description of the format in the
// kernel's Documentation/staging/lzo.rst. It takes the nearest match it finds and
// uses each kind of instruction the format has, which the usual compressors do not.
func LZO(b []byte) []byte {
	e := lzo{src: b, last: make(map[uint32]int)}
	for at := 0; at < len(b); {
		n, dist := e.match(at)
		if n == 0 {
			at++
			continue
		}
		e.literals(b[e.done:at])
		e.copy(n, dist)
		for i := at; i < at+n; i++ {
			e.remember(i)
		}
		at += n
		e.done = at
	}
	e.literals(b[e.done:])
	return append(e.out, 0x11, 0, 0)
}

// lzo is one stream being packed.
type lzo struct {
	src, out []byte
	last     map[uint32]int // the place behind the latest one of two or three bytes; three have bit 24 set
	done     int            // all of src before this is in out
	bits     int            // where the last copy counts the literals behind it; 0 before the first
	state    int            // literals since the last copy: 0 to 3, or 4 for more
}

func (e *lzo) key(at, n int) uint32 {
	k := uint32(e.src[at])<<8 | uint32(e.src[at+1])
	if n == 3 {
		return 1<<24 | k<<8 | uint32(e.src[at+2])
	}
	return k
}

func (e *lzo) remember(at int) {
	for n := 2; n <= 3 && at+n <= len(e.src); n++ {
		e.last[e.key(at, n)] = at + 1
	}
}

// match finds a copy for what lies at at, and remembers at if there is none.
func (e *lzo) match(at int) (n, dist int) {
	defer func() {
		if n == 0 {
			e.remember(at)
		}
	}()
	if at == 0 || at+2 > len(e.src) {
		return 0, 0
	}
	if at+3 <= len(e.src) {
		if from := e.last[e.key(at, 3)] - 1; from >= 0 && at-from <= 0xbfff {
			for n = 3; at+n < len(e.src) && e.src[from+n] == e.src[at+n]; {
				n++
			}
			return n, at - from
		}
	}
	lits := at - e.done
	if e.bits == 0 && lits > 3 || lits == 0 || lits > 3 {
		return 0, 0
	}
	if from := e.last[e.key(at, 2)] - 1; from >= 0 && at-from <= 1024 {
		return 2, at - from
	}
	return 0, 0
}

// literals writes bytes as they are.
func (e *lzo) literals(b []byte) {
	n := len(b)
	switch {
	case n == 0:
		e.state = 0
		return
	case len(e.out) == 0 && n <= 238:
		e.out = append(e.out, byte(17+n))
	case n <= 3:
		e.out[e.bits] |= byte(n)
	default:
		e.out = e.long(e.out, 0, n-3, 15)
	}
	e.out = append(e.out, b...)
	e.state = min(n, 4)
}

// long writes an instruction with a length that is in its low bits up to most, or
// else 0 there, and the rest as bytes behind it.
func (e *lzo) long(out []byte, op byte, n, most int) []byte {
	if n <= most {
		return append(out, op|byte(n))
	}
	out = append(out, op)
	for n -= most; n > 255; n -= 255 {
		out = append(out, 0)
	}
	return append(out, byte(n))
}

// copy writes a copy of n bytes from dist bytes before.
func (e *lzo) copy(n, dist int) {
	d := dist - 1
	at := len(e.out) // where the literals are counted, with one byte of distance behind it
	switch {
	case n == 2 && e.state >= 1 && e.state <= 3:
		e.out = append(e.out, byte(d&3)<<2, byte(d>>2))
	case n == 3 && e.state == 4 && d >= 2048 && d < 3072:
		d -= 2048
		e.out = append(e.out, byte(d&3)<<2, byte(d>>2))
	case n <= 8 && d < 2048:
		e.out = append(e.out, byte(n-1)<<5|byte(d&7)<<2, byte(d>>3))
	case d < 16384:
		e.out = e.long(e.out, 32, n-2, 31)
		at = len(e.out)
		e.out = binary.LittleEndian.AppendUint16(e.out, uint16(d<<2))
	default:
		d = dist - 16384
		e.out = e.long(e.out, 16|byte(d>>14)<<3, n-2, 7)
		at = len(e.out)
		e.out = binary.LittleEndian.AppendUint16(e.out, uint16(d<<2))
	}
	e.bits, e.state = at, 0
}
