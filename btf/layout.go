// SPDX-License-Identifier: Apache-2.0

package btf

import (
	"context"
	"fmt"

	"github.com/remora-go/remora"
)

// Layout is how a type lies in memory.
type Layout struct {
	Type Type
	Decl string // of the member, or of the type alone
	Name string // of the member
	// TypeText is Decl without the name.
	TypeText string
	Off      uint64 // bytes from the start of the outermost type
	Size     uint64 // bytes
	Bit      uint8  // of a bit field: its first bit, from the lowest of the bytes at Off on
	Bits     uint8  // 0: no bit field

	// Of structures and unions that are written out: the outermost one, and members whose
	// type has no name.
	Open    bool
	Members []Layout
	Hole    uint64 // bits without a use before this member
	Padding uint64 // bits without a use behind the last member
}

// maxRows is how many members a layout may have, with those of members.
const maxRows = 1 << 15

// Layout gives the layout of a type.
func (t *Types) Layout(ctx context.Context, d Type) (*Layout, error) {
	return t.LayoutAt(ctx, Member{Type: d.ID})
}

// LayoutAt gives the layout of a member, written out where it is a structure or union.
func (t *Types) LayoutAt(ctx context.Context, m Member) (*Layout, error) {
	w := layouter{t: t, ctx: ctx}
	l, err := w.row(m, 0, 0)
	if err == nil && !l.Open && l.Bits == 0 {
		err = w.open(&l, m.Bit, 0)
	}
	if err == nil {
		l.Decl, err = t.Decl(ctx, m.Type, m.Name)
	}
	return &l, err
}

// layouter makes one layout.
type layouter struct {
	t    *Types
	ctx  context.Context
	rows int
}

// row gives a member of a structure that begins at a bit.
func (w *layouter) row(m Member, base uint64, depth int) (l Layout, err error) {
	if err := w.ctx.Err(); err != nil {
		return l, err
	}
	if w.rows++; w.rows > maxRows || depth > maxNested {
		return l, fmt.Errorf("%s: type %d has too many members within one another: %w", w.t.name, m.Type, remora.ErrCorrupt)
	}
	if l.Type, err = w.t.Plain(w.ctx, m.Type); err != nil {
		return l, err
	}
	if l.Size, err = w.t.SizeOf(w.ctx, m.Type); err != nil {
		return l, err
	}
	l.Name = m.Name
	if l.TypeText, err = w.t.Decl(w.ctx, m.Type, ""); err != nil {
		return l, err
	}
	bit := base + m.Bit
	l.Off = bit / 8
	if bits := max(m.Bits, l.Type.Bits); bits != 0 {
		if l.Off, l.Size, l.Bit, err = Unit(m, l.Type, l.Size); err != nil {
			return l, err
		}
		l.Off, l.Bits = l.Off+base/8, bits
	}
	if l.Type.Name == "" && (l.Type.Kind == Struct || l.Type.Kind == Union) {
		direct, err := w.t.Type(w.ctx, m.Type)
		if err != nil {
			return l, err
		}
		if direct.Kind != Typedef || m.Name == "" {
			l.Decl = m.Name
			return l, w.open(&l, bit, depth)
		}
	}
	l.Decl, err = w.t.Decl(w.ctx, m.Type, m.Name)
	return l, err
}

// open writes the members of a structure out.
func (w *layouter) open(l *Layout, base uint64, depth int) error {
	all, err := w.t.Members(w.ctx, l.Type)
	if err != nil || l.Type.Kind != Struct && l.Type.Kind != Union {
		return err
	}
	l.Open = true
	end := uint64(0)
	for _, m := range all {
		in, err := w.row(m, base, depth+1)
		if err != nil {
			return err
		}
		if l.Type.Kind == Struct && m.Bit > end {
			in.Hole = m.Bit - end
		}
		bits := uint64(in.Bits)
		if bits == 0 {
			bits = 8 * in.Size
		}
		end = max(end, m.Bit+bits)
		l.Members = append(l.Members, in)
	}
	if whole := 8 * uint64(l.Type.Size); whole > end && l.Type.Kind == Struct {
		l.Padding = whole - end
	}
	return nil
}

// Unit gives the integer that a bit field is read from: its place, its size in bytes, and
// the first bit of the field in it. It begins at a multiple of the size of the field's
// type, as compilers have it; where it would not hold all bits there, at the byte of the
// first one.
func Unit(m Member, d Type, size uint64) (off, n uint64, shift uint8, err error) {
	bits := uint64(max(m.Bits, d.Bits))
	bit := m.Bit + uint64(d.Shift)
	if size == 0 || size > 8 || bits > 64 {
		return 0, 0, 0, fmt.Errorf("%s is a field of %d bits in %d bytes: %w", m.Name, bits, size, remora.ErrCorrupt)
	}
	off, n = bit/8/size*size, size
	if bit-8*off+bits > 8*n {
		off, n = bit/8, 8
	}
	if bit-8*off+bits > 8*n {
		return 0, 0, 0, fmt.Errorf("%s is a field of %d bits from bit %d on: %w", m.Name, bits, bit, remora.ErrCorrupt)
	}
	return off, n, uint8(bit - 8*off), nil
}
