// SPDX-License-Identifier: Apache-2.0

//go:build amd64

package processvm

import (
	"slices"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/difftest"
	"github.com/remora-go/remora/internal/specimen"
)

// element makes an element: one that can be transferred whole or, if bad, one at which
// the transfer stops.
func (g *diffGen) element(which int, bad bool, n int) Iovec {
	side, view := g.side(which)
	store := g.storesTo(which)
	if bad {
		if v, ok := g.badElement(which, n); ok {
			return v
		}
	}
	if g.rnd.IntN(60) == 0 && !store && len(side.vdso) > 0 {
		r := side.vdso[0]
		a := r.Start + remora.Addr(g.rnd.Uint64N(r.Size))
		return g.spend(a, r.Last()+1, g.length())
	}
	if g.rnd.IntN(30) == 0 && which == diffRemote {
		return Iovec{g.rnd.Uint64(), 0} // R21
	}
	a, end := g.place(side, view, store)
	return g.spend(a, end, g.length())
}

// place chooses where to begin in memory that can be accessed, and gives the end of it.
func (g *diffGen) place(side *diffSide, view diffView, store bool) (a, end remora.Addr) {
	all := side.open[view][diffBit(store)]
	if len(all) == 0 {
		return side.Start, side.Start
	}
	p := &side.pieces[all[g.rnd.IntN(len(all))]]
	size := min(p.Size, (p.size+diffPage-1)&^(diffPage-1))
	page := p.Start + remora.Addr(g.rnd.Uint64N(size)&^(diffPage-1))
	switch g.rnd.IntN(8) {
	case 0:
		a = page
	case 1:
		a = page + diffPage - 1
	case 2:
		a = p.Start + remora.Addr(size) - 1 - remora.Addr(g.rnd.Uint64N(min(size, 64)))
	default:
		a = page + remora.Addr(g.rnd.Uint64N(diffPage))
	}
	return a, side.end(view, store, a)
}

// spend makes an element of what the call may still move.
func (g *diffGen) spend(a, end remora.Addr, n uint64) Iovec {
	n = min(n, uint64(end-a))
	if n > g.budget {
		n %= 64
	}
	g.budget -= min(n, g.budget)
	return Iovec{uint64(a), n}
}

// length chooses how many bytes an element has.
func (g *diffGen) length() uint64 {
	rnd := g.rnd
	switch n := rnd.IntN(1000); {
	case n < 40:
		return 0
	case n < 350:
		return 1 + rnd.Uint64N(16)
	case n < 700:
		return 17 + rnd.Uint64N(240)
	case n < 920:
		return 257 + rnd.Uint64N(3840)
	case n < 990:
		return 4097 + rnd.Uint64N(15*4096)
	}
	return 1<<16 + rnd.Uint64N(1<<20)
}

// longElement makes an element of more than 1,024 pages.
func (g *diffGen) longElement(which int) Iovec {
	side, _ := g.side(which)
	p := &side.pieces[0]
	for i := range side.pieces {
		if side.pieces[i].Size > p.Size {
			p = &side.pieces[i]
		}
	}
	a, end := p.Start+remora.Addr(g.rnd.Uint64N(diffPage)), p.Last()+1
	if g.rnd.IntN(4) == 0 {
		a += diffPage
	}
	if !side.caller { // with the file before it, and its alias behind it
		a, end = a-2*diffPage, end+2*diffPage
	}
	if g.rnd.IntN(2) == 0 {
		end += remora.Addr(g.rnd.Uint64N(64 * diffPage)) // and into what follows
	}
	return Iovec{uint64(a), uint64(end - a)}
}

// badElement makes an element that cannot be transferred, or not whole.
func (g *diffGen) badElement(which, n int) (Iovec, bool) {
	side, view := g.side(which)
	store, rnd := g.storesTo(which), g.rnd
	a, end := g.place(side, view, store)
	first := g.c.has(diffTransfer)
	switch k := rnd.IntN(100); {
	case k < 40:
		all := side.shut[view][diffBit(store)]
		if len(all) == 0 {
			return Iovec{}, false
		}
		p := &side.pieces[all[rnd.IntN(len(all))]]
		in := uint64(0) // where it can no longer be accessed
		if diffAllows(&diffKinds[p.kind], view, store, side.executeOnly) {
			in = (p.size + diffPage - 1) &^ (diffPage - 1)
		}
		return Iovec{uint64(p.Start) + in + rnd.Uint64N(p.Size-in), 1 + g.length()}, true
	case k < 65:
		v := Iovec{uint64(g.wild(side, g.wildRow(which), false)), 1 + g.length()}
		if rnd.IntN(10) == 0 {
			v.Base = uint64(side.limit) - v.Len // the last that a caller may name
		}
		return v, true
	case first || a == end:
		return Iovec{}, false
	case k < 85:
		g.budget -= min(uint64(end-a), g.budget)
		return Iovec{uint64(a), uint64(end-a) + 1 + rnd.Uint64N(8192)}, true
	}
	huge := []uint64{1 << 31, MaxRW - 1, MaxRW, MaxRW + 1, 1<<32 + rnd.Uint64N(1<<14), 1 << (33 + rnd.IntN(13)), 1<<63 - 1 - rnd.Uint64N(5000), 1<<63 - 1}[rnd.IntN(8)]
	if which == diffLocal && n > 1 { // else it is out of range, and nothing moves
		huge = min(huge, uint64(side.limit-a))
	}
	return Iovec{uint64(a), huge}, true
}

