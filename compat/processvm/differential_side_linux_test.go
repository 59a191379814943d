// SPDX-License-Identifier: Apache-2.0

//go:build amd64

package processvm

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/difftest"
	"github.com/remora-go/remora/internal/specimen"
	"github.com/remora-go/remora/memtest"
)

const diffPage = 4096

// diffSide is a process with a layout, and the models of it.
type diffSide struct {
	child  *specimen.Specimen
	task   int  // a thread of it that lives
	ended  bool // its first thread has ended
	caller bool // the calls are made by it
	live   bool // whether the models say that they are
	pieces []diffPiece
	remora.Range
	owner []int16 // by page: the piece
	// For each view, by page: the memory, both of the same objects; and for reads and
	// writes the end of the run of pages that can be accessed, 0 where it cannot.
	models      [diffViews]*memtest.Sparse
	reach       [diffViews][2][]remora.Addr
	open        [diffViews][2][]int // the pieces that can be accessed, at their start
	shut        [diffViews][2][]int // those that cannot, at their end
	vdso        []remora.Range
	vvar        []remora.Range
	taken       []remora.Range         // what is mapped by the program itself
	code        map[remora.Addr][]byte // of vdso
	limit       remora.Addr            // where the addresses of a program end
	executeOnly bool                   // the processor keeps who may only execute from reading
	subject     *Subject               // nil: everybody may
	diffWitness
}

// The shapes of layouts.
const (
	diffSome  = iota // some kinds
	diffEvery        // every kind
	diffLarge        // every kind, and a run of more pages than are pinned at once
)

// diffDesk is how many pages the first piece of a caller has: room for two arrays of
// 1,100 elements each.
const diffDesk = 10

// diffPieces chooses the pieces of a layout, whose ranges have only a size, in pages.
func diffPieces(rnd *rand.Rand, shape int, caller bool, lacking map[int]bool) []diffPiece {
	kinds := rnd.Perm(len(diffKinds))
	if shape == diffSome {
		kinds = kinds[:8+rnd.IntN(10)]
	}
	var out []diffPiece
	add := func(kind, pages int) {
		out = append(out, diffPiece{kind: kind, Range: remora.Range{Size: uint64(pages)}})
	}
	pool := difftest.Number(specimen.HugeTLB)
	pages := diffKinds[pool].Pages()
	with := !lacking[pool] && (shape == diffEvery || rnd.IntN(8) == 0)
	switch {
	case caller && with:
		add(difftest.Number(specimen.Touched), pages)
	case caller:
		add(difftest.Number(specimen.Touched), diffDesk)
	}
	if with {
		add(pool, pages)
	}
	for i, kind := range kinds {
		k := &diffKinds[kind]
		if lacking[kind] || kind == pool || caller && diffTargets(k) {
			continue
		}
		pages := 1 + rnd.IntN(3)
		if rnd.IntN(12) == 0 {
			pages += rnd.IntN(32)
		}
		switch {
		case k.Alias:
			add(diffAliased(rnd), 1+rnd.IntN(3))
			pages = int(out[len(out)-1].Size) + rnd.IntN(2) // may be beyond the end of the file
		case k.Kind == specimen.FileEnd:
			pages++
		}
		add(kind, pages)
		switch {
		case shape != diffLarge || i != len(kinds)/2:
		case caller:
			add(difftest.Number(specimen.Touched), 1030+rnd.IntN(100))
		default: // the alias is pinned with the file, or after it has changed, or page by page
			add(difftest.Number(specimen.SharedMemory), 2)
			pages := 1021
			if rnd.IntN(3) == 0 {
				pages = 1000 + rnd.IntN(50)
			}
			add(difftest.Number(specimen.Touched), pages)
			add(difftest.Number(specimen.PrivateAlias), 2)
		}
	}
	return out
}

// diffAliased chooses what an alias is of.
func diffAliased(rnd *rand.Rand) int {
	var of []int
	for i := range diffKinds {
		if diffKinds[i].CanAlias() {
			of = append(of, i)
		}
	}
	return of[rnd.IntN(len(of))]
}

