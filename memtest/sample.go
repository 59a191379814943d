// SPDX-License-Identifier: Apache-2.0

package memtest

import (
	"fmt"
	"math/rand/v2"

	"github.com/remora-go/remora"
)

// Sample is a Sparse with a random layout, with the fixture and the claims that
// describe it: something to wrap. What the areas say is written down apart from
// the Sparse, which is held against it as any other Space.
type Sample struct {
	Sparse  *Sparse
	Fixture Fixture // of Sparse itself; give it another Space to test a wrapper
	Want    Want    // of Sparse itself
}

// NewSample gives the sample of a seed, always the same one: every kind of page
// there is, alone and side by side, at the bottom and the top of the space.
// Its Want has the seed for its Part, so that only seed 0 is tested to the full.
// Seeds that end in 0 have a run longer than 3 MiB and 4,096-byte pages, can be
// written and honour every op bit; the others vary in all of that.
func NewSample(seed uint64) Sample {
	rnd := rand.New(rand.NewPCG(seed, 1))
	o := SparseOptions{Name: fmt.Sprintf("sample %d", seed)}
	want := Want{Part: seed}
	if seed%10 != 0 {
		o.PageSize = []uint32{4096, 4096, 256, 512, 16384}[rnd.IntN(5)]
		o.PtrSize = []uint8{4, 8}[rnd.IntN(2)]
		o.BigEndian = rnd.IntN(2) == 0
		o.ReadMaps = rnd.IntN(2) == 0
		o.ReadOnly = seed%7 == 5
		o.Live = rnd.IntN(2) == 0
		if seed%11 == 7 {
			o.Refuse = remora.Op(rnd.Uint32()) & (remora.StopAtFault | remora.Force | remora.Resident)
		}
		if seed%5 == 3 {
			o.Last = 1<<47 - 1
			want.Lacks.Top = "the sample's space ends at 2^47-1"
		}
		want.Lacks.Large = "only samples whose seed ends in 0 are large"
	}
	b := &builder{rnd: rnd, s: NewSparse(&o), inject: seed%2 == 1, noise: newNoise(rnd)}
	b.layout(seed%10 == 0)
	want.Info = b.s.Info()
	return Sample{b.s, Fixture{Space: b.s, Areas: b.areas, Peek: b.s.Peek, Close: b.s.Close}, want}
}

// builder makes the pages of a sample and writes down what they are.
type builder struct {
	rnd    *rand.Rand
	s      *Sparse
	inject bool
	at     remora.Addr // where the next pages go
	areas  []Area
	noise  noise
}

// layout makes islands of pages with unmapped pages around them.
func (b *builder) layout(large bool) {
	page := uint64(b.s.opt.PageSize)
	b.at = 0
	b.plain(rw, 1) // at address 0: a wrap would be seen here
	b.gap()
	for _, base := range []remora.Addr{0x1000_0000, 1 << 40} {
		b.at = base + remora.Addr(b.rnd.Uint64N(100)*page)
		b.gap()
		for _, kind := range b.rnd.Perm(kinds) {
			b.kind(kind)
			if b.rnd.IntN(3) == 0 {
				b.gap()
			}
		}
		b.gap()
	}
	if large {
		b.at = 1 << 44
		b.plain(rw, 3<<20/page+2)
		b.gap()
	}
	if last := b.s.opt.Last; last == remora.MaxAddr {
		b.at = 1<<63 - remora.Addr(2*page)
		b.plain(rw, 4)
		b.gap()
		b.at = last - remora.Addr(3*page) + 1
		b.hole(1, remora.ErrUnmapped)
		b.plain(rw, 2)
	} else {
		b.at = last - remora.Addr(2*page) + 1
		b.plain(rw, 2)
		b.gap()
	}
}

const rw = remora.PermRead | remora.PermWrite

// kinds is how many cases kind knows.
const kinds = 16

func (b *builder) kind(kind int) {
	n := 1 + b.rnd.Uint64N(3)
	switch kind {
	case 0, 1:
		b.plain(rw, n)
	case 2:
		b.plain(remora.PermRead, n)
	case 3:
		b.plain(0, n)
	case 4:
		b.plain(remora.PermWrite, n)
	case 5:
		b.plain(remora.PermExec, n)
	case 6: // never touched
		r := b.mapped(MapOptions{Perm: rw}, n)
		b.add(r, make([]byte, r.Size), fate(rw, false, absent))
	case 7: // evicted
		r := b.mapped(MapOptions{Perm: rw}, n)
		data := b.poke(r)
		must(b.s.Evict(r))
		b.add(r, data, fate(rw, false, absent))
	case 8: // never touched, and no rights
		r := b.mapped(MapOptions{}, n)
		b.add(r, make([]byte, r.Size), fate(0, false, absent))
	case 9:
		b.object(rw, true, here, n)
	case 10:
		b.object(remora.PermRead, true, here, n)
	case 11:
		b.object(rw, true, absent, n)
	case 12:
		b.object(rw, false, clean, n)
	case 13:
		b.mapped(MapOptions{Perm: rw, Fault: remora.ErrGuard}, n)
		b.hole(n, remora.ErrGuard)
	case 14:
		b.mapped(MapOptions{Perm: rw, Fault: remora.ErrDevice}, n)
		b.hole(n, remora.ErrDevice)
	case 15:
		b.injected()
	}
}

