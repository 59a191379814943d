// SPDX-License-Identifier: Apache-2.0

package vmcore

import (
	"math/rand/v2"
	"testing"

	"github.com/remora-go/remora"
)

// TestSettle holds settle against a look at every address, for random claims of few
// addresses at both ends of the space.
func TestSettle(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	const space = 40
	for round := range 3000 {
		base := remora.Addr(0)
		if round%2 == 1 {
			base = remora.MaxAddr - space + 1
		}
		var claims []claim
		for i := range rng.IntN(9) {
			first := rng.IntN(space)
			last := first + rng.IntN(space-first)
			c := claim{size: uint64(1 + rng.IntN(4)), piece: piece{from: int32(i), first: base + remora.Addr(first), last: base + remora.Addr(last)}}
			switch c.cause = [...]remora.Cause{0, 0, remora.ErrTruncated, remora.ErrNotSaved}[rng.IntN(4)]; c.cause {
			case 0:
				c.off = int64(1000*i + first)
			}
			claims = append(claims, c)
		}
		given := append([]claim(nil), claims...)
		table := settle(claims)
		if len(table) > 2*len(given) {
			t.Fatalf("%d pieces of %d claims", len(table), len(given))
		}
		l := linear{src: &source{}, table: table}
		for i := range space {
			a := base + remora.Addr(i)
			var best *claim
			for k := range given {
				if c := &given[k]; c.first <= a && a <= c.last && (best == nil || c.beats(best)) {
					best = c
				}
			}
			k, ok := l.find(a)
			if ok != (best != nil) {
				t.Fatalf("round %d: %v: found %v, want %+v", round, a, ok, best)
			}
			if !ok {
				continue
			}
			p := &table[k]
			if p.from != best.from || p.cause != best.cause || p.cause == 0 && p.off+int64(a-p.first) != int64(1000*int(best.from)+i) {
				t.Fatalf("round %d: %v: %+v, want %+v", round, a, p, best)
			}
		}
		for i := 1; i < len(table); i++ {
			if table[i].first <= table[i-1].last || table[i].last < table[i].first {
				t.Fatalf("round %d: %+v", round, table)
			}
		}
	}
}

// TestArch names machines as Go does.
func TestArch(t *testing.T) {
	for want, m := range map[string]Meta{
		"":        {},
		"amd64":   {Machine: 62, WordSize: 8},
		"386":     {Machine: 3, WordSize: 4},
		"arm64":   {Machine: 183, WordSize: 8},
		"arm":     {Machine: 40, WordSize: 4},
		"riscv64": {Machine: 243, WordSize: 8},
		"s390x":   {Machine: 22, WordSize: 8, BigEndian: true},
		"ppc64le": {Machine: 21, WordSize: 8},
		"ppc64":   {Machine: 21, WordSize: 8, BigEndian: true},
		"loong64": {Machine: 258, WordSize: 8},
		"mips":    {Machine: 8, WordSize: 4},
	} {
		if got := m.arch(); got != want {
			t.Errorf("%d: %q, want %q", m.Machine, got, want)
		}
	}
}
