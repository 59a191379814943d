// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/specimen"
	"github.com/remora-go/remora/memtest"
)

// diffKind is a kind of page, both as the child has it and as the model does.
type diffKind struct {
	specimen.Kind
	name   string // where it is not that of Kind
	perm   remora.Perm
	shared bool
	file   bool
	alias  bool         // of the shared piece before it
	fault  remora.Cause // whatever the protection: nobody else reaches it
	change bool         // made by mprotect(2) from what Kind is
	drop   bool         // its pages may be taken away (MADV_DONTNEED) at any time
}

const (
	diffR  = remora.PermRead
	diffW  = remora.PermWrite
	diffX  = remora.PermExec
	diffRW = diffR | diffW
)

// diffKinds are the kinds that a layout is made of. Paged-out memory is not there,
// as there may be no swap space; what is dropped from shared memory is not present
// in the same way. Memory that waits for a userfaultfd has tests of its own.
var diffKinds = [...]diffKind{
	{Kind: specimen.Hole, fault: remora.ErrUnmapped},
	{Kind: specimen.Touched, perm: diffRW},
	{Kind: specimen.Untouched, perm: diffRW, drop: true},
	{Kind: specimen.ZeroPage, perm: diffRW, drop: true},
	{Kind: specimen.NoAccess},
	{Kind: specimen.Reserved, drop: true},
	{Kind: specimen.ReadOnly, perm: diffR},
	{Kind: specimen.WriteOnly, perm: diffW},
	{Kind: specimen.ExecOnly, perm: diffX},
	{Kind: specimen.Locked, perm: diffRW},
	{Kind: specimen.Huge, perm: diffRW},
	{Kind: specimen.Guard, perm: diffRW, fault: remora.ErrGuard},
	{Kind: specimen.GrowsDown, perm: diffRW},
	{Kind: specimen.Secret, perm: diffRW, shared: true, fault: remora.ErrFault},
	{Kind: specimen.Text, perm: diffR | diffX, file: true, drop: true},
	{Kind: specimen.PrivateFile, perm: diffRW, file: true},
	{Kind: specimen.UnreadFile, perm: diffRW, file: true, drop: true},
	{Kind: specimen.FileEnd, perm: diffRW, file: true},
	{Kind: specimen.SharedFile, perm: diffRW, file: true, shared: true},
	{Kind: specimen.SharedReadOnly, perm: diffR, file: true, shared: true},
	{Kind: specimen.SharedMemory, perm: diffRW, file: true, shared: true},
	{Kind: specimen.SharedMemory, name: "shared, dropped", perm: diffRW, file: true, shared: true, drop: true},
	{Kind: specimen.SharedMemory, name: "shared, no access", file: true, shared: true, change: true},
	{Kind: specimen.SharedMemory, name: "shared, write-only", perm: diffW, file: true, shared: true, change: true},
	{Kind: specimen.Alias, perm: diffRW, file: true, shared: true, alias: true, drop: true},
	{Kind: specimen.PrivateAlias, perm: diffRW, file: true, alias: true, drop: true},
}

// Besides those a child has, in all its layouts, device memory of the kernel, and
// addresses where nothing can be.
const (
	diffDevice   = len(diffKinds)
	diffOutside  = diffDevice + 1
	diffRowCount = diffOutside + 1
)

func (k diffKind) String() string {
	if k.name != "" {
		return k.name
	}
	return k.Kind.String()
}

func diffRowName(row int) string {
	switch row {
	case diffDevice:
		return "vvar"
	case diffOutside:
		return "outside"
	}
	return diffKinds[row].String()
}

