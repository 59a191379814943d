// SPDX-License-Identifier: Apache-2.0

package vmcore

import (
	"fmt"
	"slices"

	"github.com/remora-go/remora"
)

// The most that a check remembers of where data lie. A sound file is one extent, and
// shares the data of a few pages; beyond this, data that overlap are not looked for.
const (
	checkExtents = 1 << 20
	checkShared  = 1 << 16
)

// checkTable looks for data that overlap. Pages that have the same descriptor share
// their data, as pages of zeros do.
type checkTable struct {
	c     *kdumpCheck
	p     *kdumpPart
	start int64 // behind the last descriptor
	lost  lostRun
	used  [][2]int64             // extents in order, apart
	again map[cacheKey]*[2]int64 // data in use already: where their descriptor is, and how many have the same
}

func (c *kdumpCheck) newTable(p *kdumpPart) *checkTable {
	t := &checkTable{c: c, p: p, again: make(map[cacheKey]*[2]int64), start: p.head.descOff()}
	if first, err := c.k.firstRank(c.ctx, p); err == nil {
		if _, end, err := c.k.saved.look(c.ctx, p.end); err == nil {
			t.start += int64(end-first) * kdumpDescSize
		}
	}
	s := &p.head.sub
	for _, b := range []kdumpBlob{s.info, s.notes, s.erase} {
		if b.size > 0 && b.judge(p.src, p.head.block, 1<<40) == nil && int64(b.off) >= t.start {
			t.use(int64(b.off), int64(b.off+b.size))
		}
	}
	return t
}

// use takes an extent, and says whether it was free.
func (t *checkTable) use(off, end int64) bool {
	i, _ := slices.BinarySearchFunc(t.used, off, func(e [2]int64, off int64) int {
		if e[1] < off {
			return -1
		}
		return 1
	}) // the first that ends at off or behind it
	if i == len(t.used) || end < t.used[i][0] {
		if len(t.used) < checkExtents {
			t.used = slices.Insert(t.used, i, [2]int64{off, end})
		}
		return true
	}
	e := &t.used[i]
	free := end <= e[0] || off >= e[1]
	if off == e[1] && i+1 < len(t.used) && end > t.used[i+1][0] {
		free = false
	}
	e[0], e[1] = min(e[0], off), max(e[1], end)
	for i+1 < len(t.used) && t.used[i+1][0] <= e[1] {
		e[1] = max(e[1], t.used[i+1][1])
		t.used = slices.Delete(t.used, i+1, i+2)
		e = &t.used[i]
	}
	return free
}

// judge looks at where the data of d lie, and says whether they are worth inflating.
func (t *checkTable) judge(d *kdumpDesc) bool {
	if d.off < t.start {
		t.c.found(t.p.src.bad(d.at, remora.ErrCorrupt, fmt.Sprintf("a page descriptor with data behind the last descriptor, which ends at 0x%x", t.start),
			fmt.Sprintf("offset 0x%x", d.off)))
		return false
	}
	if d.size == 0 {
		return false
	}
	key := cacheKey{off: d.off, size: d.size, flags: d.flags}
	if t.again[key] != nil {
		return false // was inflated when it was first seen, or will be
	}
	if !t.use(d.off, d.off+int64(d.size)) && len(t.again) < checkShared {
		t.again[key] = &[2]int64{d.at, 0}
	}
	return true
}

// settle looks through the descriptors once more for those whose data somebody else has
// too: they are sound if the other's descriptor is the same.
func (t *checkTable) settle() {
	if len(t.again) == 0 {
		return
	}
	t.c.eachDescs(t.p, func(_ uint64, j *kdumpJob) {
		for _, d := range j.descs[:j.n] {
			if n := t.again[cacheKey{off: d.off, size: d.size, flags: d.flags}]; n != nil {
				n[1]++
			}
		}
		t.c.k.jobs.Put(j)
	})
	for key, n := range t.again {
		if n[1] < 2 && t.c.ctx.Err() == nil {
			t.c.found(t.p.src.bad(n[0], remora.ErrCorrupt, "a page descriptor with data of its own, or all of another page's",
				fmt.Sprintf("0x%x bytes at 0x%x, some of which are in use", key.size, key.off)))
		}
	}
}

// lostRun joins reports of pages that follow one another and are lost.
type lostRun struct {
	bad       *remora.FormatError
	none      bool // they have no offset
	from, end uint64
}

// add takes what was found of page pfn: bad, or nil.
func (l *lostRun) add(c *kdumpCheck, pfn uint64, bad *remora.FormatError, d *kdumpDesc) {
	lost := bad != nil && bad.Err == remora.ErrTruncated
	if l.bad != nil && (!lost || l.end != pfn || l.none != (d.off == 0)) {
		l.flush(c)
	}
	switch {
	case lost && l.bad == nil:
		l.bad, l.none, l.from, l.end = bad, d.off == 0, pfn, pfn+1
	case lost:
		l.end++
	case bad != nil:
		c.found(bad)
	}
}

func (l *lostRun) flush(c *kdumpCheck) {
	if l.bad != nil {
		l.bad.Got += fmt.Sprintf(" (pages 0x%x to 0x%x)", l.from, l.end-1)
		c.found(l.bad)
	}
	l.bad = nil
}
