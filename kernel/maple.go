// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"cmp"
	"context"
	"errors"

	"github.com/remora-go/remora"
)

// mapleFields is how a maple tree lies in memory (include/linux/maple_tree.h, 6.1).
type mapleFields struct {
	root   field // maple_tree.ma_root
	parent field // maple_node.parent
	leaf   mapleShape
	arange mapleShape
}

// mapleShape is one kind of node.
type mapleShape struct{ pivot, slot, end field }

// pivots and slots are how many a node has.
func (s *mapleShape) pivots() int { return int(min(s.pivot.size/8, mapleSlots)) }
func (s *mapleShape) slots() int  { return int(min(s.slot.size/8, mapleSlots)) }

const (
	mapleNode   = 256 // bytes of a node, and what it is aligned to
	mapleSlots  = 31
	mapleHeight = 31 // MAPLE_HEIGHT_MAX
	mapleNodes  = 1 << 20

	mapleDense    = 0 // enum maple_type
	mapleLeaf64   = 1
	mapleRange64  = 2
	mapleArange64 = 3
)

// wanted are the fields.
func (m *mapleFields) wanted() []wanted {
	return []wanted{
		{into: &m.root, member: "maple_tree.ma_root"},
		{into: &m.parent, member: "maple_node.parent"},
		{into: &m.leaf.pivot, member: "maple_range_64.pivot"},
		{into: &m.leaf.slot, member: "maple_range_64.slot"},
		{into: &m.leaf.end, member: "maple_range_64.meta.end"},
		{into: &m.arange.pivot, member: "maple_arange_64.pivot"},
		{into: &m.arange.slot, member: "maple_arange_64.slot"},
		{into: &m.arange.end, member: "maple_arange_64.meta.end"},
	}
}

// errDead says that a node was taken out of the tree while the image was made.
var errDead = errors.New("a node of the tree is out of use")

// mapleEntry is what a tree has for the indices from first to last.
type mapleEntry struct {
	first, last uint64
	value       uint64
}

// mapleWalk goes through one tree.
type mapleWalk struct {
	f    *mapleFields
	p    *peek
	seen map[remora.Addr]bool
	emit func(mapleEntry) bool
	lost error // why the first node that could not be read could not
}

// entries gives the entries of the tree at tree in order, up to the first damage. Gaps are
// left out, and so is what is no pointer, and what is below a node that cannot be read, of
// which the error tells. emit gives false to end it.
func (m *mapleFields) entries(ctx context.Context, space remora.Space, tree remora.Addr, emit func(mapleEntry) bool) error {
	w := &mapleWalk{f: m, p: peekInto(ctx, space), seen: map[remora.Addr]bool{}, emit: emit}
	defer w.p.done()
	root := w.p.uint(tree, m.root)
	switch {
	case w.p.err != nil:
		return w.p.why()
	case root == 0:
		return nil
	case !mapleIsNode(root):
		if root&3 == 0 {
			emit(mapleEntry{value: root})
		}
		return nil
	}
	if _, err := w.node(root, 0, ^uint64(0), 0); err != nil {
		return err
	}
	return w.lost
}

// mapleIsNode says whether a root is a node (xa_is_node). Those below lack the mark.
func mapleIsNode(v uint64) bool { return v&3 == 2 && v > 4096 }

// node goes through the node at an encoded pointer, which has the indices from first to
// last. It gives false when there shall be no more.
func (w *mapleWalk) node(enode, first, last uint64, depth int) (bool, error) {
	at, kind := remora.Addr(enode&^(mapleNode-1)), enode>>3&15
	switch {
	case depth > mapleHeight:
		return false, damaged("the tree is higher than %d nodes at %v", mapleHeight, at)
	case w.seen[at]:
		return false, damaged("the tree has the node at %v twice", at)
	case len(w.seen) >= mapleNodes:
		return false, damaged("the tree has more than %d nodes", mapleNodes)
	case kind != mapleLeaf64 && kind != mapleRange64 && kind != mapleArange64:
		return false, damaged("the node at %v is of a kind that is not known: %d", at, kind)
	}
	if err := w.p.ctx.Err(); err != nil {
		return false, err
	}
	w.seen[at] = true
	var b [mapleNode]byte
	copy(b[:], w.p.bytes(at, mapleNode))
	if err := w.p.why(); err != nil {
		if w.p.ctx.Err() != nil {
			return false, err
		}
		w.lost, w.p.err = cmp.Or(w.lost, err), nil
		return true, nil
	}
	if remora.Addr(w.f.parent.in(b[:])) == at {
		return false, errDead
	}
	shape := &w.f.leaf
	if kind == mapleArange64 {
		shape = &w.f.arange
	}
	end := shape.used(b[:], last, kind == mapleArange64)
	if end >= shape.slots() {
		return false, damaged("the node at %v claims %d slots of %d", at, end+1, shape.slots())
	}
	for i := 0; i <= end; i++ {
		to := last
		if i < end {
			to = shape.pivotAt(b[:], i)
		}
		if to < first || to > last {
			return false, damaged("the node at %v, which has the indices 0x%x to 0x%x, has a slot up to 0x%x", at, first, last, to)
		}
		if more, err := w.slot(shape.slotAt(b[:], i), first, to, kind == mapleLeaf64, depth); !more || err != nil {
			return more, err
		}
		if to == last {
			break
		}
		first = to + 1
	}
	return true, nil
}

// slot does what is in a slot.
func (w *mapleWalk) slot(value, first, last uint64, leaf bool, depth int) (bool, error) {
	switch {
	case value == 0:
		return true, nil
	case leaf:
		if value&3 != 0 { // reserved (XA_ZERO_ENTRY, left by a fork that failed), or a value
			return true, nil
		}
		return w.emit(mapleEntry{first, last, value}), nil
	}
	return w.node(value, first, last, depth+1)
}

func (s *mapleShape) pivotAt(b []byte, i int) uint64 {
	return field{off: s.pivot.off + uint64(8*i), size: 8}.in(b)
}

func (s *mapleShape) slotAt(b []byte, i int) uint64 {
	return field{off: s.slot.off + uint64(8*i), size: 8}.in(b)
}

// used gives the number of the last slot in use (ma_data_end in lib/maple_tree.c): where
// not all are, the node says it in what would be its last slot.
func (s *mapleShape) used(b []byte, last uint64, arange bool) int {
	n := s.pivots()
	if arange || n == 0 {
		return int(s.end.in(b))
	}
	switch pivot := s.pivotAt(b, n-1); pivot {
	case 0:
		return int(s.end.in(b))
	case last:
		return n - 1
	}
	return n
}
