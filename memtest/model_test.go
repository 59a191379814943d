// SPDX-License-Identifier: Apache-2.0

package memtest

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/remora-go/remora"
)

// model is a Sparse once more, a byte at a time and without any cleverness.
type model struct {
	cells  map[remora.Addr]*cell
	pages  map[remora.Addr]*modelPage // by first address
	bad    [2]map[remora.Addr]remora.Cause
	page   remora.Addr
	onRead bool // a read makes a page present
}

// cell is a mapped byte.
type cell struct {
	MapOptions
	file *modelFile
	at   uint64 // in file
	own  byte   // once the page is the space's own
}

type modelPage struct{ present, own bool }

// modelFile holds an Object's bytes up to the end of its last page.
type modelFile struct{ data []byte }

func newModel(page remora.Addr, onRead bool) *model {
	m := &model{cells: map[remora.Addr]*cell{}, pages: map[remora.Addr]*modelPage{}, page: page, onRead: onRead}
	m.bad = [2]map[remora.Addr]remora.Cause{{}, {}}
	return m
}

func (m *model) pageOf(a remora.Addr) *modelPage {
	a -= a % m.page
	if m.pages[a] == nil {
		m.pages[a] = &modelPage{}
	}
	return m.pages[a]
}

func (m *model) unmap(first remora.Addr, n int) {
	for i := range n {
		delete(m.cells, first+remora.Addr(i))
		delete(m.pages, first+remora.Addr(i))
	}
}

func (m *model) mmap(first remora.Addr, n int, o MapOptions, f *modelFile) {
	m.unmap(first, n)
	for i := range n {
		m.cells[first+remora.Addr(i)] = &cell{MapOptions: o, file: f, at: o.Offset + uint64(i)}
	}
}

// value is what a mapped byte holds, wherever that is.
func (m *model) value(a remora.Addr) byte {
	c := m.cells[a]
	switch {
	case m.pageOf(a).own:
		return c.own
	case c.file != nil && c.at < uint64(len(c.file.data)):
		return c.file.data[c.at]
	}
	return 0
}

func (m *model) set(a remora.Addr, b byte) {
	p := m.pageOf(a)
	p.present = true
	if c := m.cells[a]; c.Shared {
		c.file.data[c.at] = b
		return
	}
	if !p.own {
		first := a - a%m.page
		for i := range m.page {
			m.cells[first+i].own = m.value(first + i)
		}
		p.own = true
	}
	m.cells[a].own = b
}

// fails says why op cannot move the byte at a.
func (m *model) fails(op remora.Op, a remora.Addr) error {
	c := m.cells[a]
	write, need := op&remora.Write, remora.PermRead
	if write != 0 {
		need = remora.PermWrite
	}
	switch {
	case m.bad[write][a] != 0:
		return m.bad[write][a]
	case c == nil:
		return remora.ErrUnmapped
	case c.Perm&need == 0 && op&remora.Force == 0:
		return remora.ErrProtected
	case c.Perm&need == 0 && write != 0 && c.Shared:
		return remora.ErrProtected
	case c.Fault != 0:
		return c.Fault
	case c.file != nil && c.at >= uint64(len(c.file.data)):
		return remora.ErrBeyondEOF
	case op&remora.Resident == 0:
		return nil
	case !m.pageOf(a).present:
		return remora.ErrNotPresent
	case write != 0 && !c.Shared && !m.pageOf(a).own:
		return remora.ErrNotPresent
	}
	return nil
}

// transfer does what Transfer must, into segs.
func (m *model) transfer(op remora.Op, segs []remora.Seg) (sum int64, first error) {
	for i := range segs {
		s := &segs[i]
		s.N, s.Err = 0, nil
		for j := range s.Buf {
			a := s.Addr + remora.Addr(j)
			switch {
			case first != nil && op&remora.StopAtFault != 0:
				s.Err = remora.ErrStopped
			case a < s.Addr:
				s.Err = remora.ErrUnmapped
			default:
				s.Err = m.fails(op, a)
			}
			if s.Err != nil {
				break
			}
			if op&remora.Write != 0 {
				m.set(a, s.Buf[j])
			} else {
				s.Buf[j] = m.value(a)
				m.pageOf(a).present = m.pageOf(a).present || m.onRead
			}
			s.N++
		}
		sum += int64(s.N)
		if first == nil {
			first = s.Err
		}
	}
	return sum, first
}

