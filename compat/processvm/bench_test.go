// SPDX-License-Identifier: Apache-2.0

package processvm

import (
	"context"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/memtest"
)

const bulk = 16 << 20

// engine gives two processes with bulk bytes each.
func engine(b testing.TB, live bool) (*System, *Process) {
	s := NewSystem(nil)
	var all []*Process
	for _, pid := range []int{callerPID, targetPID} {
		sp := memtest.NewSparse(&memtest.SparseOptions{Live: live})
		if err := sp.Map(remora.Range{Start: base, Size: bulk}, memtest.MapOptions{Perm: rw}); err != nil {
			b.Fatal(err)
		}
		if err := sp.Poke(pattern(base, bulk), base); err != nil {
			b.Fatal(err)
		}
		p := &Process{PID: pid, Memory: sp.Memory()}
		if err := s.Set(p); err != nil {
			b.Fatal(err)
		}
		all = append(all, p)
	}
	return s, all[0]
}

func benchmarkEngine(b *testing.B, size uint64, live, write bool) {
	s, caller := engine(b, live)
	vec := one(base, size)
	call := s.Readv
	if write {
		call = s.Writev
	}
	b.SetBytes(int64(size))
	b.ReportAllocs()
	for b.Loop() {
		if n, e := call(context.Background(), caller, targetPID, vec, vec, 0); uint64(n) != size || e != 0 {
			b.Fatal(n, e)
		}
	}
}

func BenchmarkEngineRead(b *testing.B)       { benchmarkEngine(b, bulk, false, false) }
func BenchmarkEngineWrite(b *testing.B)      { benchmarkEngine(b, bulk, false, true) }
func BenchmarkEnginePageByPage(b *testing.B) { benchmarkEngine(b, bulk, true, false) }
func BenchmarkEngineRead4KiB(b *testing.B)   { benchmarkEngine(b, 4096, false, false) }
func BenchmarkEngineRead8(b *testing.B)      { benchmarkEngine(b, 8, false, false) }

// BenchmarkCopy is what the others are compared with: one copy of as many bytes.
func BenchmarkCopy(b *testing.B) {
	from, to := pattern(base, bulk), make([]byte, bulk)
	b.SetBytes(bulk)
	for b.Loop() {
		copy(to, from)
	}
}
