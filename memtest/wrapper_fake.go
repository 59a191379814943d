// SPDX-License-Identifier: Apache-2.0

package memtest

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/remora-go/remora"
)

// The fake's memory: two pages that can be written, one that only Force can, and
// nothing behind them.
const (
	fakePage  = 4096
	fakeStart = remora.Addr(0x10_0000)
	fakeSize  = 3 * fakePage
	fakeHole  = fakeStart + fakeSize
)

// errExplained is in everything that the fake explains.
var errExplained = errors.New("explained by the fake")

// fakeTarget has every ability there is.
type fakeTarget struct {
	space  *fakeSpace
	memory *remora.Memory
	paused int
	closed int
	broken error // what Close gives
}

var (
	_ remora.Target     = (*fakeTarget)(nil)
	_ remora.Mapper     = (*fakeTarget)(nil)
	_ remora.Symbolizer = (*fakeTarget)(nil)
	_ remora.Container  = (*fakeTarget)(nil)
	_ remora.Describer  = (*fakeTarget)(nil)
	_ remora.Explainer  = (*fakeTarget)(nil)
	_ remora.Translator = (*fakeTarget)(nil)
	_ remora.Pauser     = (*fakeTarget)(nil)
)

func newFakeTarget() *fakeTarget {
	s := NewSparse(&SparseOptions{Name: "fake"})
	data := fakeBytes()
	must(s.Map(remora.Range{Start: fakeStart, Size: fakeSize}, MapOptions{Perm: rw}))
	must(s.Poke(data, fakeStart))
	must(s.Protect(remora.Range{Start: fakeStart + 2*fakePage, Size: fakePage}, remora.PermRead))
	space := &fakeSpace{sparse: s}
	return &fakeTarget{space: space, memory: remora.New(space)}
}

func (t *fakeTarget) Memory() *remora.Memory { return t.memory }

func (t *fakeTarget) Close() error {
	t.closed++
	return errors.Join(t.broken, t.space.sparse.Close())
}

func (t *fakeTarget) Regions(context.Context) iter.Seq2[remora.Region, error] {
	return each(fakeRegions())
}

func (t *fakeTarget) Children(context.Context) iter.Seq2[remora.Child, error] {
	return each(fakeChildren())
}

func (t *fakeTarget) Symbol(_ context.Context, name string) ([]remora.Symbol, error) {
	if name != fakeSymbols()[0].Name {
		return nil, nil
	}
	return fakeSymbols(), nil
}

func (t *fakeTarget) SymbolAt(_ context.Context, a remora.Addr) (remora.Symbol, bool) {
	s := fakeSymbols()[0]
	return s, a >= s.Addr
}

func (t *fakeTarget) Describe(context.Context) ([]remora.Fact, error) { return fakeFacts(), nil }

func (t *fakeTarget) Explain(_ context.Context, _ remora.Op, _ remora.Addr, c error) error {
	return explained(c)
}

func (t *fakeTarget) Translate(_ context.Context, va remora.Addr) remora.Extent {
	return fakeExtent(va)
}

func (t *fakeTarget) Pause(context.Context) (func() error, error) {
	t.paused++
	return func() error { t.paused--; return nil }, nil
}

// bare gives a Target of the same memory that has no ability, nor has its Space.
func (t *fakeTarget) bare() remora.Target {
	return &bareTarget{t.Close, remora.New(&bareSpace{t.space})}
}

type bareTarget struct {
	close  func() error
	memory *remora.Memory
}

func (t *bareTarget) Memory() *remora.Memory { return t.memory }
func (t *bareTarget) Close() error           { return t.close() }

type bareSpace struct{ space *fakeSpace }

var _ remora.Space = (*bareSpace)(nil)

func (s *bareSpace) Info() remora.Info { return s.space.Info() }

func (s *bareSpace) Transfer(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
	return s.space.Transfer(ctx, op, segs)
}

// fakeSpace notes what is written to it.
type fakeSpace struct {
	sparse  *Sparse
	changed map[remora.Addr]bool // pages; nil: not noted
}

var (
	_ remora.Space      = (*fakeSpace)(nil)
	_ remora.Explainer  = (*fakeSpace)(nil)
	_ remora.Translator = (*fakeSpace)(nil)
)

func (s *fakeSpace) Info() remora.Info { return s.sparse.Info() }

func (s *fakeSpace) Transfer(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
	sum, err := s.sparse.Transfer(ctx, op, segs)
	for i := range segs {
		if op&remora.Write != 0 && segs[i].N > 0 && s.changed != nil {
			s.changed[segs[i].Addr&^(fakePage-1)] = true
		}
	}
	return sum, err
}

func (s *fakeSpace) Explain(_ context.Context, _ remora.Op, _ remora.Addr, c error) error {
	return explained(c)
}

func (s *fakeSpace) Translate(_ context.Context, va remora.Addr) remora.Extent {
	return fakeExtent(va)
}

// changedBy writes to every page through v, if v is a Space or has a Memory, and
// tells which pages were written to.
func (s *fakeSpace) changedBy(v any) map[remora.Addr]bool {
	s.changed = map[remora.Addr]bool{}
	var spaces []remora.Space
	if sp, ok := v.(remora.Space); ok {
		spaces = append(spaces, sp)
	}
	if t, ok := v.(interface{ Memory() *remora.Memory }); ok && t.Memory() != nil {
		spaces = append(spaces, t.Memory())
	}
	for _, sp := range spaces {
		for _, op := range []remora.Op{remora.Write, remora.Write | remora.Force, remora.Write | remora.Resident} {
			for a := fakeStart; a < fakeHole; a += fakePage {
				// What cannot be written is as good an answer.
				sp.Transfer(context.Background(), op, []remora.Seg{{Addr: a, Buf: []byte{1}}})
			}
		}
	}
	changed := s.changed
	s.changed = nil
	return changed
}

func explained(c error) error { return fmt.Errorf("%w: %w", errExplained, c) }

func fakeBytes() []byte {
	data := make([]byte, fakeSize)
	newNoise(newRand(3)).fill(newRand(4), data)
	return data
}

func fakeRegions() []remora.Region {
	return []remora.Region{
		{Range: remora.Range{Start: fakeStart, Size: 2 * fakePage}, Perm: rw, Name: "[heap]"},
		{Range: remora.Range{Start: fakeStart + 2*fakePage, Size: fakePage}, Perm: remora.PermRead, Name: "/bin/fake", Offset: fakePage, Inode: 7},
	}
}

func fakeChildren() []remora.Child {
	return []remora.Child{{ID: 1, Name: "init"}, {ID: 42, Name: "sh"}}
}

func fakeSymbols() []remora.Symbol {
	return []remora.Symbol{{Name: "start", Addr: fakeStart, Size: 16}, {Name: "start", Addr: fakeStart + 64, Module: "libfake"}}
}

func fakeFacts() []remora.Fact {
	return []remora.Fact{{Key: "kind", Value: "fake"}, {Key: "pages", Value: "3"}}
}

func fakeExtent(va remora.Addr) remora.Extent {
	page := va &^ (fakePage - 1)
	return remora.Extent{Virt: page, Phys: page + 0x4000_0000, Size: fakePage, Perm: rw}
}

func each[T any](all []T) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for _, v := range all {
			if !yield(v, nil) {
				return
			}
		}
	}
}

// collect gives all that seq gives, up to an error.
func collect[T any](seq iter.Seq2[T, error]) []T {
	var all []T
	for v, err := range seq {
		if err != nil {
			break
		}
		all = append(all, v)
	}
	return all
}
