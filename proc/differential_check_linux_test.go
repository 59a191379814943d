// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"os"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/difftest"
	"github.com/remora-go/remora/internal/specimen"
)

// diffWitness looks at the child without package proc: through descriptors of its
// own, and by asking the child.
type diffWitness struct {
	lay     *diffLayout
	child   *specimen.Specimen
	mem     *os.File
	pagemap *os.File
	entries []byte // of the layout, as last looked at
	before  []byte
	marks   []bool // pages to look at
	got     []byte
	want    []byte
}

// The bits of a pagemap entry that say what kind of page it is: all but its number
// and the soft-dirty bit (Documentation/admin-guide/mm/pagemap.rst).
const (
	entryKind    = uint64(0x1ff) << 55 &^ (1 << 55)
	entryPresent = uint64(1) << 63
)

// look reads the page table of the layout.
func (w *diffWitness) look() error {
	pages := len(w.lay.owner)
	if cap(w.entries) < 8*pages {
		w.entries = make([]byte, 8*pages)
	}
	w.entries = w.entries[:8*pages]
	_, err := w.pagemap.ReadAt(w.entries, int64(uint64(w.lay.Start)/w.lay.page*8))
	return err
}

func entry(entries []byte, page int) uint64 { return binary.NativeEndian.Uint64(entries[8*page:]) }

// sync tells the model which pages are present. What brings a page in beside a
// touch (the kernel reads ahead and around) is not for the model to know.
func (w *diffWitness) sync() error {
	if err := w.look(); err != nil {
		return err
	}
	w.before = append(w.before[:0], w.entries...)
	for i := range w.lay.owner {
		present := entry(w.entries, i)&entryPresent != 0
		if present == w.lay.synced[i] || diffKinds[w.lay.kindOf(i)].Kind == specimen.Hole {
			continue
		}
		one := remora.Range{Start: w.lay.Start + remora.Addr(uint64(i)*w.lay.page), Size: 1}
		tell := w.lay.model.Evict
		if present {
			tell = w.lay.model.Touch
		}
		if err := tell(one); err != nil {
			return err
		}
		w.lay.synced[i] = present
	}
	return nil
}

// unchanged says where the page table is not what it was at the last sync.
func (w *diffWitness) unchanged() error {
	if err := w.look(); err != nil {
		return err
	}
	for i := range w.lay.owner {
		if is, was := entry(w.entries, i), entry(w.before, i); (is^was)&entryKind != 0 {
			return fmt.Errorf("page %d (%v): its entry was %#x, is %#x after a read of what is present",
				i, diffKinds[w.lay.kindOf(i)], was, is)
		}
	}
	return nil
}

func (l *diffLayout) kindOf(page int) int { return l.pieces[l.owner[page]].kind }

// mark chooses the pages to look at after a write: those that segments name, and
// a page before and after each.
func (w *diffWitness) mark(segs []remora.Seg, all bool) {
	pages := len(w.lay.owner)
	if cap(w.marks) < pages {
		w.marks = make([]bool, pages)
	}
	w.marks = w.marks[:pages]
	for i := range w.marks {
		w.marks[i] = all
	}
	for i := range segs {
		at := int64(uint64(segs[i].Addr-w.lay.Start)) / int64(w.lay.page) // may be negative
		end := (int64(uint64(segs[i].Addr-w.lay.Start)) + int64(len(segs[i].Buf))) / int64(w.lay.page)
		for p := max(at-1, 0); p <= end+1 && p < int64(pages); p++ {
			w.marks[p] = true
		}
	}
}

// check compares what is marked with the model. Pages that are not present are left
// so, unless absent is set; anonymous ones among them must be zeros in the model.
func (w *diffWitness) check(absent bool) error {
	if err := w.look(); err != nil {
		return err
	}
	for i := 0; i < len(w.marks); {
		n := 0
		for i+n < len(w.marks) && w.marks[i+n] && w.shows(i+n, absent) {
			n++
		}
		if n > 0 {
			if err := w.compare(i, n); err != nil {
				return err
			}
			i += n
			continue
		}
		if w.marks[i] {
			if err := w.untouched(i); err != nil {
				return err
			}
		}
		i++
	}
	return nil
}