// canAlias says whether an alias may follow.
func (k diffKind) canAlias() bool { return k.file && k.shared && !k.alias }

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
	touched := diffNumber(specimen.Touched)
	var out []diffPiece
	add := func(kind, pages int) {
		out = append(out, diffPiece{kind: kind, Range: remora.Range{Size: uint64(pages)}})
	}
	if rnd.IntN(16) == 0 {
		add(diffNumber(specimen.Huge), 512+rnd.IntN(80))
	}
	for i, kind := range kinds {
		if lacking[kind] {
			continue
		}
		pages := 1 + rnd.IntN(4)
		if rnd.IntN(12) == 0 {
			pages += 16 + rnd.IntN(32)
		}
		switch k := diffKinds[kind]; {
		case k.alias:
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
func diffBeforeAlias(rnd *rand.Rand, k diffKind, add func(kind, pages int)) int {
	var of []int
	for i, b := range diffKinds {
		if b.canAlias() {
			of = append(of, i)
		}
	}
	pages := 1 + rnd.IntN(4)
	add(of[rnd.IntN(len(of))], pages)
	if !k.shared {
		// The kernel takes hold of all pages of a range before it copies to the first,
		// and so makes the private copy before the shared page has changed. With a hole
		// between them no range holds both.
		add(0, 1)
	}
	return max(1, pages+rnd.IntN(3)-1) // may be beyond the end of the file
}

func diffNumber(k specimen.Kind) int {
	return slices.IndexFunc(diffKinds[:], func(d diffKind) bool { return d.Kind == k })
}

// diffProbe finds the kinds that this system does not offer, by number.
func diffProbe(t testing.TB, s *specimen.Specimen) map[int]bool {
	lacking := map[int]bool{}
	for i, k := range diffKinds {
		if k.Kind == specimen.Hole || k.alias {
			continue
		}
		switch _, err := s.Map(k.Kind, 1); {
		case errors.Is(err, errors.ErrUnsupported) && os.Getenv("REMORA_REQUIRE") == "":
			t.Logf("no %v: %v", k, err)
			lacking[i] = true
		case err != nil:
			t.Fatal(err)
		}
	}
	if err := s.Reset(); err != nil {
		t.Fatal(err)
	}
	return lacking
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
		if k := diffKinds[pieces[i].kind]; k.perm == diffRW && k.fault == 0 && pieces[i].Size >= pieces[l.longest].Size {
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
		if diffKinds[p.kind].alias {
			p.object = object
		}
		if err := l.imitate(s, p); err != nil {
			return fmt.Errorf("%v, %d pages: %w", diffKinds[p.kind], p.Size/l.page, err)
		}
		if diffKinds[p.kind].canAlias() {
			object = p.object
		}
	}
	for _, r := range l.device {
		if err := l.model.Map(r, memtest.MapOptions{Perm: diffR, Fault: remora.ErrDevice}); err != nil {
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
	if k.file && !k.alias {
		size := uint64(len(data))
		if k.Kind == specimen.FileEnd {
			size -= specimen.EndGap
		}
		p.object = memtest.NewObject(size)
		if err := l.model.Map(p.Range, memtest.MapOptions{Perm: diffRW, Shared: true, Object: p.object}); err != nil {
			return err
		}
		if err := l.model.Poke(data, p.Start); err != nil {
			return err
		}
	}
	if err := l.remap(p); err != nil {
		return err
	}
	if k.fault == 0 && !k.file && !slices.Contains([]specimen.Kind{specimen.Untouched, specimen.ZeroPage, specimen.Reserved}, k.Kind) {
		if err := l.model.Poke(data, p.Start); err != nil {
			return err
		}
		for i := range p.Size / l.page {
			l.synced[uint64(p.Start-l.Start)/l.page+i] = true
		}
	}
	if k.change {
		if err := s.Protect(p.Range, k.perm); err != nil {
			return err
		}
	}
	if k.drop && k.shared {
		return s.Drop(p.Range)
	}
	return nil
}

// remap maps a piece in the model, with nothing of its own yet.
func (l *diffLayout) remap(p *diffPiece) error {
	k := diffKinds[p.kind]
	o := memtest.MapOptions{Perm: k.perm, Fault: k.fault, Shared: k.file && k.shared, Object: p.object}
	for i := range p.Size / l.page {
		l.synced[uint64(p.Start-l.Start)/l.page+i] = false
	}
	return l.model.Map(p.Range, o)
}

// dropSome takes the pages of one piece away, in the child and in the model.
func (l *diffLayout) dropSome(rnd *rand.Rand, s *specimen.Specimen) error {
	p := &l.pieces[rnd.IntN(len(l.pieces))]
	k := diffKinds[p.kind]
	if !k.drop {
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
