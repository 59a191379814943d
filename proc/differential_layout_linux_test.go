// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/difftest"
	"github.com/remora-go/remora/internal/specimen"
	"github.com/remora-go/remora/memtest"
)

// diffKinds are the kinds that a layout is made of. Memory that waits for a userfaultfd
// has tests of its own.
var diffKinds = difftest.Kinds

// Besides those a child has, in all its layouts, device memory of the kernel, and
// addresses where nothing can be.
const (
	diffDevice   = len(diffKinds)
	diffOutside  = diffDevice + 1
	diffRowCount = diffOutside + 1
)

func diffRowName(row int) string {
	switch row {
	case diffDevice:
		return "vvar"
	case diffOutside:
		return "outside"
	}
	return diffKinds[row].String()
}

// diffPiece is a run of pages of one kind.
type diffPiece struct {
	kind int // of diffKinds
	remora.Range
	object *memtest.Object // for files
}

// diffLayout is what lies in the child now, and the model of it.
type diffLayout struct {
	pieces []diffPiece
	remora.Range
	page    uint64
	owner   []int16 // by page: the piece
	model   *memtest.Sparse
	device  []remora.Range
	synced  []bool // by page: whether the model was last told that it is present
	large   bool   // has a run of more than 4 MiB
	longest int    // the piece with the most pages that can be accessed
}

// The shapes of layouts.
const (
	diffSome  = iota // some kinds, a run of 1 MiB now and then
	diffEvery        // every kind
	diffLarge        // every kind, and a run of more than 4 MiB
)

// largePages is more than the smallest read that is shared out among threads.
const largePages = bulkMin/4096 + 76

// diffPieces chooses the pieces of a layout.
func diffPieces(rnd *rand.Rand, shape int, lacking map[int]bool) []diffPiece {
	var kinds []int
	if shape == diffSome {
		for range 6 + rnd.IntN(16) {
			kinds = append(kinds, rnd.IntN(len(diffKinds)))
		}
	} else {
		kinds = rnd.Perm(len(diffKinds))
	}
	touched := difftest.Number(specimen.Touched)
	var out []diffPiece
	add := func(kind, pages int) {
		out = append(out, diffPiece{kind: kind, Range: remora.Range{Size: uint64(pages)}})
	}
	pool := difftest.Number(specimen.HugeTLB)
	if !lacking[pool] && (shape != diffSome || rnd.IntN(8) == 0) {
		add(pool, diffKinds[pool].Pages())
	}
	if rnd.IntN(16) == 0 {
		add(difftest.Number(specimen.Huge), 512+rnd.IntN(80))
	}
	for i, kind := range kinds {
		if lacking[kind] || kind == pool {
			continue
		}
		pages := 1 + rnd.IntN(4)
		if rnd.IntN(12) == 0 {
			pages += 16 + rnd.IntN(32)
		}
		switch k := diffKinds[kind]; {
		case k.Alias:
			pages = diffBeforeAlias(rnd, k, add)
		case k.Kind == specimen.FileEnd:
			pages++
		}
		add(kind, pages)
		switch {
		case i != len(kinds)/2:
		case shape == diffLarge:
			add(touched, largePages)
		case rnd.IntN(4) == 0:
			add(touched, 256+rnd.IntN(40))
		}
	}
	return out
}

// diffBeforeAlias adds what an alias is of, and gives the size of the alias.
func diffBeforeAlias(rnd *rand.Rand, k difftest.Kind, add func(kind, pages int)) int {
	var of []int
	for i, b := range diffKinds {
		if b.CanAlias() {
			of = append(of, i)
		}
	}
	pages := 1 + rnd.IntN(4)
	add(of[rnd.IntN(len(of))], pages)
	if !k.Shared {
		// The kernel takes hold of all pages of a range before it copies to the first,
		// and so makes the private copy before the shared page has changed. With a hole
		// between them no range holds both.
		add(0, 1)
	}
	return max(1, pages+rnd.IntN(3)-1) // may be beyond the end of the file
}

