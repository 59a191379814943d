// SPDX-License-Identifier: Apache-2.0

package paging

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/memtest"
)

// builder makes page tables in a Sparse.
type builder struct {
	f     *Format
	phys  *memtest.Sparse
	next  uint64 // where the next table goes
	root  uint64
	table uint64 // bits of an entry that leads to one
}

// tablesAt is where a builder has its tables, far from what a sample has.
const tablesAt = 1 << 46

func newBuilder(f *Format, phys *memtest.Sparse) *builder {
	b := &builder{f: f, phys: phys, next: tablesAt, table: 0x67}
	if f.arch == archARM64 {
		b.table = 3
	}
	if err := phys.Map(remora.Range{Start: tablesAt, Size: 4 << 20}, memtest.MapOptions{Perm: remora.PermRead | remora.PermWrite}); err != nil {
		panic(err)
	}
	b.root = b.alloc()
	return b
}

func (b *builder) alloc() uint64 {
	at := b.next
	b.next += b.f.PageSize()
	if err := b.phys.Poke(make([]byte, b.f.PageSize()), remora.Addr(at)); err != nil {
		panic(err)
	}
	return at
}

// set sets the entry of va at a level, and makes the tables on the way.
func (b *builder) set(va remora.Addr, level int, raw uint64) {
	at := b.root
	for l := b.f.levels; ; l-- {
		slot := remora.Addr(at) + va>>b.f.shift[l]%(1<<b.f.width[l])*8
		var word [8]byte
		if err := b.phys.Peek(word[:], slot); err != nil {
			panic(err)
		}
		if l == level {
			binary.LittleEndian.PutUint64(word[:], raw)
		} else if at = binary.LittleEndian.Uint64(word[:]) &^ (b.f.PageSize() - 1); at == 0 {
			at = b.alloc()
			binary.LittleEndian.PutUint64(word[:], at|b.table)
		}
		if err := b.phys.Poke(word[:], slot); err != nil {
			panic(err)
		}
		if l == level {
			return
		}
	}
}

// leaf gives an entry of level 1 for the frame at pa, of one kind or another.
func (b *builder) leaf(pa uint64, i int) uint64 {
	if b.f.arch == archARM64 {
		return pa | []uint64{0x703, 0x783, 0x802}[i%3] // read-write, read-only, PROT_NONE
	}
	return []uint64{pa | 0x63, pa | 1<<63 | 0x61, ^pa&x86Address | x86None}[i%3]
}

// holes are entries of a page that is not there, and what an access comes to.
func (b *builder) hole(i int) (uint64, error) {
	if b.f.arch == archARM64 {
		return 0, remora.ErrUnmapped
	}
	raw := []uint64{0, swapEntry(2, 7), swapEntry(31, markerGuard), swapEntry(24, 9), swapEntry(28, 9)}
	why := []error{remora.ErrUnmapped, remora.ErrNotPresent, remora.ErrGuard, remora.ErrPoisoned, remora.ErrDevice}
	return raw[i%len(why)], why[i%len(why)]
}

// swapEntry gives the one of x86-64 for a type and an offset.
func swapEntry(kind, off uint64) uint64 { return kind<<59 | ^off<<14>>5 }

// slowBuild is one under the race detector, or in an emulator.
const slowBuild = raceEnabled || runtime.GOARCH == "s390x"

