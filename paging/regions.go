// SPDX-License-Identifier: Apache-2.0

package paging

import (
	"context"
	"fmt"
	"iter"

	"github.com/remora-go/remora"
)

// maxTables bounds the tables that Regions looks at: with pages of 4 KiB alone they
// map 2 TiB.
const maxTables = 1 << 20

// Regions lists the runs of addresses that map memory, pages without access and
// pages being moved included, in address order; those with the same rights that
// touch are one. What is swapped out, or has a marker, is not listed.
//
// A table that cannot be read gives one Region of what it governs, with the error;
// the list goes on behind it. It ends with the context's error, or when the physical
// memory is gone.
//
// A table may appear at many places, and then maps the same at all of them. It is
// listed once at each level; where it appears again, and maps more than one run, one
// Region stands for all of it, with every right that any part has, and its Name says
// where the list is. So the time it takes is linear in the number of tables, which is
// limited to 1,048,576, whatever a damaged image holds.
func (t *Tables) Regions(ctx context.Context) iter.Seq2[remora.Region, error] {
	return func(yield func(remora.Region, error) bool) {
		l := lister{t: t, ctx: ctx, yield: yield, seen: map[seenKey]*summary{}}
		if t.half != Upper {
			l.table(t.root, t.f.levels, 0, allRights)
		}
		if t.half != Lower {
			l.table(t.root, t.f.levels, -(1 << t.f.halfBits()), allRights)
		}
		l.flush()
	}
}

// lister is a run of Regions.
type lister struct {
	t     *Tables
	ctx   context.Context
	yield func(remora.Region, error) bool
	ended bool
	seen  map[seenKey]*summary
	run   remora.Region // not given yet
}

type seenKey struct {
	at    remora.Addr
	level int
	half  bool // the upper, of a table that serves both
	may   rights
}

// summary is what a table maps.
type summary struct {
	first   remora.Addr // the lowest address that it governs, where it appeared first
	mapped  bool        // any of it
	perm    remora.Perm // of all
	uniform bool        // all of it is one run, or nothing
}

// add notes a run of the table: or, with perm and no mapped, that there is a hole.
func (s *summary) add(first bool, mapped bool, perm remora.Perm) {
	if !first && (mapped != s.mapped || perm != s.perm) {
		s.uniform = false
	}
	s.mapped, s.perm = s.mapped || mapped, s.perm|perm
}

// table lists what the table at governs, beginning at the address base, on a path
// with rights may.
func (l *lister) table(at remora.Addr, level int, base remora.Addr, may rights) *summary {
	key := seenKey{at, level, base >= middle && level == l.t.f.levels, may}
	p := l.t.place(level, base)
	if s := l.seen[key]; s != nil {
		l.again(s, p.extent(l.t.f, p.lo, p.hi))
		return s
	}
	s := &summary{first: base, uniform: true}
	if l.seen[key] = s; len(l.seen) > maxTables {
		l.fail(p.extent(l.t.f, p.lo, p.hi), fmt.Errorf("%w: more than %d page tables", remora.ErrCorrupt, maxTables))
		l.ended = true
		return s
	}
	if err := l.ctx.Err(); err != nil {
		l.fail(remora.Extent{}, err)
		l.ended = true
		return s
	}
	var tb *table
	if l.t.live {
		tb = &table{at: at}
		r := readers.Get().(*reader)
		tb.read(l.ctx, l.t.phys, l.t.f.entries(level), r)
		readers.Put(r)
	} else {
		tb = l.t.cache.load(l.ctx, l.t.cache.begin(), at, l.t.f.entries(level))
	}
	l.entries(tb, p, may, s)
	return s
}

// entries lists what the entries of tb map, and sums it up in s.
func (l *lister) entries(tb *table, p place, may rights, s *summary) {
	var e Entry
	for i := p.lo; i < p.hi && !l.ended; {
		p.index = i
		err := l.t.entry(&e, tb, &p)
		x := p.extent(l.t.f, i, i+1)
		switch {
		case err != nil:
			x = l.t.missing(tb, &p)
			s.uniform = false
			l.fail(x, err)
			l.ended = l.ended || !isFault(err)
		case e.Kind == KindTable:
			below := l.table(e.Phys, p.level-1, x.Virt, may&e.rights)
			s.uniform = s.uniform && below.uniform
			s.add(i == p.lo, below.mapped, below.perm)
		default:
			x = l.t.extent(tb, &p, &e, may)
			if x.Err == nil {
				l.add(remora.Region{Range: remora.Range{Start: x.Virt, Size: x.Size}, Perm: x.Perm})
			}
			s.add(i == p.lo, x.Err == nil, x.Perm)
		}
		i = int((x.Virt-p.base)>>l.t.f.shift[p.level]) + int(x.Size>>l.t.f.shift[p.level])
	}
}

// again lists what a table maps that was listed elsewhere.
func (l *lister) again(s *summary, x remora.Extent) {
	if !s.mapped {
		return
	}
	r := remora.Region{Range: remora.Range{Start: x.Virt, Size: x.Size}, Perm: s.perm}
	if !s.uniform {
		r.Name = fmt.Sprintf("[the tables of %v]", s.first)
	}
	l.add(r)
}

// add adds a Region, or makes the one before it longer.
func (l *lister) add(r remora.Region) {
	last := &l.run
	if last.Size > 0 && last.Start+remora.Addr(last.Size) == r.Start && last.Perm == r.Perm && last.Name == r.Name {
		last.Size += r.Size
		return
	}
	l.flush()
	l.run = r
}

// flush gives the Region that is not given yet.
func (l *lister) flush() {
	if l.run.Size > 0 && !l.ended {
		l.ended = !l.yield(l.run, nil)
	}
	l.run = remora.Region{}
}

// fail gives an error, of x.
func (l *lister) fail(x remora.Extent, err error) {
	l.flush()
	if !l.ended {
		l.ended = !l.yield(remora.Region{Range: remora.Range{Start: x.Virt, Size: x.Size}}, err)
	}
}