// presence is how far a page is in memory.
type presence int

const (
	here   presence = iota // and the space's own, or shared
	clean                  // a private page not yet copied
	absent                 // not at all
)

// fate is what a page answers: the rules R35-R42 and R66, in words of their own.
func fate(perm remora.Perm, shared bool, p presence) func(remora.Op) []error {
	return func(op remora.Op) []error {
		write := op&remora.Write != 0
		allowed := perm&remora.PermRead != 0
		if write {
			allowed = perm&remora.PermWrite != 0
		}
		forced := op&remora.Force != 0 && !(write && shared)
		if !allowed && !forced {
			return []error{remora.ErrProtected}
		}
		if op&remora.Resident != 0 && (p == absent || p == clean && write) {
			return []error{remora.ErrNotPresent}
		}
		return nil
	}
}

// plain makes n private pages with contents.
func (b *builder) plain(perm remora.Perm, n uint64) {
	r := b.mapped(MapOptions{Perm: perm, Name: "plain"}, n)
	b.add(r, b.poke(r), fate(perm, false, here))
}

// object maps n pages of an object, one of which begins it, and one more page
// beyond its end. Its last page is not whole.
func (b *builder) object(perm remora.Perm, shared bool, p presence, n uint64) {
	page := uint64(b.s.opt.PageSize)
	o := NewObject((n+1)*page - 1 - b.rnd.Uint64N(page-1))
	data := make([]byte, n*page)
	b.fill(data)
	o.write(data, page)
	r := b.mapped(MapOptions{Perm: perm, Shared: shared, Object: o, Offset: page, Name: "object"}, n+1)
	r.Size -= page
	if p != absent {
		must(b.s.Touch(r))
	}
	b.at -= remora.Addr(page)
	b.add(r, data, fate(perm, shared, p))
	beyond := remora.Range{Start: b.at, Size: page}
	b.at += remora.Addr(page)
	b.areas = append(b.areas, Area{Range: beyond, Fault: func(op remora.Op) []error {
		if causes := fate(perm, shared, here)(op); causes != nil {
			return causes
		}
		return []error{remora.ErrBeyondEOF}
	}})
}

// injected makes two pages with faults at single bytes, where the sample has such.
func (b *builder) injected() {
	r := b.mapped(MapOptions{Perm: rw}, 2)
	data := b.poke(r)
	at := b.rnd.Uint64N(r.Size)
	if !b.inject {
		b.add(r, data, fate(rw, false, here))
		return
	}
	bad := r.Start + remora.Addr(at)
	b.s.Inject(bad, remora.Read, remora.ErrPoisoned)
	b.s.Inject(bad, remora.Write, remora.ErrIO)
	b.add(remora.Range{Start: r.Start, Size: at}, data[:at], fate(rw, false, here))
	b.add(remora.Range{Start: bad, Size: 1}, data[at:at+1], func(op remora.Op) []error {
		if op&remora.Write != 0 {
			return []error{remora.ErrIO}
		}
		return []error{remora.ErrPoisoned}
	})
	b.add(remora.Range{Start: bad + 1, Size: r.Size - at - 1}, data[at+1:], fate(rw, false, here))
}

func (b *builder) gap() { b.hole(1+b.rnd.Uint64N(2), remora.ErrUnmapped) }

// hole writes down n pages where nothing can be done, mapped or not.
func (b *builder) hole(n uint64, cause remora.Cause) {
	r := remora.Range{Start: b.at, Size: n * uint64(b.s.opt.PageSize)}
	if cause == remora.ErrUnmapped {
		b.at += remora.Addr(r.Size)
	} else {
		r.Start -= remora.Addr(r.Size)
	}
	b.areas = append(b.areas, Area{Range: r, Fault: Always(cause)})
}

func (b *builder) mapped(o MapOptions, pages uint64) remora.Range {
	r := remora.Range{Start: b.at, Size: pages * uint64(b.s.opt.PageSize)}
	must(b.s.Map(r, o))
	b.at += remora.Addr(r.Size)
	return r
}

func (b *builder) poke(r remora.Range) []byte {
	data := make([]byte, r.Size)
	b.fill(data)
	must(b.s.Poke(data, r.Start))
	return data
}

func (b *builder) fill(p []byte) { b.noise.fill(b.rnd, p) }

func (b *builder) add(r remora.Range, data []byte, fault func(remora.Op) []error) {
	if !r.Empty() {
		b.areas = append(b.areas, Area{r, data, fault})
	}
}

// must is for a layout that cannot be wrong.
func must(err error) {
	if err != nil {
		panic(err)
	}
}