// wildRow chooses a row of addresses in no layout where the transfer stops.
func (g *diffGen) wildRow(which int) int {
	rows := []int{diffNull, diffGap, diffTop}
	if which == diffRemote {
		rows = append(rows, diffOdd, diffKernel, diffEnd, diffVvar)
	}
	if g.storesTo(which) {
		rows = append(rows, diffVdso)
		if which == diffLocal {
			rows = append(rows, diffVvar)
		}
	}
	return rows[g.rnd.IntN(len(rows))]
}

// wild chooses an address in no layout; with above, not below the end of user
// addresses.
func (g *diffGen) wild(side *diffSide, row int, above bool) remora.Addr {
	rnd := g.rnd
	near := remora.Addr(rnd.Uint64N(2 * diffPage))
	in := func(all []remora.Range) remora.Addr {
		if len(all) == 0 {
			return near
		}
		r := all[rnd.IntN(len(all))]
		return r.Start + remora.Addr(rnd.Uint64N(r.Size))
	}
	switch row {
	case diffVdso:
		return in(side.vdso)
	case diffVvar:
		return in(side.vvar)
	case diffGap:
		if rnd.IntN(2) == 0 {
			return side.Start - 1 - remora.Addr(rnd.Uint64N(diffMargin-diffPage))
		}
		return side.Start + remora.Addr(side.Size+rnd.Uint64N(diffMargin-diffPage))
	case diffTop:
		if above {
			return side.limit + 1 + near/2
		}
		return side.limit - 1 - near
	case diffOdd:
		return [...]remora.Addr{1<<63 - 1 - near, 1<<62 + near, 1<<56 + near, 0x4000_0000_0000_0000 - near}[rnd.IntN(4)]
	case diffKernel:
		return 0xffff_8000_0000_0000 + remora.Addr(rnd.Uint64N(1<<46))
	case diffEnd:
		return ^near
	}
	return remora.Addr(rnd.Uint64N(1 << 16))
}

var diffPlaceRows = [...]string{"aligned", "unaligned", "up to a hole", "anywhere", "write-only", "secret", "NULL", "first pages",
	"beside a layout", "no access", "guard", "beyond end of file", "partly readable", "end of user addresses", "not canonical",
	"kernel addresses", "last pages", "what is there"}

// The rows of diffPlaceRows.
const (
	placeAligned = iota
	placeUnaligned
	placeEdge
	placeAnywhere
	placeWriteOnly
	placeSecret
	placeNull
	placeLow
	placeGap
	placeNoAccess
	placeGuard
	placeBeyond
	placePartly
	placeTop
	placeOdd
	placeKernel
	placeEnd
	placeAsIs
)

// put chooses where an array is, and stores what can be stored of it there. Only the
// first readable elements are to be readable.
func (g *diffGen) put(which int, vec []Iovec, count uint64, readable int) {
	c := &g.c
	var a remora.Addr
	if readable < len(vec) {
		a, c.place[which] = g.placeUnreadable(readable)
	} else {
		a, c.place[which] = g.placeReadable(which, uint64(16*len(vec)))
	}
	if end := g.caller.end(diffOwn, true, a); end != 0 && len(vec) > 0 {
		if which == diffLocal && !c.Write && c.faults == 0 && g.rnd.IntN(30) == 0 { // R6
			vec[0] = Iovec{uint64(a) + g.rnd.Uint64N(16), min(1+g.rnd.Uint64N(100), uint64(end-a)-16)}
		}
		g.store(a, encode(vec)[:min(uint64(16*len(vec)), uint64(end-a))])
	}
	if len(vec) == 0 && g.rnd.IntN(2) == 0 {
		a, c.place[which] = 0, placeNull // R5
	}
	if which == diffLocal {
		c.Local, c.LocalCount = uint64(a), count
	} else {
		c.Remote, c.RemoteCount = uint64(a), count
	}
}

// store stores before the call, page by page: an array may lie in a file and in an alias of it.
func (g *diffGen) store(a remora.Addr, data []byte) {
	for len(data) > 0 {
		n := min(uint64(len(data)), diffPage-uint64(a)%diffPage)
		g.c.stores = append(g.c.stores, specimen.Store{Addr: a, Data: data[:n]})
		a, data = a+remora.Addr(n), data[n:]
	}
}

