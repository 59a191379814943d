// SPDX-License-Identifier: Apache-2.0

package btf

import (
	"context"
	"fmt"

	"github.com/remora-go/remora"
)

// maxChain is how many types may stand for one another: typedefs, modifiers, arrays of
// arrays and structures within structures.
const maxChain = 64

// Plain gives what a type is behind typedefs, modifiers and type tags.
func (t *Types) Plain(ctx context.Context, id ID) (Type, error) {
	for range maxChain {
		d, err := t.Type(ctx, id)
		if err != nil {
			return d, err
		}
		switch d.Kind {
		case Typedef, Volatile, Const, Restrict, TypeTag, DeclTag, Var:
			id = d.Ref
		default:
			return d, nil
		}
	}
	return Type{}, fmt.Errorf("%s: type %d: more than %d typedefs and modifiers: %w", t.name, id, maxChain, remora.ErrCorrupt)
}

// PointerSize is the size of a pointer: programs with 64 bits are read.
const PointerSize = 8

// SizeOf gives the size of a type in bytes: 0 of what has none, as void and functions.
func (t *Types) SizeOf(ctx context.Context, id ID) (uint64, error) {
	size := uint64(1)
	for range maxChain {
		d, err := t.Plain(ctx, id)
		if err != nil {
			return 0, err
		}
		var each uint64
		switch d.Kind {
		case Array:
			if size *= uint64(d.Count); size > 1<<31 {
				return 0, fmt.Errorf("%s: type %d: an array of more than %d elements: %w", t.name, id, uint32(1<<31), remora.ErrCorrupt)
			}
			id = d.Ref
			continue
		case Pointer:
			each = PointerSize
		default:
			each = uint64(d.Size)
		}
		return size * each, nil
	}
	return 0, fmt.Errorf("%s: type %d: more than %d arrays of arrays: %w", t.name, id, maxChain, remora.ErrCorrupt)
}

// Members gives the members of a Struct or Union; other types have none. The slice is not
// to be changed.
func (t *Types) Members(ctx context.Context, d Type) ([]Member, error) {
	if d.Kind != Struct && d.Kind != Union || d.Count == 0 {
		return nil, nil
	}
	o := d.owner
	o.mu.Lock()
	defer o.mu.Unlock()
	if all, ok := o.members[d.ID]; ok {
		return all, nil
	}
	b, _, err := o.types.at(ctx, d.at, 12*d.Count)
	if err != nil {
		return nil, err
	}
	all := make([]Member, d.Count)
	for i := range all {
		m, raw := &all[i], b[12*i:]
		if m.Name, err = o.text(ctx, o.order.Uint32(raw)); err != nil {
			return nil, err
		}
		bit := o.order.Uint32(raw[8:])
		if d.flag {
			m.Bits = uint8(bit >> 24)
			bit &= 0xffffff
		}
		m.Type, m.Bit = ID(o.order.Uint32(raw[4:])), uint64(bit)
	}
	o.members[d.ID] = all
	return all, nil
}
