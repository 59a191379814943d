// SPDX-License-Identifier: Apache-2.0

package compose

import (
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/memtest"
)

// A wrapper takes a sample and gives the fixture and the claims of the same
// memory wrapped. Sample 0 is large and takes all cases, the others a part; odd ones
// have faults at single bytes, 3 and 8 end at 2^47-1, 5 and 12 are read-only, and
// 7 and 18 do not honour every op bit. Slow builds take fewer: what they look for is
// not in the layout.
func TestWrappersKeepTheContract(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // fixtures are large, and garbage at once
	for _, w := range []struct {
		name        string
		first, last uint64 // sample
		wrap        func(memtest.Sample) (memtest.Fixture, memtest.Want)
	}{
		{"overlay", 0, 9, overlaid},
		{"splice", 0, 9, spliced},
		{"cache", 0, 9, cached},
		{"window", 1, 8, windowed},
		{"readonly", 5, 12, readOnlied},
		{"trace", 1, 8, traced},
		{"swap", 1, 8, swappedSample},
		{"nested", 11, 18, nested},
	} {
		if slowBuild {
			w.last = w.first + 2
		}
		for seed := w.first; seed <= w.last; seed++ {
			t.Run(fmt.Sprintf("%s/%d", w.name, seed), func(t *testing.T) {
				_, want := w.wrap(memtest.NewSample(seed))
				if slowBuild {
					want.Part = max(want.Part, 1)
				}
				memtest.TestSpace(t, func(testing.TB) memtest.Fixture {
					fx, _ := w.wrap(memtest.NewSample(seed))
					return fx
				}, want)
			})
		}
	}
}

// slowBuild is one under the race detector, or in an emulator.
const slowBuild = raceEnabled || runtime.GOARCH == "s390x"

func traced(s memtest.Sample) (memtest.Fixture, memtest.Want) {
	s.Fixture.Space = Trace(s.Sparse, func(Event) {})
	return s.Fixture, s.Want
}

func readOnlied(s memtest.Sample) (memtest.Fixture, memtest.Want) {
	s.Fixture.Space = ReadOnly(s.Sparse)
	s.Want.Info.Writable = false
	return s.Fixture, s.Want
}

func overlaid(s memtest.Sample) (memtest.Fixture, memtest.Want) {
	l := Overlay(s.Sparse)
	s.Fixture.Space, s.Fixture.Areas = l, writeAsRead(s.Fixture.Areas)
	s.Fixture.Peek = patched(s.Sparse.Peek, l)
	s.Fixture.Close = func() error { return errors.Join(l.Close(), s.Sparse.Close()) }
	s.Want.Info.Writable = true
	return s.Fixture, s.Want
}

// writeAsRead gives areas in which a write comes to what a read does.
func writeAsRead(areas []memtest.Area) []memtest.Area {
	out := make([]memtest.Area, len(areas))
	for i, a := range areas {
		out[i] = a
		if a.Fault != nil {
			out[i].Fault = func(op remora.Op) []error { return a.Fault(op &^ remora.Write) }
		}
	}
	return out
}

func patched(peek func([]byte, remora.Addr) error, l *Layer) func([]byte, remora.Addr) error {
	return func(p []byte, a remora.Addr) error {
		err := peek(p, a)
		l.mu.RLock()
		defer l.mu.RUnlock()
		l.patch(p, a)
		return err
	}
}

func cached(s memtest.Sample) (memtest.Fixture, memtest.Want) {
	o := &CacheOptions{Live: true}
	if s.Want.Info.Granule == 1 {
		o.Bytes = 1 // so that pages are pushed out
	}
	c := Cache(s.Sparse, o)
	s.Fixture.Space = c
	s.Fixture.Close = func() error { return errors.Join(c.Close(), s.Sparse.Close()) }
	return s.Fixture, s.Want
}

// spliced shows the memory below 2^41 one half of 2^42 higher, and cuts all of it
// into parts, some of which lie in another Space than the rest.
func spliced(s memtest.Sample) (memtest.Fixture, memtest.Want) {
	const half = 1 << 41
	other := Trace(s.Sparse, func(Event) {})
	cut := []remora.Addr{0, half, 2 * half, 1<<44 + 2<<20, 1 << 63, 1<<63 + 0x4000}
	var parts []Part
	for i, a := range s.Fixture.Areas {
		if a.Start < half && a.Data != nil && i%3 == 0 {
			at := a.Start + half
			if s.Want.Info.Granule == 1 {
				at += remora.Addr(a.Size / 3)
			}
			cut = append(cut, at)
		}
	}
	for i, r := range cutAt(cut) {
		p := Part{Range: r, Space: s.Sparse, At: r.Start}
		if r.Start < 2*half {
			p.At ^= half
		}
		if i%2 == 1 {
			p.Space = other
		}
		parts = append([]Part{p}, parts...) // in any order
	}
	space, err := Splice(nil, parts...)
	if err != nil {
		panic(err)
	}
	move := func(a remora.Addr) remora.Addr {
		if a < 2*half {
			a ^= half
		}
		return a
	}
	fx := memtest.Fixture{Space: space}
	for _, a := range s.Fixture.Areas {
		a.Start = move(a.Start)
		fx.Areas = append(fx.Areas, a)
	}
	fx.Peek = func(p []byte, a remora.Addr) error { return s.Sparse.Peek(p, move(a)) }
	s.Want.Lacks.Close = "a splice has no Close"
	return fx, s.Want
}