// survey takes down what the program itself has mapped. A process without a layout is
// expected.
func (s *diffSide) survey() error {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", s.task))
	if err != nil {
		return err
	}
	s.code = map[remora.Addr][]byte{}
	for line := range strings.Lines(string(text)) {
		var first, end remora.Addr
		if _, err := fmt.Sscanf(line, "%x-%x", &first, &end); err != nil {
			return err
		}
		r := remora.Range{Start: first, Size: uint64(end - first)}
		switch {
		case strings.Contains(line, "[vdso]"):
			s.vdso = append(s.vdso, r)
			s.code[first] = make([]byte, r.Size)
			if _, err := s.mem.ReadAt(s.code[first], int64(first)); err != nil {
				return err
			}
		case strings.Contains(line, "[vvar"):
			s.vvar = append(s.vvar, r)
		default:
			s.taken = append(s.taken, r)
		}
	}
	return nil
}

// make lays pieces out, in the process and in its models.
func (s *diffSide) make(pieces []diffPiece) error {
	if err := s.child.Reset(); err != nil {
		return err
	}
	var ask []specimen.Piece
	for _, p := range pieces {
		ask = append(ask, specimen.Piece{Kind: diffKinds[p.kind].Kind, Pages: int(p.Size)})
	}
	ranges, err := s.child.Layout(ask...)
	if err != nil {
		return err
	}
	s.pieces, s.owner = pieces, s.owner[:0]
	for i := range pieces {
		for range pieces[i].Size {
			s.owner = append(s.owner, int16(i))
		}
		pieces[i].Range = ranges[i]
	}
	s.Range = remora.Range{Start: ranges[0].Start, Size: uint64(len(s.owner)) * diffPage}
	for v := range s.models {
		s.models[v] = memtest.NewSparse(&memtest.SparseOptions{Live: s.live})
	}
	var file *diffPiece // the last that can have an alias
	for i := range pieces {
		p, k := &pieces[i], &diffKinds[pieces[i].kind]
		if k.Alias {
			p.size, p.object, p.memory = min(file.size, p.Size), file.object, file.memory
		} else {
			p.size, p.object = p.Size, i
			if k.Kind == specimen.FileEnd {
				p.size = diffPage - specimen.EndGap
			}
			p.memory = memtest.NewObject(p.size)
		}
		if k.CanAlias() {
			file = p
		}
		if err := s.imitate(p); err != nil {
			return fmt.Errorf("%v, %d pages: %w", k, p.Size/diffPage, err)
		}
	}
	s.index()
	return s.fixed()
}

// imitate makes a piece in the models, and does what is left to do in the process.
// Both models share the object, and so what a store through one of them changes is
// changed in the other: private memory too, since it is private to one process. Of
// what shares a file and still is private, only one model is right (model).
func (s *diffSide) imitate(p *diffPiece) error {
	k := &diffKinds[p.kind]
	if k.Kind == specimen.Hole {
		return nil
	}
	for v, o := range [diffViews]memtest.MapOptions{{Perm: k.Perm, Fault: k.Fault}, {Perm: k.Perm, Fault: diffOwnFault(k)}} {
		o.Shared, o.Object = !diffCopied(k), p.memory
		if err := s.models[v].Map(p.Range, o); err != nil {
			return err
		}
	}
	if p.first = s.child.Contents(k.Kind, p.Range); p.first != nil {
		if err := s.models[diffOwn].Poke(p.first, p.Start); err != nil {
			return err
		}
	}
	if k.Change {
		if err := s.child.Protect(p.Range, k.Perm); err != nil {
			return err
		}
	}
	if k.Drop && k.Shared && !k.Alias {
		return s.child.Drop(p.Range)
	}
	return nil
}

// index fills in what depends on the kinds alone.
func (s *diffSide) index() {
	for v := range diffViews {
		for w := range 2 {
			reach := slices.Grow(s.reach[v][w][:0], len(s.owner))[:len(s.owner)]
			end := remora.Addr(0)
			for i := len(s.owner) - 1; i >= 0; i-- {
				at := s.Start + remora.Addr(i*diffPage)
				switch p := &s.pieces[s.owner[i]]; {
				case !diffAllows(&diffKinds[p.kind], v, w == 1, s.executeOnly) || uint64(at-p.Start) >= p.size:
					end = 0
				case end == 0:
					end = at + diffPage
				}
				reach[i] = end
			}
			s.reach[v][w] = reach
			s.open[v][w], s.shut[v][w] = s.open[v][w][:0], s.shut[v][w][:0]
			for i := range s.pieces {
				if reach[s.page(s.pieces[i].Start)] != 0 {
					s.open[v][w] = append(s.open[v][w], i)
				}
				if reach[s.page(s.pieces[i].Last())] == 0 {
					s.shut[v][w] = append(s.shut[v][w], i)
				}
			}
		}
	}
}

