// SPDX-License-Identifier: Apache-2.0

package memtest

import (
	"context"

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
	m, p, n, cause := s.reach(op, a, n)
	if cause != 0 {
		return 0, cause
	}
	if run := s.run(op, m, p, a, n); run != nil {
		return uint64(len(run)), 0 // nothing is to be done to these
	}
	size := uint64(s.opt.PageSize)
	no := uint64(a) / size
	end := a | remora.Addr(size-1) // the last byte
	if op&(remora.Write|remora.Resident) == 0 && !s.opt.ReadMaps && m.Object == nil {
		end = m.last
	}
	if left := uint64(end - a); n-1 > left {
		n = left + 1
	}
	switch {
	case op&remora.Write != 0:
		s.store(m, no, 0, nil)
	case s.opt.ReadMaps:
		s.page(no).present = true
	}
	return n, 0
}

// MoveFrom writes at a up to n bytes that src, another Sparse, has at b, without a buffer between
// the two, and says how many. It is a short cut: it stops where either side would fault, or at memory
// that no page holds yet, and does nothing while src is in use by somebody who writes; a
// Transfer tells why, and goes on.
func (s *Sparse) MoveFrom(ctx context.Context, a remora.Addr, src remora.Space, b remora.Addr, n uint64) (moved uint64) {
	from, ok := src.(*Sparse)
	if !ok || from == s {
		return 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !from.mu.TryRLock() { // not Lock: it may be waiting for this one
		return 0
	}
	defer from.mu.RUnlock()
	if s.refusal(remora.Write) != nil || from.refusal(remora.Read) != nil || from.opt.ReadMaps {
		return 0
	}
	for moved < n && ctx.Err() == nil {
		for end := min(n, moved+chunk); moved < end; {
			to, at := a+remora.Addr(moved), b+remora.Addr(moved)
			if to < a || at < b {
				return moved
			}
			m, p, k, cause := from.reach(remora.Read, at, end-moved)
			if cause != 0 {
				return moved
			}
			buf := from.run(remora.Read, m, p, at, k)
			if buf == nil {
				return moved
			}
			k2, cause := s.step(remora.Write, to, buf)
			if moved += uint64(k2); cause != 0 {
				return moved
			}
		}
	}
	return moved
}
