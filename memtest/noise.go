// SPDX-License-Identifier: Apache-2.0

package memtest

import (
	"encoding/binary"
	"math/rand/v2"
)

// noise is random bytes to copy from, which is much faster than to make them.
type noise []byte

// noiseSize is a prime: what is moved by whole pages never finds itself again.
const noiseSize = 65521

func newNoise(rnd *rand.Rand) noise {
	n := make(noise, 0, noiseSize+7)
	for len(n) < noiseSize {
		n = binary.LittleEndian.AppendUint64(n, rnd.Uint64())
	}
	return n[:noiseSize]
}

// fill fills p with noise, from a random place on.
func (n noise) fill(rnd *rand.Rand, p []byte) {
	for at := rnd.IntN(len(n)); len(p) > 0; at = 0 {
		p = p[copy(p, n[at:]):]
	}
}