// placeReadable chooses where an array can be stored and read.
func (g *diffGen) placeReadable(which int, size uint64) (remora.Addr, int) {
	desk := g.caller.Start + remora.Addr(which*diffDesk/2*diffPage) + remora.Addr(g.rnd.Uint64N(2000)&^7)
	row := []int{placeAligned, placeUnaligned, placeEdge, placeAnywhere, placeWriteOnly, placeSecret}[pick(g.rnd, 60, 10, 8, 10, 4, 4)]
	switch row {
	case placeUnaligned:
		return desk + 1 + remora.Addr(g.rnd.IntN(7)), row
	case placeEdge, placeAnywhere:
		for range 10 {
			a, end := g.place(g.caller, diffOwn, true)
			if row == placeEdge && a < end {
				a = end - remora.Addr(size)
				if g.caller.end(diffOwn, false, end) != 0 || !g.caller.Contains(a) || g.caller.end(diffOwn, true, a) != end {
					continue
				}
			}
			if size <= uint64(end-a) {
				return a, row
			}
		}
	case placeWriteOnly, placeSecret:
		kind := specimen.WriteOnly
		if row == placeSecret {
			kind = specimen.Secret
		}
		if p := g.caller.piece(difftest.Number(kind)); p != nil && p.Size >= size {
			return p.Start + remora.Addr(g.rnd.Uint64N(p.Size-size+1)), row
		}
	}
	return desk, placeAligned
}

// piece gives a piece of a kind, or nil.
func (s *diffSide) piece(kind int) *diffPiece {
	if i := slices.IndexFunc(s.pieces, func(p diffPiece) bool { return p.kind == kind }); i >= 0 {
		return &s.pieces[i]
	}
	return nil
}

// placeUnreadable chooses where not all of an array can be read.
func (g *diffGen) placeUnreadable(readable int) (remora.Addr, int) {
	for range 20 {
		row := placeNull + g.rnd.IntN(placeEnd-placeNull+1)
		if readable > 0 {
			row = placePartly
		}
		if a, ok := g.unreadable(row, readable); ok {
			return a, row
		}
	}
	return 0, placeNull
}

// unreadable chooses an address for a row, if the layout has one.
func (g *diffGen) unreadable(row, readable int) (remora.Addr, bool) {
	s, rnd := g.caller, g.rnd
	in := func(kind specimen.Kind, from uint64) (remora.Addr, bool) {
		if p := s.piece(difftest.Number(kind)); p != nil {
			return p.Start + remora.Addr(from+rnd.Uint64N(p.Size-from)), true
		}
		return 0, false
	}
	switch row {
	case placePartly:
		a, end := g.place(s, diffOwn, true)
		if a == end || s.end(diffOwn, false, end) != 0 {
			return 0, false
		}
		a = end - remora.Addr(16*readable+rnd.IntN(16))
		return a, s.Contains(a) && s.end(diffOwn, true, a) == end
	case placeLow:
		return g.wild(s, diffNull, false), true
	case placeGap:
		return g.wild(s, diffGap, false), true
	case placeNoAccess:
		return in(specimen.NoAccess, 0)
	case placeGuard:
		return in(specimen.Guard, 0)
	case placeBeyond:
		return in(specimen.FileEnd, diffPage)
	case placeTop:
		return s.limit - remora.Addr(rnd.IntN(16)), true
	case placeOdd:
		return g.wild(s, diffOdd, false), true
	case placeKernel:
		return g.wild(s, diffKernel, false), true
	case placeEnd:
		return g.wild(s, diffEnd, false), true
	}
	return 0, true // NULL
}

// asItIs takes for an array what some memory of the caller holds.
func (g *diffGen) asItIs(which int) {
	c, rnd := &g.c, g.rnd
	kinds := [...]specimen.Kind{specimen.ReadOnly, specimen.ExecOnly, specimen.Text, specimen.Untouched, specimen.SharedReadOnly, specimen.Touched}
	a := g.caller.Start + remora.Addr(which*diffDesk/2*diffPage) + remora.Addr(rnd.Uint64N(4000)) // an array of before
	if p := g.caller.piece(difftest.Number(kinds[rnd.IntN(len(kinds))])); p != nil {
		a = p.Start + remora.Addr(rnd.Uint64N(p.Size-64))
	}
	c.asIs = true
	n := 1 + rnd.Uint64N(4)
	c.place[which], c.count[which] = placeAsIs, 2
	if n == 1 {
		c.count[which] = 1
	}
	if which == diffLocal {
		c.Local, c.LocalCount = uint64(a), n
	} else {
		c.Remote, c.RemoteCount = uint64(a), n
	}
}