// shows says whether a page can be looked at from outside, and is there to look at.
func (w *diffWitness) shows(page int, absent bool) bool {
	p := &w.lay.pieces[w.lay.owner[page]]
	if diffKinds[p.kind].Fault != 0 || w.beyond(p, page) {
		return false
	}
	return absent || entry(w.entries, page)&entryPresent != 0
}

// beyond says whether a page is beyond the end of its file.
func (w *diffWitness) beyond(p *diffPiece, page int) bool {
	if p.object == nil {
		return false
	}
	at := w.lay.Start + remora.Addr(uint64(page)*w.lay.page)
	return w.lay.model.Peek(make([]byte, 1), at) != nil
}

// untouched: what no page is there for holds what it held at first, in the model too.
func (w *diffWitness) untouched(page int) error {
	p := &w.lay.pieces[w.lay.owner[page]]
	if k := diffKinds[p.kind]; k.Fault != 0 || k.File || k.Kind == specimen.PagedOut {
		return nil
	}
	w.grow(1)
	at := w.lay.Start + remora.Addr(uint64(page)*w.lay.page)
	if err := w.lay.model.Peek(w.want, at); err != nil {
		return err
	}
	for i, b := range w.want {
		if b != 0 {
			return fmt.Errorf("%v: no page is there, the model has 0x%02x", at+remora.Addr(i), b)
		}
	}
	return nil
}

func (w *diffWitness) grow(pages int) {
	n := pages * int(w.lay.page)
	if cap(w.got) < n {
		w.got, w.want = make([]byte, n), make([]byte, n)
	}
	w.got, w.want = w.got[:n], w.want[:n]
}

// compare compares n pages.
func (w *diffWitness) compare(page, n int) error {
	w.grow(n)
	at := w.lay.Start + remora.Addr(uint64(page)*w.lay.page)
	if _, err := w.mem.ReadAt(w.got, int64(at)); err != nil {
		return fmt.Errorf("the test's own look at %v: %w", at, err)
	}
	if err := w.lay.model.Peek(w.want, at); err != nil {
		return err
	}
	i, differ := difftest.First(w.got, w.want)
	if !differ {
		return nil
	}
	a := at + remora.Addr(i)
	return fmt.Errorf("%v (%s) holds 0x%02x, want 0x%02x", a, diffRowName(w.lay.row(a)), w.got[i], w.want[i])
}

// last compares all of the layout, at its end: what the child may load by the
// child's own loads, then everything, present or not.
func (w *diffWitness) last() error {
	for i := range w.lay.pieces {
		p := &w.lay.pieces[i]
		k := diffKinds[p.kind]
		r := p.Range
		if k.Kind == specimen.FileEnd {
			r.Size = w.lay.page
		}
		if p.object != nil && k.Alias { // up to the end of the file
			for r.Size = w.lay.page; r.Size < p.Size && w.lay.model.Peek(make([]byte, 1), r.Start+remora.Addr(r.Size)) == nil; {
				r.Size += w.lay.page
			}
		}
		if k.Perm&remora.PermRead == 0 || k.Kind == specimen.Guard {
			continue
		}
		want := w.child.Contents(k.Kind, r)
		if k.Kind != specimen.Secret {
			want = make([]byte, r.Size)
			if err := w.lay.model.Peek(want, r.Start); err != nil {
				return err
			}
		}
		got, err := w.child.Sum(r)
		if err != nil {
			return err
		}
		h := fnv.New64a()
		_, _ = h.Write(want)
		if got != h.Sum64() {
			return fmt.Errorf("%v, %v: the child's own sum is %x, want %x", k, r, got, h.Sum64())
		}
	}
	w.mark(nil, true)
	return w.check(true)
}
