// SPDX-License-Identifier: Apache-2.0

package memtest

import (
	"context"
	"errors"
	"io/fs"
	"slices"

	"github.com/remora-go/remora"
)

// The contract allows moving a MiB between two looks at the context. A Sparse
// looks more often, so that its own tests need not move so much.
const (
	chunk       = 1 << 20
	sparseChunk = 32 << 10
)

// Transfer moves the segments one after another, page by page. Reads run side by
// side; a write runs alone.
func (s *Sparse) Transfer(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
	if op&remora.Write != 0 || s.opt.ReadMaps {
		s.mu.Lock()
		defer s.mu.Unlock()
	} else {
		s.mu.RLock()
		defer s.mu.RUnlock()
	}
	if err := s.refusal(op); err != nil {
		return refuse(segs, err)
	}
	var sum int64
	var first, ended error // what to return; why nothing more is attempted
	for i := range segs {
		seg := &segs[i]
		seg.N, seg.Err = 0, nil
		if len(seg.Buf) == 0 {
			continue
		}
		if ended != nil {
			seg.Err = ended
			continue
		}
		cut := s.segment(ctx, op, seg)
		sum += int64(seg.N)
		switch {
		case cut:
			first, ended = seg.Err, seg.Err
		case seg.Err != nil && op&remora.StopAtFault != 0:
			ended = remora.ErrStopped
			fallthrough
		case first == nil:
			first = seg.Err
		}
	}
	return sum, first
}

// refusal says why the whole call is refused, or gives nil.
func (s *Sparse) refusal(op remora.Op) error {
	switch {
	case op&^(s.ops()|remora.Write) != 0:
		return errors.ErrUnsupported
	case s.closed:
		return fs.ErrClosed
	case op&remora.Write != 0 && s.opt.ReadOnly:
		return remora.ErrReadOnly
	}
	return nil
}

// refuse ends every segment with err, but empty ones without: they never fail.
// The call fails if a segment does, or if the call itself is what is wrong.
func refuse(segs []remora.Seg, err error) (int64, error) {
	failed := err != remora.ErrReadOnly
	for i := range segs {
		segs[i].N, segs[i].Err = 0, nil
		if len(segs[i].Buf) > 0 {
			segs[i].Err, failed = err, true
		}
	}
	if !failed {
		return 0, nil
	}
	return 0, err
}

// segment moves one segment, and looks at the context before each chunk of it.
// It says whether the context cut it short.
func (s *Sparse) segment(ctx context.Context, op remora.Op, seg *remora.Seg) (cut bool) {
	look := 0 // the N at which to look next
	for seg.N < len(seg.Buf) {
		if seg.N >= look {
			if seg.Err = ctx.Err(); seg.Err != nil {
				return true
			}
			look = seg.N + sparseChunk
		}
		a := seg.Addr + remora.Addr(seg.N)
		if a < seg.Addr { // past the last address
			seg.Err = remora.ErrUnmapped
			return false
		}
		n, err := s.step(op, a, seg.Buf[seg.N:min(len(seg.Buf), look)])
		if seg.N += n; err != 0 {
			seg.Err = err
			return false
		}
	}
	return false
}

// step moves what is alike from a on: at most to the end of the page, or of the run of pages that lie
// side by side, or up to the next injected fault. A cause is why not even one byte was moved.
func (s *Sparse) step(op remora.Op, a remora.Addr, buf []byte) (int, remora.Cause) {
	m, p, n, cause := s.reach(op, a, uint64(len(buf)))
	if cause != 0 {
		return 0, cause
	}
	size := uint64(s.opt.PageSize)
	no, in := uint64(a)/size, uint64(a)%size
	if run := s.run(op, m, p, a, n); run != nil {
		if op&remora.Write != 0 {
			return copy(run, buf), 0
		}
		return copy(buf, run), 0
	}
	n = min(n, size-in)
	if op&remora.Write != 0 {
		s.store(m, no, in, buf[:n])
	} else {
		m.load(p, in, a, buf[:n])
		if s.opt.ReadMaps {
			s.page(no).present = true
		}
	}
	return int(n), 0
}