// twins are a Sparse and its model, to which the same is done.
type twins struct {
	rnd     *rand.Rand
	s       *Sparse
	m       *model
	objects []*Object
	files   []*modelFile
}

const modelPages = 14 // at each of two places, one of which ends the space

func newTwins(seed uint64) *twins {
	rnd := rand.New(rand.NewPCG(seed, 7))
	page, onRead := uint32(16)<<rnd.IntN(3), rnd.IntN(2) == 0
	w := &twins{rnd: rnd, s: NewSparse(&SparseOptions{PageSize: page, ReadMaps: onRead}), m: newModel(remora.Addr(page), onRead)}
	for range 3 {
		size := 1 + rnd.Uint64N(5*uint64(page))
		w.objects = append(w.objects, NewObject(size))
		w.files = append(w.files, &modelFile{make([]byte, (size+uint64(page)-1)/uint64(page)*uint64(page))})
	}
	return w
}

// place gives up to limit pages somewhere.
func (w *twins) place(limit int) (remora.Addr, int) {
	first, n := w.rnd.IntN(modelPages), 1+w.rnd.IntN(limit)
	n = min(n, modelPages-first)
	base := remora.Addr(0)
	if w.rnd.IntN(2) == 0 {
		base -= modelPages * w.m.page
	}
	return base + remora.Addr(first)*w.m.page, n * int(w.m.page)
}

// byteAt gives an address in a page of place or a little beside it.
func (w *twins) byteAt() remora.Addr {
	a, n := w.place(3)
	return a + remora.Addr(w.rnd.IntN(n+4)) - 2
}

// change does one of the things that are not a Transfer.
func (w *twins) change() error {
	a, n := w.place(4)
	r := remora.Range{Start: a, Size: uint64(n)}
	switch w.rnd.IntN(8) {
	case 0, 1, 2:
		o := MapOptions{Perm: remora.Perm(w.rnd.IntN(8)), Offset: w.rnd.Uint64N(3) * uint64(w.m.page)}
		var f *modelFile
		if i := w.rnd.IntN(len(w.objects) * 2); i < len(w.objects) {
			o.Object, f, o.Shared = w.objects[i], w.files[i], w.rnd.IntN(2) == 0
		}
		if w.rnd.IntN(8) == 0 {
			o.Fault = remora.ErrGuard
		}
		w.m.mmap(a, n, o, f)
		return w.s.Map(r, o)
	case 3:
		w.m.unmap(a, n)
		return w.s.Unmap(r)
	case 4:
		perm, whole := remora.Perm(w.rnd.IntN(8)), true
		for i := range n {
			whole = whole && w.m.cells[a+remora.Addr(i)] != nil
		}
		for i := range n {
			if whole {
				w.m.cells[a+remora.Addr(i)].Perm = perm
			}
		}
		if err := w.s.Protect(r, perm); (err == nil) != whole {
			return fmt.Errorf("Protect %v, mapped: %t: %v", r, whole, err)
		}
	case 5:
		at, op := w.byteAt(), remora.Op(w.rnd.IntN(2))
		cause := []remora.Cause{0, remora.ErrIO, remora.ErrPoisoned}[w.rnd.IntN(3)]
		w.m.bad[op][at] = cause
		w.s.Inject(at, op, cause)
	default:
		present, do := w.rnd.IntN(2) == 0, w.s.Evict
		if present {
			do = w.s.Touch
		}
		mapped := w.m.cells[a] != nil
		if mapped {
			w.m.pageOf(a).present = present
		}
		if err := do(remora.Range{Start: a, Size: 1}); (err == nil) != mapped {
			return fmt.Errorf("presence of %v, mapped: %t: %v", a, mapped, err)
		}
	}
	return nil
}

// vector makes segments for both, with the same in their Bufs.
func (w *twins) vector() (a, b []remora.Seg) {
	for range w.rnd.IntN(8) {
		buf := make([]byte, w.rnd.IntN(3*int(w.m.page)))
		for i := range buf {
			buf[i] = byte(w.rnd.Uint32())
		}
		at := w.byteAt()
		a = append(a, remora.Seg{Addr: at, Buf: buf})
		b = append(b, remora.Seg{Addr: at, Buf: bytes.Clone(buf)})
	}
	return a, b
}

