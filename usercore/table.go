// SPDX-License-Identifier: Apache-2.0

package usercore

import (
	"cmp"
	"debug/elf"
	"fmt"
	"io"
	"math/bits"
	"slices"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/elfcore"
)

// extent is a run of addresses that share one fate: bytes of a file, or a cause.
type extent struct {
	first, last remora.Addr
	src         io.ReaderAt // nil: a hole
	off         int64       // of first in src
	cause       remora.Cause
}

// find gives the index of the extent that holds a, or -1.
func find(table []extent, a remora.Addr) int {
	lo, hi := 0, len(table)
	for lo < hi {
		if mid := int(uint(lo+hi) >> 1); table[mid].last < a {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo < len(table) && table[lo].first <= a {
		return lo
	}
	return -1
}

// read reads what one extent holds of the bytes at a.
func read(table []extent, a remora.Addr, buf []byte, gap remora.Cause) (int, error) {
	i := find(table, a)
	if i < 0 {
		return 0, gap
	}
	e := &table[i]
	if e.src == nil {
		return 0, e.cause
	}
	if room := uint64(e.last - a); uint64(len(buf))-1 > room {
		buf = buf[:room+1]
	}
	n, err := e.src.ReadAt(buf, e.off+int64(a-e.first))
	switch {
	case n == len(buf):
		return n, nil
	case err == nil || err == io.EOF: // the file has shrunk since it was opened
		return n, e.cause
	}
	return n, remora.ErrIO
}

// from cuts off what lies before a.
func (e extent) from(a remora.Addr) extent {
	if a > e.first {
		e.off += int64(a - e.first)
		e.first = a
	}
	return e
}

// under gives all of top, and of below what top leaves free. Both are sorted by
// their first address and top does not overlap; what overlaps in below goes to
// the earlier one.
func under(top, below []extent) []extent {
	out := make([]extent, 0, len(top)+len(below))
	for _, b := range below {
		for len(top) > 0 && top[0].last < b.first {
			out, top = append(out, top[0]), top[1:]
		}
		if n := len(out); n > 0 && out[n-1].last >= b.first {
			if out[n-1].last >= b.last {
				continue
			}
			b = b.from(out[n-1].last + 1)
		}
		out, top = around(out, top, b)
	}
	return append(out, top...)
}

// around adds to out what the extents of top leave free of b, and those that reach
// into it. It gives the rest of top.
func around(out, top []extent, b extent) (o, rest []extent) {
	for len(top) > 0 && top[0].first <= b.last {
		t := top[0]
		if t.first > b.first {
			part := b
			part.last = t.first - 1
			out = append(out, part)
		}
		out, top = append(out, t), top[1:]
		if t.last >= b.last {
			return out, top
		}
		b = b.from(t.last + 1)
	}
	return append(out, b), top
}

// build makes the table of extents and the list of regions from the program
// headers and NT_FILE.
func (c *Core) build(r io.ReaderAt, o *Options) error {
	loads, err := c.loads()
	if err != nil {
		return err
	}
	if c.table, err = c.saved(loads, r); err != nil {
		return err
	}
	c.regions = c.makeRegions(loads)
	if o != nil && o.Files {
		c.table = under(c.table, c.backed(o.Root))
	}
	var left []extent
	for _, p := range loads {
		left = append(left, extent{first: remora.Addr(p.Vaddr), last: remora.Addr(p.Vaddr + p.Memsz - 1), cause: remora.ErrNotSaved})
	}
	c.table = under(c.table, left)
	left = left[:0]
	for _, m := range c.files {
		left = append(left, extent{first: m.Start, last: m.Last(), cause: remora.ErrNotSaved})
	}
	c.table = under(c.table, left)
	return nil
}

// loads gives the PT_LOAD headers that hold an address, by address.
func (c *Core) loads() ([]*elfcore.Prog, error) {
	var loads []*elfcore.Prog
	for i := range c.file.Progs {
		p := &c.file.Progs[i]
		if p.Type != elf.PT_LOAD || p.Memsz == 0 && p.Filesz == 0 {
			continue
		}
		if p.Filesz > p.Memsz {
			return nil, c.badProg(p, "a segment with p_filesz <= p_memsz", fmt.Sprintf("0x%x > 0x%x", p.Filesz, p.Memsz))
		}
		if p.Memsz-1 > uint64(c.file.Last())-p.Vaddr {
			return nil, c.badProg(p, "a segment within the address space", fmt.Sprintf("0x%x+0x%x", p.Vaddr, p.Memsz))
		}
		loads = append(loads, p)
	}
	slices.SortStableFunc(loads, func(a, b *elfcore.Prog) int { return cmp.Compare(a.Vaddr, b.Vaddr) })
	return loads, nil
}

func (c *Core) badProg(p *elfcore.Prog, want, got string) error {
	return &remora.FormatError{File: c.file.Name, Offset: c.file.ProgOffset(p), Want: want, Got: got, Err: remora.ErrCorrupt}
}

// saved gives the extents of what the core was meant to hold: bytes, and what the
// end of the file has cut off. Two that claim one address are refused: one of them
// is a lie, and nothing says which.
func (c *Core) saved(loads []*elfcore.Prog, r io.ReaderAt) ([]extent, error) {
	var table []extent
	for _, p := range loads {
		if p.Filesz == 0 {
			continue
		}
		first := remora.Addr(p.Vaddr)
		if n := len(table); n > 0 && table[n-1].last >= first {
			return nil, c.badProg(p, "segments that do not overlap", fmt.Sprintf("%v saved twice", first))
		}
		n := c.file.Saved(p)
		if n > 0 {
			table = append(table, extent{first: first, last: first + remora.Addr(n-1), src: r, off: int64(p.Off), cause: remora.ErrTruncated})
		}
		if n < p.Filesz {
			table = append(table, extent{first: first + remora.Addr(n), last: first + remora.Addr(p.Filesz-1), cause: remora.ErrTruncated})
		}
	}
	return table, nil
}

// granule is the largest power of two, up to a page, at whose multiples all
// extents begin and end.
func (c *Core) granule() uint32 {
	limit := c.auxValue(auxPageSize)
	if limit == 0 || limit&(limit-1) != 0 || limit > 1<<16 {
		limit = 4096
	}
	all := limit
	for i := range c.table {
		all |= uint64(c.table[i].first) | uint64(c.table[i].last+1)
	}
	return 1 << bits.TrailingZeros64(all)
}