// viewed shows the frames of a sample, in another order, through page tables. What
// can be done with them is what can be done with the sample.
func viewed(t testing.TB, f *Format, half Half, s memtest.Sample) (memtest.Fixture, memtest.Want) {
	b := newBuilder(f, s.Sparse)
	page := remora.Addr(f.PageSize())
	var frames []remora.Addr
	for _, a := range s.Fixture.Areas {
		if a.Start < tablesAt {
			for at := a.Start &^ (page - 1); at <= a.Last(); at += page {
				frames = append(frames, at)
			}
		}
	}
	slices.Sort(frames)
	frames = slices.Compact(frames)
	ends := slices.IndexFunc(frames, func(at remora.Addr) bool { return endsWell(s.Fixture.Areas, at+page-1) })
	last := frames[max(ends, 0)]
	frames = append(slices.Delete(frames, max(ends, 0), max(ends, 0)+1), last)
	fx := memtest.Fixture{}
	place := map[remora.Addr]remora.Addr{} // frame by page
	put := func(va remora.Addr, i int) {
		b.set(va, 1, b.leaf(uint64(frames[i]), i))
		place[va] = frames[i]
		in := remora.Range{Start: frames[i], Size: uint64(page)}
		for _, a := range s.Fixture.Areas {
			if part := a.Intersect(in); !part.Empty() {
				data := a.Data
				if data != nil {
					data = data[part.Start-a.Start:][:part.Size]
				}
				part.Start += va - frames[i]
				fx.Areas = append(fx.Areas, memtest.Area{Range: part, Data: data, Fault: a.Fault})
			}
		}
	}
	base := remora.Addr(0)
	if half == Upper {
		base = -(1 << f.halfBits())
	}
	va := base
	for i := range len(frames) - 1 {
		if i > 0 && frames[i] != frames[i-1]+page || i%1000 == 999 {
			raw, why := b.hole(i)
			b.set(va, 1, raw)
			fx.Areas = append(fx.Areas, memtest.Area{Range: remora.Range{Start: va, Size: uint64(page)}, Fault: memtest.Always(why)})
			va += page
		}
		k := i
		if i/2*2+1 < len(frames)-1 {
			k = i ^ 1 // neighbours change places: no long runs
		}
		put(va, k)
		va += page
	}
	gone := base + 1<<f.shift[2]*8 // far behind the rest
	if !s.Want.Info.Live {
		b.set(gone, 2, 1<<47|b.table)
		fx.Areas = append(fx.Areas, memtest.Area{Range: remora.Range{Start: gone, Size: 1 << f.shift[2]}, Fault: memtest.Always(remora.ErrNoTable)})
	}
	top := remora.MaxAddr
	s.Want.Lacks.Top = ""
	switch {
	case half == Lower:
		top = 1<<f.halfBits() - 1
		s.Want.Lacks.Top = "the lower half ends far below"
	case ends < 0:
		s.Want.Lacks.Top = "no frame of this sample ends with memory that can be read"
	}
	put(top-page+1, len(frames)-1)
	fx.Peek = func(p []byte, a remora.Addr) error {
		for len(p) > 0 {
			at := a &^ (page - 1)
			frame, ok := place[at]
			if !ok {
				return errors.New("no page there")
			}
			n := min(len(p), int(page-(a-at)))
			if err := s.Sparse.Peek(p[:n], frame+a-at); err != nil {
				return err
			}
			p, a = p[n:], a+remora.Addr(n)
		}
		return nil
	}
	v := New(s.Sparse, NewTables(s.Sparse, f, remora.Addr(b.root), &Options{Half: half}), &ViewOptions{Name: "view"})
	fx.Space = v
	fx.Close = func() error { return errors.Join(v.Close(), s.Sparse.Close()) }
	in := &s.Want.Info
	in.Name, in.PtrSize, in.BigEndian, in.Last = "view", 8, false, top
	in.Granule = min(in.Granule, uint32(page))
	return fx, s.Want
}

// endsWell says whether everything can be done at a.
func endsWell(areas []memtest.Area, a remora.Addr) bool {
	for _, area := range areas {
		if area.Contains(a) {
			return area.Data != nil && (area.Fault == nil || area.Fault(remora.Write|remora.Resident) == nil && area.Fault(remora.Read) == nil)
		}
	}
	return false
}

// The memory of a sample keeps the contract through page tables. Sample 0 is large
// and takes all cases; odd ones have faults at single bytes, 5 and 12 are read-only,
// 7 does not honour every op bit, and about half are Live.
func TestViewsKeepTheContract(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // fixtures are large, and garbage at once
	arm, err := ARM64(ARM64Options{PageShift: 14, VABits: 47})
	must(t, arm, err)
	for _, c := range []struct {
		f     *Format
		half  Half
		seeds []uint64
	}{
		{x86(t, 4), Whole, []uint64{0, 1, 5, 7, 12}},
		{x86(t, 5), Lower, []uint64{2, 8}},
		{arm, Upper, []uint64{4, 9}},
	} {
		for i, seed := range c.seeds {
			if slowBuild && i > 1 {
				break
			}
			t.Run(fmt.Sprintf("%v, %v, %d", c.f, c.half, seed), func(t *testing.T) {
				_, want := viewed(t, c.f, c.half, memtest.NewSample(seed))
				if slowBuild {
					want.Part = max(want.Part, 1)
				}
				memtest.TestSpace(t, func(testing.TB) memtest.Fixture {
					fx, _ := viewed(t, c.f, c.half, memtest.NewSample(seed))
					return fx
				}, want)
			})
		}
	}
}