// move makes one Transfer and compares all that came of it.
func (w *twins) move() error {
	op := remora.Op(w.rnd.IntN(int(remora.AllOps) + 1))
	got, want := w.vector()
	sum, err := w.s.Transfer(context.Background(), op, got)
	wantSum, wantErr := w.m.transfer(op, want)
	if sum != wantSum || err != wantErr {
		return fmt.Errorf("%v gives %d, %v, the model %d, %v", op, sum, err, wantSum, wantErr)
	}
	for i := range got {
		g, m := &got[i], &want[i]
		if g.N != m.N || g.Err != m.Err || !bytes.Equal(g.Buf[:g.N], m.Buf[:m.N]) {
			return fmt.Errorf("%v, segment %d, %v+%d: N = %d, %v, % x; the model: %d, %v, % x",
				op, i, g.Addr, len(g.Buf), g.N, g.Err, g.Buf[:g.N], m.N, m.Err, m.Buf[:m.N])
		}
	}
	return w.look()
}

// look compares every byte that can be looked at.
func (w *twins) look() error {
	for a, c := range w.m.cells {
		var got [1]byte
		err := w.s.Peek(got[:], a)
		if there := c.Fault == 0 && (c.file == nil || c.at < uint64(len(c.file.data))); (err == nil) != there {
			return fmt.Errorf("peek at %v gives %v, the model has memory there: %t", a, err, there)
		}
		if err == nil && got[0] != w.m.value(a) {
			return fmt.Errorf("%v holds 0x%02x, in the model 0x%02x", a, got[0], w.m.value(a))
		}
	}
	return nil
}

// TestSparseIsItsModel does random things to a Sparse and to a model of it.
func TestSparseIsItsModel(t *testing.T) {
	for seed := range uint64(60) {
		w := newTwins(seed)
		for step := range 80 {
			do := w.move
			if step < 12 || w.rnd.IntN(3) == 0 {
				do = w.change
			}
			if err := do(); err != nil {
				t.Fatalf("seed %d, step %d: %v", seed, step, err)
			}
		}
	}
}

// TestCloneIsApart: what is done to a clone changes nothing of what it was made of,
// and Diff tells.
func TestCloneIsApart(t *testing.T) {
	for seed := range uint64(20) {
		w := newTwins(seed)
		for range 15 {
			if err := w.change(); err != nil {
				t.Fatal(err)
			}
		}
		s, clone := w.s, w.s.Clone()
		if diff := s.Diff(clone); diff != "" || !clone.Equal(s) {
			t.Fatalf("seed %d: a fresh clone differs: %s", seed, diff)
		}
		a := remora.Addr(w.m.page)
		if err := clone.Map(remora.Range{Start: a, Size: uint64(w.m.page)}, MapOptions{Perm: rw, Name: "of the clone"}); err != nil {
			t.Fatal(err)
		}
		w.s = clone
		for range 30 {
			w.s.Transfer(context.Background(), remora.Write|remora.Force, []remora.Seg{w.one()})
		}
		if w.s = s; s.Equal(clone) {
			t.Errorf("seed %d: the clone has another mapping, and Diff does not tell", seed)
		}
		if err := w.look(); err != nil {
			t.Errorf("seed %d: the clone was written to, and here %v", seed, err)
		}
	}
}

func (w *twins) one() remora.Seg {
	segs, _ := w.vector()
	if len(segs) == 0 {
		return remora.Seg{}
	}
	return segs[0]
}

// TestDiffNamesTheByte: one byte, one protection, one presence, and no more.
func TestDiffNamesTheByte(t *testing.T) {
	page := remora.Range{Start: 0x3000, Size: 0x1000}
	for _, test := range []struct {
		name, want string
		do         func(s *Sparse) error
	}{
		{"a byte", "0x3007: 0x00, became 0x9c", func(s *Sparse) error { return s.Poke([]byte{0x9c}, 0x3007) }},
		{"a protection", "mapping 0: 0x3000-0x3fff rw- shared=false offset=0x0 fault=0 \"\", became 0x3000-0x3fff r-- shared=false offset=0x0 fault=0 \"\"",
			func(s *Sparse) error { return s.Protect(page, remora.PermRead) }},
		{"a presence", "0x3000: present, own copy, became evicted", func(s *Sparse) error { return s.Evict(page) }},
	} {
		s := NewSparse(nil)
		must(s.Map(page, MapOptions{Perm: rw}))
		must(s.Poke([]byte{1}, 0x3ff0))
		o := s.Clone()
		must(test.do(o))
		if got := s.Diff(o); got != test.want {
			t.Errorf("%s: Diff gives %q, want %q", test.name, got, test.want)
		}
	}
}