// make lays pieces out, in the child and in the model.
func (l *diffLayout) make(s *specimen.Specimen, pieces []diffPiece) error {
	var ask []specimen.Piece
	for _, p := range pieces {
		ask = append(ask, specimen.Piece{Kind: diffKinds[p.kind].Kind, Pages: int(p.Size)})
	}
	ranges, err := s.Layout(ask...)
	if err != nil {
		return err
	}
	l.pieces, l.owner = pieces, nil
	l.large = slices.ContainsFunc(pieces, func(p diffPiece) bool { return p.Size == largePages })
	l.longest = 0
	for i := range pieces {
		if k := diffKinds[pieces[i].kind]; k.Perm == remora.PermRead|remora.PermWrite && k.Fault == 0 && pieces[i].Size >= pieces[l.longest].Size {
			l.longest = i
		}
		for range pieces[i].Size {
			l.owner = append(l.owner, int16(i))
		}
		pieces[i].Range = ranges[i]
	}
	l.Range = remora.Range{Start: ranges[0].Start, Size: uint64(len(l.owner)) * l.page}
	l.synced = make([]bool, len(l.owner))
	l.model = memtest.NewSparse(&memtest.SparseOptions{PageSize: uint32(l.page)})
	var object *memtest.Object
	for i := range pieces {
		p := &pieces[i]
		if diffKinds[p.kind].Alias {
			p.object = object
		}
		if err := l.imitate(s, p); err != nil {
			return fmt.Errorf("%v, %d pages: %w", diffKinds[p.kind], p.Size/l.page, err)
		}
		if diffKinds[p.kind].CanAlias() {
			object = p.object
		}
	}
	for _, r := range l.device {
		if err := l.model.Map(r, memtest.MapOptions{Perm: remora.PermRead, Fault: remora.ErrDevice}); err != nil {
			return err
		}
	}
	return nil
}

// imitate makes the model's side of a piece, and does what is left to do in the child.
func (l *diffLayout) imitate(s *specimen.Specimen, p *diffPiece) error {
	k := diffKinds[p.kind]
	if k.Kind == specimen.Hole {
		return nil
	}
	data := s.Contents(k.Kind, p.Range)
	if k.File && !k.Alias {
		size := uint64(len(data))
		if k.Kind == specimen.FileEnd {
			size -= specimen.EndGap
		}
		p.object = memtest.NewObject(size)
		if err := l.model.Map(p.Range, memtest.MapOptions{Perm: remora.PermRead | remora.PermWrite, Shared: true, Object: p.object}); err != nil {
			return err
		}
		if err := l.model.Poke(data, p.Start); err != nil {
			return err
		}
	}
	if err := l.remap(p); err != nil {
		return err
	}
	if k.Fault == 0 && !k.File && !slices.Contains([]specimen.Kind{specimen.Untouched, specimen.ZeroPage, specimen.Reserved}, k.Kind) {
		if err := l.model.Poke(data, p.Start); err != nil {
			return err
		}
		for i := range p.Size / l.page {
			l.synced[uint64(p.Start-l.Start)/l.page+i] = true
		}
	}
	if k.Change {
		if err := s.Protect(p.Range, k.Perm); err != nil {
			return err
		}
	}
	if k.Drop && k.Shared {
		return s.Drop(p.Range)
	}
	return nil
}

// remap maps a piece in the model, with nothing of its own yet.
func (l *diffLayout) remap(p *diffPiece) error {
	k := diffKinds[p.kind]
	o := memtest.MapOptions{Perm: k.Perm, Fault: k.Fault, Shared: k.File && k.Shared, Object: p.object}
	for i := range p.Size / l.page {
		l.synced[uint64(p.Start-l.Start)/l.page+i] = false
	}
	return l.model.Map(p.Range, o)
}

// dropSome takes the pages of one piece away, in the child and in the model, or to swap
// space, where they keep what they hold.
func (l *diffLayout) dropSome(rnd *rand.Rand, s *specimen.Specimen) error {
	p := &l.pieces[rnd.IntN(len(l.pieces))]
	k := diffKinds[p.kind]
	if k.Kind == specimen.PagedOut {
		for i := range p.Size / l.page {
			l.synced[uint64(p.Start-l.Start)/l.page+i] = false
		}
		return errors.Join(s.PageOut(p.Range), l.model.Evict(p.Range))
	}
	if !k.Drop {
		return nil
	}
	if err := s.Drop(p.Range); err != nil {
		return err
	}
	if k.Kind == specimen.ZeroPage {
		if err := s.Peek(make([]byte, p.Size), p.Start); err != nil {
			return err
		}
	}
	return l.remap(p)
}

// row gives the kind of what lies at a.
func (l *diffLayout) row(a remora.Addr) int {
	if l.Contains(a) {
		return l.pieces[l.owner[uint64(a-l.Start)/l.page]].kind
	}
	for _, r := range l.device {
		if r.Contains(a) {
			return diffDevice
		}
	}
	return diffOutside
}
