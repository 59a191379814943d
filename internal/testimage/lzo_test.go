// SPDX-License-Identifier: Apache-2.0

package testimage_test

import (
	"bytes"
	"math/rand/v2"
	"testing"

	lzo "github.com/anchore/go-lzo"

	"github.com/remora-go/remora/internal/testimage"
)

// instructions counts the kinds of instruction of a stream, and gives what it holds.
func instructions(b []byte, count map[string]int) (out []byte) {
	next := func() int { c := int(b[0]); b = b[1:]; return c }
	long := func(n, most int) int {
		if n != 0 {
			return n
		}
		for n = most; b[0] == 0; n += 255 {
			next()
		}
		return n + next()
	}
	literals := func(n int) {
		out = append(out, b[:n]...)
		b = b[n:]
	}
	state := 0
	if b[0] > 17 {
		n := next() - 17
		literals(n)
		state = min(n, 4)
		count["first literals"]++
	}
	for {
		op := next()
		var n, dist, trail int
		switch {
		case op >= 64:
			count["64"]++
			n, dist, trail = op>>5+1, next()<<3+op>>2&7+1, op&3
		case op >= 32:
			count["32"]++
			if op&31 == 0 {
				count["32, long"]++
			}
			n = 2 + long(op&31, 31)
			low := next()
			dist, trail = (next()<<8|low)>>2+1, low&3
		case op >= 16:
			if op&7 == 0 {
				count["16, long"]++
			}
			n = 2 + long(op&7, 7)
			low := next()
			v := (next()<<8 | low) >> 2
			if dist, trail = 16384+op&8<<11+v, low&3; dist == 16384 {
				return out
			}
			count["16"]++
		case state == 0:
			count["literals"]++
			literals(3 + long(op, 15))
			state = 4
			continue
		case state == 4:
			count["0, three"]++
			n, dist, trail = 3, next()<<2+op>>2+2049, op&3
		default:
			count["0, two"]++
			n, dist, trail = 2, next()<<2+op>>2+1, op&3
		}
		for range n {
			out = append(out, out[len(out)-dist])
		}
		literals(trail)
		state = trail
	}
}

func TestLZO(t *testing.T) {
	count := make(map[string]int)
	check := func(b []byte) {
		t.Helper()
		packed := testimage.LZO(b)
		if got := instructions(packed, count); !bytes.Equal(got, b) {
			t.Fatalf("%d bytes of %d are not the same", len(got), len(b))
		}
		got := make([]byte, len(b))
		if n, err := lzo.Decompress(packed, got); err != nil || n != len(b) || !bytes.Equal(got, b) {
			t.Fatalf("%d bytes of %d, %v", n, len(b), err)
		}
	}
	mem := testimage.Random(7, 4096, 100)
	for _, pfn := range mem.PFNs() {
		if page, class := mem.Page(pfn); class == testimage.Saved {
			check(page)
		}
	}
	rng := rand.New(rand.NewPCG(8, 8))
	for _, letters := range []int{2, 4, 40, 200} {
		for _, size := range []int{1, 2, 3, 4, 5, 17, 18, 238, 239, 240, 65536} {
			b := make([]byte, size)
			for i := range b {
				b[i] = byte(rng.IntN(letters))
			}
			check(b)
		}
	}
	noise := make([]byte, 65536)
	for i := range noise {
		noise[i] = byte(rng.Uint32())
	}
	copy(noise[60000:], noise[1000:1006])
	copy(noise[61000:], noise[30000:32000])
	copy(noise[10000:], noise[7000:7003])
	check(noise)
	for _, kind := range []string{"first literals", "literals", "64", "32", "32, long", "16", "16, long", "0, two", "0, three"} {
		if count[kind] == 0 {
			t.Errorf("no instruction of kind %q: %v", kind, count)
		}
	}
}