// cutAt gives the ranges that begin at the addresses, up to the last one.
func cutAt(at []remora.Addr) []remora.Range {
	at = append([]remora.Addr{}, at...)
	slices.Sort(at)
	var out []remora.Range
	for i, first := range at {
		if i+1 < len(at) {
			out = append(out, remora.Between(first, at[i+1]))
		} else {
			out = append(out, remora.Between(first, 0))
		}
	}
	return out
}

// windowed shows the lower quarter of the space one quarter higher.
func windowed(s memtest.Sample) (memtest.Fixture, memtest.Want) {
	const quarter = 1 << 62
	space, err := Window(s.Sparse, remora.Range{Size: quarter}, quarter)
	if err != nil {
		panic(err)
	}
	fx := memtest.Fixture{Space: space}
	for _, a := range s.Fixture.Areas {
		if a.Start < quarter {
			a.Start += quarter
			fx.Areas = append(fx.Areas, a)
		}
	}
	fx.Peek = func(p []byte, a remora.Addr) error { return s.Sparse.Peek(p, a-quarter) }
	s.Want.Info.Name += "[0x0+0x4000000000000000]"
	s.Want.Info.Last = quarter + min(s.Want.Info.Last, quarter-1)
	s.Want.Lacks.Close = "a window has no Close"
	s.Want.Lacks.Top = "the window ends at 2^63"
	return fx, s.Want
}

func swappedSample(s memtest.Sample) (memtest.Fixture, memtest.Want) {
	l := Overlay(s.Sparse)
	t := Swap(s.Sparse, Cache(l, &CacheOptions{Live: true}))
	s.Fixture.Space, s.Fixture.Areas = t.Memory(), writeAsRead(s.Fixture.Areas)
	s.Fixture.Peek = patched(s.Sparse.Peek, l)
	s.Fixture.Close = t.Close
	s.Want.Info.Writable = true
	return s.Fixture, s.Want
}

func nested(s memtest.Sample) (memtest.Fixture, memtest.Want) {
	fx, want := spliced(s)
	l := Overlay(fx.Space)
	fx.Space, fx.Areas = ReadOnly(l), writeAsRead(fx.Areas)
	want.Info.Writable = false
	return fx, want
}

func TestZeroKeepsTheContract(t *testing.T) {
	const size = 4 << 20
	info := remora.Info{Name: "zeros", Ops: zeroOps, Granule: 4096, Atomic: 8}
	lacks := memtest.Lacks{
		Forced: "zeros have no protection",
		Absent: "zeros need no memory",
		Close:  "zeros have no Close",
	}
	low, high := remora.Range{Start: 0x10000, Size: size}, remora.Between(1<<64-size, 0)
	t.Run("low", func(t *testing.T) {
		want := memtest.Want{Info: info, Lacks: lacks, Part: 1}
		want.Info.Last, want.Lacks.Top = low.Last(), "these zeros are low"
		memtest.TestSpace(t, func(testing.TB) memtest.Fixture {
			return memtest.Fixture{Space: Zero(low), Areas: []memtest.Area{
				{Range: remora.Range{Size: 0x10000}, Fault: memtest.Always(remora.ErrUnmapped)},
				{Range: low, Data: make([]byte, size)},
				{Range: remora.Range{Start: low.Last() + 1, Size: 0x10000}, Fault: memtest.Always(remora.ErrUnmapped)},
			}}
		}, want)
	})
	t.Run("high", func(t *testing.T) {
		want := memtest.Want{Info: info, Lacks: lacks, Part: 2}
		want.Info.Last, want.Lacks.Hole = high.Last(), "these zeros end with the space"
		memtest.TestSpace(t, func(testing.TB) memtest.Fixture {
			return memtest.Fixture{Space: Zero(high), Areas: []memtest.Area{
				{Range: remora.Range{Start: high.Start - 0x10000, Size: 0x10000}, Fault: memtest.Always(remora.ErrUnmapped)},
				{Range: high, Data: make([]byte, size)},
			}}
		}, want)
	})
}
