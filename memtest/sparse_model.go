// SPDX-License-Identifier: Apache-2.0

package memtest

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/remora-go/remora"
)

// What this file does to a Sparse, it does to the model: no protection and no
// injected fault stands in its way, and it works after Close.

// Peek copies what lies at a into p without touching anything. It fails, with
// p unspecified, when part of it is not memory: unmapped, beyond the end of its
// Object, or mapped with a Fault.
func (s *Sparse) Peek(p []byte, a remora.Addr) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.each(p, a, "peek", func(m *mapping, no, in uint64, b []byte) {
		m.load(s.pages[no], in, remora.Addr(no*uint64(s.opt.PageSize)+in), b)
	})
}

// Poke stores p at a as the target itself would: a page that was never touched
// is made, and is present from then on. It fails as Peek does.
func (s *Sparse) Poke(p []byte, a remora.Addr) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.each(p, a, "poke", s.store)
}

// Touch makes the pages that hold r present, as if the target had read a byte
// of each: only a mapped page can be.
func (s *Sparse) Touch(r remora.Range) error {
	return s.presence(r, "touch", true)
}

// Evict makes the pages that hold r not present. Their contents stay.
func (s *Sparse) Evict(r remora.Range) error {
	return s.presence(r, "evict", false)
}

func (s *Sparse) presence(r remora.Range, verb string, present bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for size := uint64(s.opt.PageSize); !r.Empty(); {
		if m := s.find(r.Start); m == nil {
			return fmt.Errorf("memtest: %s %v: %w", verb, r.Start, remora.ErrUnmapped)
		}
		s.page(uint64(r.Start) / size).present = present
		n := min(r.Size, size-uint64(r.Start)%size)
		r.Start, r.Size = r.Start+remora.Addr(n), r.Size-n
	}
	return nil
}

// each calls do for the part of p in each page from a on.
func (s *Sparse) each(p []byte, a remora.Addr, verb string, do func(m *mapping, no, in uint64, b []byte)) error {
	size := uint64(s.opt.PageSize)
	for start := a; len(p) > 0; {
		cause := remora.ErrUnmapped
		m := s.find(a)
		if m != nil && a >= start {
			cause = s.refused(remora.Force, m, nil, a)
		}
		if cause != 0 {
			return fmt.Errorf("memtest: %s %v: %w", verb, a, cause)
		}
		n := min(uint64(len(p)), size-uint64(a)%size)
		do(m, uint64(a)/size, uint64(a)%size, p[:n])
		p, a = p[n:], a+remora.Addr(n)
	}
	return nil
}

// Clone gives a space of its own with the same options, layout, contents and
// faults. Objects are copied too: the clone shares nothing with anyone.
func (s *Sparse) Clone() *Sparse {
	s.mu.RLock()
	defer s.mu.RUnlock()
	c := NewSparse(&s.opt)
	c.closed, c.maps, c.pages = s.closed, slices.Clone(s.maps), maps.Clone(s.pages)
	c.faults = [2][]injected{slices.Clone(s.faults[0]), slices.Clone(s.faults[1])}
	copies := map[*Object]*Object{}
	for i := range c.maps {
		o := c.maps[i].Object
		if o != nil && copies[o] == nil {
			copies[o] = o.clone()
		}
		c.maps[i].Object = copies[o]
	}
	for no, p := range c.pages {
		c.pages[no] = &page{data: bytes.Clone(p.data), present: p.present}
	}
	for no, p := range c.pages {
		p.next = c.pages[no+1]
	}
	return c
}

// Equal says whether Diff finds nothing.
func (s *Sparse) Equal(o *Sparse) bool { return s.Diff(o) == "" }

// diffLimit is how many differences Diff names.
const diffLimit = 10

// Diff tells, a line each, how the mappings, bytes and presence of o differ from
// those of s: the first ten. Both must have the same page size. It looks at the
// pages that either has of its own and at the objects' bytes where mapped.
func (s *Sparse) Diff(o *Sparse) string {
	a, b := s.Clone(), o.Clone() // the locks of both are never held together
	var lines []string
	for i := range max(len(a.maps), len(b.maps)) {
		if x, y := a.line(i), b.line(i); x != y {
			lines = append(lines, fmt.Sprintf("mapping %d: %s, became %s", i, x, y))
		}
	}
	size := uint64(s.opt.PageSize)
	x, y := make([]byte, size), make([]byte, size)
	for _, no := range a.touched(b) {
		at := remora.Addr(no * size)
		if p, q := a.state(no), b.state(no); p != q {
			lines = append(lines, fmt.Sprintf("%v: %s, became %s", at, p, q))
		}
		if a.Peek(x, at) != nil || b.Peek(y, at) != nil {
			continue
		}
		for i := range x {
			if x[i] != y[i] {
				lines = append(lines, fmt.Sprintf("%v: 0x%02x, became 0x%02x", at+remora.Addr(i), x[i], y[i]))
				break
			}
		}
	}
	return strings.Join(lines[:min(len(lines), diffLimit)], "\n")
}

// line describes a mapping for Diff.
func (s *Sparse) line(i int) string {
	if i >= len(s.maps) {
		return "none"
	}
	m := &s.maps[i]
	return fmt.Sprintf("%v-%v %v shared=%t offset=0x%x fault=%d %q", m.first, m.last, m.Perm, m.Shared, m.Offset, m.Fault, m.Name)
}

func (s *Sparse) state(no uint64) string {
	p := s.pages[no]
	switch {
	case p == nil || !p.present && p.data == nil:
		return "untouched"
	case !p.present:
		return "evicted"
	case p.data == nil:
		return "present"
	}
	return "present, own copy"
}

// touched lists the pages of either space that may hold something.
func (s *Sparse) touched(o *Sparse) []uint64 {
	set := map[uint64]bool{}
	for _, sp := range []*Sparse{s, o} {
		size := uint64(sp.opt.PageSize)
		for no := range sp.pages {
			set[no] = true
		}
		for i := range sp.maps {
			m := &sp.maps[i]
			if m.Object == nil {
				continue
			}
			for block := range m.Object.blocks {
				for off := block * blockSize; off < (block+1)*blockSize; off += min(size, blockSize) {
					if d := off &^ (size - 1); d >= m.Offset && d-m.Offset < m.size() {
						set[(uint64(m.first)+d-m.Offset)/size] = true
					}
				}
			}
		}
	}
	return slices.Sorted(maps.Keys(set))
}
