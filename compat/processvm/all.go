// SPDX-License-Identifier: Apache-2.0

package processvm

import (
	"context"
	"sync"

	"github.com/remora-go/remora/compat/errno"
)

// mover makes one call: a System's, or the system's.
type mover interface {
	move(local, remote []Iovec) (int, errno.Errno)
}

// many is the scratch of calls that are made one after another.
type many struct {
	local, remote [IOVMax]Iovec // what of the vectors goes into one call
	system        systemMover   // one of the two makes it
	live          liveMover
}

var manyPool = sync.Pool{New: func() any { return new(many) }}

// done gives the scratch back, with nothing of the caller's.
func (w *many) done() {
	w.system, w.live = systemMover{}, liveMover{}
	manyPool.Put(w)
}

// all makes calls until either vector is used up, or one fails. It gives the bytes moved and
// the number of the failure: a call that moved less than it was asked to says nothing, but
// the next one does.
func (w *many) all(m mover, local, remote []Iovec) (uint64, errno.Errno) {
	var sum uint64
	l, r := place{vec: local}, place{vec: remote}
	for {
		lw, rw := l.window(w.local[:0]), r.window(w.remote[:0])
		if len(lw) == 0 || len(rw) == 0 {
			return sum, 0
		}
		n, e := m.move(lw, rw)
		if e != 0 {
			return sum, e
		}
		sum += uint64(n)
		l.advance(uint64(n))
		r.advance(uint64(n))
	}
}

// place is a place in a vector.
type place struct {
	vec []Iovec
	off uint64 // in vec[0]
}

// window fills w with the next elements that are not empty.
func (p *place) window(w []Iovec) []Iovec {
	off := p.off
	for i := 0; i < len(p.vec) && len(w) < cap(w); i++ {
		if v := p.vec[i]; v.Len > off {
			w = append(w, Iovec{v.Base + off, v.Len - off})
		}
		off = 0
	}
	return w
}

func (p *place) advance(n uint64) {
	for p.off += n; len(p.vec) > 0 && p.off >= p.vec[0].Len; p.vec = p.vec[1:] {
		p.off -= p.vec[0].Len
	}
}

// systemMover is a System as mover.
type systemMover struct {
	s      *System
	ctx    context.Context
	caller *Process
	write  bool
	pid    int
}

func (m *systemMover) move(local, remote []Iovec) (int, errno.Errno) {
	if m.write {
		return m.s.Writev(m.ctx, m.caller, m.pid, local, remote, 0)
	}
	return m.s.Readv(m.ctx, m.caller, m.pid, local, remote, 0)
}

// ReadAll makes as many calls as it takes to move all bytes that both vectors have room for:
// past IOVMax elements and past MaxRW bytes. It gives the bytes moved, and the error of Outcome
// if these are not all. Empty elements are passed over, wherever they point.
func (s *System) ReadAll(ctx context.Context, caller *Process, pid int, local, remote []Iovec) (uint64, error) {
	return s.all(systemMover{s, ctx, caller, false, pid}, local, remote)
}

// WriteAll is ReadAll in the other direction.
func (s *System) WriteAll(ctx context.Context, caller *Process, pid int, local, remote []Iovec) (uint64, error) {
	return s.all(systemMover{s, ctx, caller, true, pid}, local, remote)
}

func (s *System) all(m systemMover, local, remote []Iovec) (uint64, error) {
	w := manyPool.Get().(*many)
	defer w.done()
	w.system = m
	n, e := w.all(&w.system, local, remote)
	return n, outcome(m.write, m.pid, local, remote, n, e)
}
