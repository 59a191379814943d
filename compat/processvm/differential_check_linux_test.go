// SPDX-License-Identifier: Apache-2.0

//go:build amd64

package processvm

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"os"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/difftest"
	"github.com/remora-go/remora/memtest"
)

// diffWitness looks at a process without the calls that are tested.
type diffWitness struct {
	mem     *os.File // /proc/PID/mem
	pagemap *os.File
	entries []byte // of the layout, as last looked at
	marks   []bool // pages to look at
	got     []byte
	want    []byte
}

// look reads the page table of the layout.
func (s *diffSide) look() error {
	n := 8 * len(s.owner)
	if cap(s.entries) < n {
		s.entries = make([]byte, n)
	}
	s.entries = s.entries[:n]
	_, err := s.pagemap.ReadAt(s.entries, int64(uint64(s.Start)/diffPage*8))
	return err
}

// present says whether a page was in the page table when that was last looked at.
func (s *diffSide) present(page int) bool {
	return binary.NativeEndian.Uint64(s.entries[8*page:])>>63 == 1
}

// unmark marks all pages, or none.
func (s *diffSide) unmark(all bool) {
	if cap(s.marks) < len(s.owner) {
		s.marks = make([]bool, len(s.owner))
	}
	s.marks = s.marks[:len(s.owner)]
	for i := range s.marks {
		s.marks[i] = all
	}
}

// mark marks the pages of n bytes at a, and a page before and after them.
func (s *diffSide) mark(a remora.Addr, n uint64) {
	r := remora.Range{Start: s.Start, Size: s.Size}
	if a > r.Last()+diffPage || a < r.Start-diffPage {
		return
	}
	first := int(int64(uint64(a-s.Start))>>12) - 1
	last := first + 3 + int(min(n, s.Size)/diffPage)
	for i := max(first, 0); i <= last && i < len(s.marks); i++ {
		s.marks[i] = true
	}
}

// check compares what is marked with the model.
func (s *diffSide) check() error {
	if err := s.look(); err != nil {
		return err
	}
	for i := 0; i < len(s.marks); {
		if !s.marks[i] {
			i++
			continue
		}
		n := 0
		for i+n < len(s.marks) && s.marks[i+n] && s.shown(i+n) {
			n++
		}
		var err error
		if n > 0 {
			err = s.compare(i, n)
		} else {
			n, err = 1, s.hidden(i)
		}
		if err != nil {
			return err
		}
		i += n
	}
	return nil
}

// shown says whether a page can be looked at from outside without a change to it: one
// that was never touched is to stay so.
func (s *diffSide) shown(page int) bool {
	p := &s.pieces[s.owner[page]]
	k := &diffKinds[p.kind]
	return k.Fault == 0 && s.offset(p, page) < p.size && (s.present(page) || !k.Drop || k.Shared || diffCopied(k))
}

// model gives the model to look at memory of a kind in.
func (s *diffSide) model(k *difftest.Kind) *memtest.Sparse {
	if k.Fault == 0 {
		return s.models[diffSeen]
	}
	return s.models[diffOwn]
}

// offset is where in a piece a page lies.
func (s *diffSide) offset(p *diffPiece, page int) uint64 {
	return uint64(s.Start) + uint64(page)*diffPage - uint64(p.Start)
}

// hidden compares a page that is not shown. One that is not there holds what it
// held at first.
func (s *diffSide) hidden(page int) error {
	p := &s.pieces[s.owner[page]]
	k := &diffKinds[p.kind]
	if diffOwnFault(k) != 0 || s.offset(p, page) >= p.size {
		return nil
	}
	s.grow(1)
	at := s.Start + remora.Addr(page*diffPage)
	if err := s.model(k).Peek(s.want, at); err != nil {
		return err
	}
	if k.Fault != 0 {
		if err := s.child.Peek(s.got, at); err != nil {
			return err
		}
	} else {
		copy(s.got, p.first[s.offset(p, page):])
	}
	return s.differ(at)
}

// compare compares n pages.
func (s *diffSide) compare(page, n int) error {
	s.grow(n)
	at := s.Start + remora.Addr(page*diffPage)
	if _, err := s.mem.ReadAt(s.got, int64(at)); err != nil {
		return fmt.Errorf("the test's own look at %v: %w", at, err)
	}
	for i := range n { // pages may be looked at in different models
		k := &diffKinds[s.pieces[s.owner[page+i]].kind]
		if err := s.model(k).Peek(s.want[i*diffPage:][:diffPage], at+remora.Addr(i*diffPage)); err != nil {
			return err
		}
	}
	return s.differ(at)
}

func (s *diffSide) differ(at remora.Addr) error {
	i, differ := difftest.First(s.got, s.want)
	if !differ {
		return nil
	}
	a := at + remora.Addr(i)
	return fmt.Errorf("%v of the %s (%s) holds 0x%02x, want 0x%02x", a, s.name(), diffRowName(s.row(a)), s.got[i], s.want[i])
}

func (s *diffSide) name() string {
	if s.caller {
		return "caller"
	}
	return "target"
}

func (s *diffSide) grow(pages int) {
	n := pages * diffPage
	if cap(s.got) < n {
		s.got, s.want = make([]byte, n), make([]byte, n)
	}
	s.got, s.want = s.got[:n], s.want[:n]
}

// last compares all of a layout, at its end: what is shown, and then, by sums that
// the process itself makes, everything that it may load.
func (s *diffSide) last() error {
	s.unmark(true)
	if err := s.check(); err != nil {
		return err
	}
	for i := range s.pieces {
		p := &s.pieces[i]
		k := &diffKinds[p.kind]
		if k.Perm == 0 || diffOwnFault(k) != 0 || k.Perm == diffX || k.Perm == diffW {
			continue
		}
		r := p.Range
		r.Size = (p.size + diffPage - 1) &^ (diffPage - 1)
		want := make([]byte, r.Size)
		if err := s.model(k).Peek(want, r.Start); err != nil {
			return err
		}
		h := fnv.New64a()
		_, _ = h.Write(want)
		got, err := s.child.Sum(r)
		if err != nil {
			return err
		}
		if got != h.Sum64() {
			return fmt.Errorf("%v, %v: the %s's own sum is %x, want %x", k, r, s.name(), got, h.Sum64())
		}
	}
	return s.program()
}

// program compares the code that the kernel gives each process.
func (s *diffSide) program() error {
	for _, r := range s.vdso {
		got := make([]byte, r.Size)
		if _, err := s.mem.ReadAt(got, int64(r.Start)); err != nil {
			return err
		}
		if !bytes.Equal(got, s.code[r.Start]) {
			return fmt.Errorf("the vdso of the %s has changed", s.name())
		}
	}
	return nil
}