// reach gives the mapping and the page that hold a, and how many of n bytes come before the next
// injected fault and the last address. A cause is why a may not be accessed.
func (s *Sparse) reach(op remora.Op, a remora.Addr, n uint64) (*mapping, *page, uint64, remora.Cause) {
	if a > s.opt.Last {
		return nil, nil, 0, remora.ErrUnmapped
	}
	if left := uint64(s.opt.Last - a); n-1 > left {
		n = left + 1
	}
	list := s.faults[op&remora.Write]
	if i, found := slices.BinarySearchFunc(list, a, byAddr); found {
		return nil, nil, 0, list[i].cause
	} else if i < len(list) {
		n = min(n, uint64(list[i].addr-a))
	}
	m := s.find(a)
	if m == nil {
		return nil, nil, 0, remora.ErrUnmapped
	}
	p := s.pages[uint64(a)/uint64(s.opt.PageSize)]
	return m, p, n, s.refused(op, m, p, a)
}

// run gives the bytes from a on, at most n, as they lie in memory: those of pages that are the
// space's own and present, one behind the other. It is nil where the page of a is not such a one.
func (s *Sparse) run(op remora.Op, m *mapping, p *page, a remora.Addr, n uint64) []byte {
	if p == nil || p.data == nil || !p.present {
		return nil
	}
	size := uint64(s.opt.PageSize)
	no, in := uint64(a)/size, uint64(a)%size
	if left := uint64(m.last - a); n-1 > left {
		n = left + 1
	}
	have := size - in
	for last := p; have < n; have += size {
		no++
		next := last.next
		if next == nil || !next.present || !last.touches(next) || m.Object != nil && s.refused(op, m, next, remora.Addr(no*size)) != 0 {
			break
		}
		last = next
	}
	return p.data[in : in+min(n, have)]
}

// touches says whether the bytes of q come behind those of p in memory.
func (p *page) touches(q *page) bool {
	size := len(p.data)
	return q.data != nil && cap(p.data) > size && &p.data[:size+1][size] == &q.data[0]
}

// refused says why the page p at a in m may not be accessed, or gives 0.
func (s *Sparse) refused(op remora.Op, m *mapping, p *page, a remora.Addr) remora.Cause {
	write, force := op&remora.Write != 0, op&remora.Force != 0
	need := remora.PermRead
	if write {
		need = remora.PermWrite
	}
	if m.Perm&need == 0 && (!force || write && m.Shared) {
		return remora.ErrProtected
	}
	if m.Fault != 0 {
		return m.Fault
	}
	if m.Object != nil && m.offset(a) >= m.Object.end(uint64(s.opt.PageSize)) {
		return remora.ErrBeyondEOF
	}
	if op&remora.Resident != 0 {
		if p == nil || !p.present || write && !m.Shared && p.data == nil {
			return remora.ErrNotPresent
		}
	}
	return 0
}

// offset is where a lies in the Object.
func (m *mapping) offset(a remora.Addr) uint64 { return m.Offset + uint64(a-m.first) }

// load reads from the page p, offset in, which is at a.
func (m *mapping) load(p *page, in uint64, a remora.Addr, buf []byte) {
	switch {
	case p != nil && p.data != nil:
		copy(buf, p.data[in:])
	case m.Object != nil:
		m.Object.read(buf, m.offset(a))
	default:
		clear(buf)
	}
}

// store writes at offset in of page no: to the object of a shared mapping, else
// to a page of the space's own, which is made now if there is none.
func (s *Sparse) store(m *mapping, no, in uint64, buf []byte) {
	p := s.page(no)
	p.present = true
	start := remora.Addr(no * uint64(s.opt.PageSize))
	if m.Shared {
		m.Object.write(buf, m.offset(start)+in)
		return
	}
	if p.data == nil {
		data := s.blank()
		m.load(p, 0, start, data)
		p.data = data
	}
	copy(p.data[in:], buf)
}

// blank gives the memory for a page, all zeros. Pages that are asked for one after another lie side by
// side: the capacity of one reaches over those behind it.
func (s *Sparse) blank() []byte {
	size := int(s.opt.PageSize)
	if len(s.slab) == 0 {
		const most = 256 << 10
		s.slab = make([]byte, max(size, min(most, (len(s.pages)+1)/2*size)))
	}
	data := s.slab[:size]
	s.slab = s.slab[size:]
	return data
}

// page gives what the space has of page no, made now if it has nothing.
func (s *Sparse) page(no uint64) *page {
	p := s.pages[no]
	if p == nil {
		p = &page{next: s.pages[no+1]}
		s.pages[no] = p
		if before := s.pages[no-1]; before != nil {
			before.next = p
		}
	}
	return p
}
