// SPDX-License-Identifier: Apache-2.0

package paging

import "github.com/remora-go/remora"

// missing gives the hole of an entry that could not be read, with those around it
// that could not for the same reason.
func (t *Tables) missing(tb *table, p *place) remora.Extent {
	g := tb.gapAt(p.index)
	x := p.extent(t.f, max(g.first, p.lo), min(g.end, p.hi))
	x.Err = g.err
	return x
}

// extent gives the run around the entry e at p, on a path with rights may.
func (t *Tables) extent(tb *table, p *place, e *Entry, may rights) remora.Extent {
	first, end := t.around(tb, p, e)
	x := p.extent(t.f, first, end)
	x.Raw, x.Err = tb.word(first), e.Err()
	if x.Err == nil {
		shift := t.f.shift[p.level]
		x.Phys = e.at(p.index, shift) - remora.Addr(p.index-first)<<shift
		x.Perm = e.perm(may)
	}
	return x
}

// perm is what e allows on a path with rights may. Where the pages are hidden from
// the hardware nothing is allowed.
func (e *Entry) perm(may rights) remora.Perm { return (e.rights & may).perm() }

// around gives the entries from first up to end that share the fate of e at p.
func (t *Tables) around(tb *table, p *place, e *Entry) (first, end int) {
	first, end = p.index, p.index+1
	lo, hi := p.lo, p.hi
	for k := range tb.gaps {
		if g := &tb.gaps[k]; g.first > p.index {
			hi = min(hi, g.first)
		} else {
			lo = max(lo, g.end)
		}
	}
	for end < hi && t.alike(p, e, tb.word(end), end) {
		end++
	}
	for first > lo && t.alike(p, e, tb.word(first-1), first-1) {
		first--
	}
	return first, end
}

// steady are the bits of an entry in which the address is plain: where two entries
// differ by a multiple of their size, and in nothing above, their addresses do, too.
const steady = 40

// alike says whether entry i, raw, is to e as if one mapping held both.
func (t *Tables) alike(p *place, e *Entry, raw uint64, i int) bool {
	switch e.Kind {
	case KindNone:
		return raw == 0
	case KindLeaf:
		if t.near(p, e, raw, i) {
			return true
		}
	case KindMarker, KindCorrupt, KindInvalid:
		return raw == e.Raw
	}
	if raw == 0 {
		return false
	}
	var o Entry
	t.decode(&o, p, raw)
	if o.Kind != e.Kind || o.rights != e.rights {
		return false
	}
	shift := t.f.shift[p.level]
	apart := uint64(i-p.index) << (shift - t.f.shift[1]) // in pages, and below 0 before e
	if e.Kind == KindSwap {
		return o.Type == e.Type && o.Offset == e.Offset+apart
	}
	return o.at(i, shift) == e.at(p.index, shift)+remora.Addr(apart)<<t.f.shift[1]
}

// near is a quick yes for most neighbours: the same bits, and an address that far
// away. It knows addresses that stand in the entry as they are.
func (t *Tables) near(p *place, e *Entry, raw uint64, i int) bool {
	at := t.f.shift[p.level]
	if t.f.arch == archRISCV {
		at -= 12 - rvFrame
	}
	return e.Size == t.f.entrySize(p.level) && raw>>steady == e.Raw>>steady && raw-e.Raw == uint64(i-p.index)<<at
}
