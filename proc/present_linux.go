// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"iter"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/sys/linux"
)

var _ remora.Presence = (*Process)(nil)

// Present gives the runs of pages in r that are present in the target's own page table, as
// Resident means it, in address order. Nothing of the target is touched. What is mapped but
// was never accessed is passed over quickly: by 2 MiB or more at a time since Linux 6.7.
func (p *Process) Present(ctx context.Context, r remora.Range) iter.Seq2[remora.Range, error] {
	return func(yield func(remora.Range, error) bool) {
		if !p.gate.Enter() {
			yield(remora.Range{}, fs.ErrClosed)
			return
		}
		defer p.gate.Leave()
		yield = handing(&p.gate, yield)
		s := seeker{as: p.take(), page: uint64(p.info.Granule), yield: yield}
		defer s.as.drop()
		if s.as.pagemap < 0 {
			yield(remora.Range{}, errors.ErrUnsupported)
			return
		}
		for reg, err := range p.Regions(ctx) {
			if err != nil {
				yield(remora.Range{}, err)
				return
			}
			start, last := max(reg.Start, r.Start), min(reg.Last(), r.Last())
			// Above that the kernel has its own.
			if r.Size == 0 || start > last || last >= 1<<63 {
				continue
			}
			if !s.region(uint64(start), uint64(last)+1) {
				return
			}
		}
		s.flush()
	}
}

// seeker looks for pages that are present.
type seeker struct {
	as    *addressSpace
	page  uint64
	run   remora.Range // found, and perhaps longer
	yield func(remora.Range, error) bool
	found [mostFound]linux.PageRegion
}

// mostFound is how many runs one PAGEMAP_SCAN may find: with more, Linux 6.18 tells of an
// earlier address than that to which it has walked, and runs are found twice.
const mostFound = 512

// region looks through a part of a mapping. It says whether to go on.
func (s *seeker) region(start, end uint64) bool {
	start &^= s.page - 1
	end = (end + s.page - 1) &^ (s.page - 1)
	for start < end {
		n, walked, errno := s.look(start, end)
		if errno == linux.EFAULT { // the map has changed, or it is the kernel's
			return true
		}
		if errno == 0 && walked <= start {
			errno = linux.EIO
		}
		if errno != 0 {
			s.yield(remora.Range{}, errno)
			return false
		}
		for _, f := range s.found[:n] {
			if !s.add(remora.Range{Start: remora.Addr(f.Start), Size: f.End - f.Start}) {
				return false
			}
		}
		start = walked
	}
	return true
}

// look finds the next runs, and tells how far it has looked.
func (s *seeker) look(start, end uint64) (n int, walked uint64, errno linux.Errno) {
	if s.as.scan {
		return linux.ScanPages(s.as.pagemap, start, end, linux.PagePresent, linux.PagePresent, s.found[:])
	}
	const present = 1 << 63 // pagemap entry: Documentation/admin-guide/mm/pagemap.rst
	var text [8 << 10]byte
	got, errno := linux.Mem(false, s.as.pagemap, text[:min(uint64(len(text)), (end-start)/s.page*8)], start/s.page*8)
	walked = start
	for i := 0; i+8 <= got && n < len(s.found); i += 8 {
		at := walked
		walked += s.page
		switch {
		case binary.NativeEndian.Uint64(text[i:])&present == 0:
		case n > 0 && s.found[n-1].End == at:
			s.found[n-1].End = walked
		default:
			s.found[n] = linux.PageRegion{Start: at, End: walked}
			n++
		}
	}
	return n, walked, errno
}

// add gives out the run before, unless r goes on where it ends.
func (s *seeker) add(r remora.Range) bool {
	if s.run.Size > 0 && s.run.Start+remora.Addr(s.run.Size) == r.Start {
		s.run.Size += r.Size
		return true
	}
	if !s.flush() {
		return false
	}
	s.run = r
	return true
}

func (s *seeker) flush() bool {
	r := s.run
	s.run = remora.Range{}
	return r.Size == 0 || s.yield(r, nil)
}
