// SPDX-License-Identifier: Apache-2.0

package memtest

import (
	"context"
	"slices"

	"github.com/remora-go/remora"
)

// Pin makes the pages that hold r accessible for op, as a load or a store in each of them would, and moves
// nothing: a write gives each page of a private mapping its copy. It says how many
// bytes from r.Start on can be accessed, and why not more.
func (s *Sparse) Pin(ctx context.Context, op remora.Op, r remora.Range) (uint64, error) {
	if op&remora.Write != 0 || s.opt.ReadMaps {
		s.mu.Lock()
		defer s.mu.Unlock()
	} else {
		s.mu.RLock()
		defer s.mu.RUnlock()
	}
	if err := s.refusal(op); err != nil {
		return 0, err
	}
	for done := uint64(0); done < r.Size; {
		if err := ctx.Err(); err != nil {
			return done, err
		}
		a := r.Start + remora.Addr(done)
		if a < r.Start {
			return done, remora.ErrUnmapped
		}
		n, cause := s.pin(op, a, r.Size-done)
		if cause != 0 {
			return done, cause
		}
		done += n
	}
	return r.Size, nil
}

// pin does it to what is alike from a on, at most n bytes: to the end of a page, or of a
// mapping where nothing is to be done to its pages.
func (s *Sparse) pin(op remora.Op, a remora.Addr, n uint64) (uint64, remora.Cause) {
	if a > s.opt.Last {
		return 0, remora.ErrUnmapped
	}
	size := uint64(s.opt.PageSize)
	no := uint64(a) / size
	m := s.find(a)
	if m == nil {
		return 0, remora.ErrUnmapped
	}
	end := a | remora.Addr(size-1) // the last byte
	plain := op&(remora.Write|remora.Resident) == 0 && !s.opt.ReadMaps && m.Object == nil
	if plain {
		end = m.last
	}
	if left := uint64(min(end, s.opt.Last) - a); n-1 > left {
		n = left + 1
	}
	list := s.faults[op&remora.Write]
	if i, found := slices.BinarySearchFunc(list, a, byAddr); found {
		return 0, list[i].cause
	} else if i < len(list) {
		n = min(n, uint64(list[i].addr-a))
	}
	p := s.pages[no]
	if cause := s.refused(op, m, p, a); cause != 0 {
		return 0, cause
	}
	switch {
	case op&remora.Write != 0:
		s.store(m, no, 0, nil)
	case s.opt.ReadMaps:
		s.page(no).present = true
	}
	return n, 0
}