// fixed maps what the kernel gives each process.
func (s *diffSide) fixed() error {
	for _, r := range s.vdso {
		object := memtest.NewObject(r.Size)
		for v := range diffViews {
			if err := s.models[v].Map(r, memtest.MapOptions{Perm: diffR | diffX, Shared: true, Object: object}); err != nil {
				return err
			}
		}
		if err := s.models[diffOwn].Poke(s.code[r.Start], r.Start); err != nil {
			return err
		}
	}
	for _, r := range s.vvar {
		// What it holds changes by itself, so nobody may read it by loads.
		for v := range diffViews {
			if err := s.models[v].Map(r, memtest.MapOptions{Perm: diffR, Fault: remora.ErrDevice}); err != nil {
				return err
			}
		}
	}
	return nil
}

// page gives the number of a page of the layout.
func (s *diffSide) page(a remora.Addr) int { return int(uint64(a-s.Start) / diffPage) }

// end gives the end of the run that can be accessed from a on; 0 if a cannot be.
func (s *diffSide) end(v diffView, write bool, a remora.Addr) remora.Addr {
	if !s.Contains(a) {
		for _, r := range s.vdso {
			if r.Contains(a) && !write {
				return r.Last() + 1
			}
		}
		return 0
	}
	return s.reach[v][diffBit(write)][s.page(a)]
}

func diffBit(b bool) int {
	if b {
		return 1
	}
	return 0
}

// row gives the kind of what lies at a.
func (s *diffSide) row(a remora.Addr) int {
	in := func(all []remora.Range) bool {
		return slices.ContainsFunc(all, func(r remora.Range) bool { return r.Contains(a) })
	}
	switch {
	case s.Contains(a):
		return s.pieces[s.owner[s.page(a)]].kind
	case in(s.vdso):
		return diffVdso
	case in(s.vvar):
		return diffVvar
	case a < 1<<16:
		return diffNull
	case a-(s.Start-diffMargin) < remora.Addr(s.Size+2*diffMargin):
		return diffGap
	case a >= s.limit-2*diffPage && a < s.limit+diffPage && !in(s.taken):
		return diffTop
	case a >= ^remora.Addr(2*diffPage):
		return diffEnd
	case a >= 0xffff_8000_0000_0000:
		return diffKernel
	case a >= 1<<56:
		return diffOdd
	}
	return diffElsewhere
}

// diffMargin is how far beside a layout nothing is mapped, at least.
const diffMargin = 256 * diffPage

// dropSome takes the pages of one piece away, in the process and in the models, or to
// swap space, where they keep what they hold.
func (s *diffSide) dropSome(rnd *rand.Rand) error {
	first := rnd.IntN(len(s.pieces))
	for i := range s.pieces { // one that can be dropped
		p := &s.pieces[(first+i)%len(s.pieces)]
		switch k := &diffKinds[p.kind]; {
		case k.Kind == specimen.PagedOut:
			return s.child.PageOut(p.Range)
		case k.Drop:
			return s.drop(p)
		}
	}
	return nil
}

// dropCopies takes away the copies of all private aliases: they show their files again.
func (s *diffSide) dropCopies() error {
	for i := range s.pieces {
		if !diffCopied(&diffKinds[s.pieces[i].kind]) {
			continue
		}
		if err := s.drop(&s.pieces[i]); err != nil {
			return err
		}
	}
	return nil
}

func (s *diffSide) drop(p *diffPiece) error {
	k := &diffKinds[p.kind]
	if err := s.child.Drop(p.Range); err != nil {
		return err
	}
	if k.Kind == specimen.ZeroPage {
		if err := s.child.Peek(make([]byte, p.Size), p.Start); err != nil {
			return err
		}
	}
	switch {
	case diffCopied(k): // what it shows is the file again
		return s.models[diffSeen].Map(p.Range, memtest.MapOptions{Perm: k.Perm, Object: p.memory})
	case k.Shared:
		return nil
	}
	return s.models[diffOwn].Poke(p.first, p.Start)
}
