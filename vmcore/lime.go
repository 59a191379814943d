// SPDX-License-Identifier: Apache-2.0

package vmcore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/remora-go/remora"
)

// A LiME file is ranges of memory, each behind a header of 32 bytes, all little-endian:
// "EMiL", version 1, the first and the last address, 8 bytes of zeros. AVML writes the
// same in its version 1.
const (
	limeHead  = 32
	maxRanges = 1 << 20
)

// limeImage is an image by LiME or AVML. The ranges should ascend; where they overlap, an
// address is read from the largest one, and written there.
type limeImage struct {
	linear
	ranges []limeRange
	damage []*remora.FormatError // what is wrong with the headers
}

// limeRange is one range and what the file holds of it.
type limeRange struct {
	head        int64 // of the header in the file
	first, last remora.Addr
	saved       uint64 // bytes
}

// openLiME opens an image whose ranges it finds one by one: a read for each. A header
// that is not where it should be ends them, and what would follow is lost.
func openLiME(s *source) (format, error) {
	m := &limeImage{linear: linear{src: s}}
	end := remora.Addr(0) // behind the highest range
	for off := int64(0); off < s.size; {
		r, bad := m.readRange(off)
		if bad == nil && len(m.ranges) == maxRanges {
			bad = s.bad(off, remora.ErrCorrupt, fmt.Sprintf("at most %d ranges", maxRanges), "more")
		}
		if bad != nil {
			if off == 0 || bad.Err != remora.ErrTruncated && bad.Err != remora.ErrCorrupt {
				return nil, bad
			}
			m.damage = append(m.damage, bad)
			m.lose(end, bad.Error())
			break
		}
		if n := len(m.ranges); n > 0 && r.first <= m.ranges[n-1].last && len(m.damage) < maxProblems {
			m.damage = append(m.damage, s.bad(off+8, remora.ErrCorrupt, fmt.Sprintf("a range above %v", m.ranges[n-1].last), r.first.String()))
		}
		m.ranges = append(m.ranges, r)
		if end != remora.MaxAddr {
			end = max(end, r.last+min(1, remora.MaxAddr-r.last))
		}
		if want := uint64(r.last-r.first) + 1; r.saved < want {
			bad := s.bad(off+limeHead, remora.ErrTruncated, fmt.Sprintf("0x%x bytes, for %v", want, r.first), s.end())
			m.damage = append(m.damage, bad)
			m.lose(end, bad.Error())
			break
		}
		off += limeHead + int64(r.saved)
	}
	m.table = settle(m.claims())
	return m, nil
}

func (m *limeImage) lose(from remora.Addr, why string) {
	m.lost, m.lostFrom = "the ranges of the image end early: "+why, from
}

// readRange reads the header at off.
func (m *limeImage) readRange(off int64) (limeRange, *remora.FormatError) {
	s := m.src
	var b [limeHead]byte
	r := limeRange{head: off}
	const want = `the header of a range ("EMiL")`
	if err := s.fill(b[:], off, want); err != nil {
		bad, _ := errors.AsType[*remora.FormatError](err) // fill gives no other
		return r, bad
	}
	cause := remora.ErrCorrupt
	if off == 0 {
		cause = remora.ErrUnrecognized
	}
	if mark := string(b[:4]); mark != limeMark {
		if mark == avmlMark {
			return r, s.bad(off, remora.ErrUnrecognized, "AVML version 1", "version 2, which is compressed: "+avmlAdvice)
		}
		return r, s.bad(off, cause, want, fmt.Sprintf("%q", mark))
	}
	if v := binary.LittleEndian.Uint32(b[4:]); v != 1 {
		return r, s.bad(off+4, cause, "version 1 of LiME", fmt.Sprintf("version %d", v))
	}
	r.first, r.last = remora.Addr(binary.LittleEndian.Uint64(b[8:])), remora.Addr(binary.LittleEndian.Uint64(b[16:]))
	size := uint64(r.last-r.first) + 1
	if r.last < r.first || size == 0 {
		return r, s.bad(off+8, remora.ErrCorrupt, "the first and the last address of a range", fmt.Sprintf("%v and %v", r.first, r.last))
	}
	r.saved = min(size, uint64(s.size-off-limeHead))
	if v := binary.LittleEndian.Uint64(b[24:]); v != 0 && len(m.damage) < maxProblems {
		m.damage = append(m.damage, s.bad(off+24, remora.ErrCorrupt, "8 bytes of zeros", fmt.Sprintf("0x%x", v)))
	}
	return r, nil
}

func (m *limeImage) claims() []claim {
	all := make([]claim, 0, len(m.ranges)+1)
	for i := range m.ranges {
		r := &m.ranges[i]
		size := uint64(r.last-r.first) + 1
		p := piece{first: r.first, last: r.last, off: r.head + limeHead, from: int32(i)}
		if r.saved < size {
			cut := p
			cut.first, cut.off, cut.cause = r.first+remora.Addr(r.saved), 0, remora.ErrTruncated
			all = append(all, claim{cut, size})
			if r.saved == 0 {
				continue
			}
			p.last = cut.first - 1
		}
		all = append(all, claim{p, size})
	}
	return all
}

// describe says what little such a file says of itself.
func (m *limeImage) describe(t *Meta) {
	t.Maker, t.Version = "LiME or AVML", 1
	for _, bad := range m.damage {
		t.Problems = append(t.Problems, bad)
	}
	t.Parts = []Part{{File: m.src.name, Size: m.src.size, Flat: m.src.flat, Pages: m.bounds()}}
}

func (m *limeImage) explain(a remora.Addr, cause error) error {
	i, ok := m.find(a)
	if !ok {
		return m.explainGap(cause)
	}
	p := &m.table[i]
	r := &m.ranges[p.from]
	text := fmt.Sprintf("in range %v-%v", r.first, r.last)
	if errors.Is(cause, remora.ErrTruncated) && p.cause != 0 {
		text += fmt.Sprintf(": would be at 0x%x of %s, beyond %s", uint64(r.head)+limeHead+uint64(a-r.first), m.src.name, m.src.end())
	} else {
		text += m.explainLost(p.off + int64(a-p.first))
	}
	return fmt.Errorf("%w: %s", cause, text)
}

func (m *limeImage) check(ctx context.Context, report func(*remora.FormatError)) error {
	c := checker{reporter: reporter{report: report}, ctx: ctx, src: m.src}
	for _, bad := range m.damage {
		c.found(bad)
	}
	return c.readAll(m.table)
}
