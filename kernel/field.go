// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/btf"
)

// field is a member of a structure, at an offset from the structure's start.
type field struct {
	off    uint64
	size   uint32 // bytes; of an array: all of it
	elem   uint32 // bytes of an element of an array, as struct upid numbers[]; else 0
	bit    uint8  // of a bit field: the first bit, from the lowest of the bytes on
	bits   uint8  // 0: no bit field
	signed bool
	there  bool
}

// has says whether the kernel has the member. One without a size has it, too: an array
// that is as long as what was allocated for it.
func (f field) has() bool { return f.there }

// wanted is a field that a part of the kernel's knowledge asks for.
type wanted struct {
	into     *field
	member   string // "task_struct.pid"; within another one: "mm_struct.mm_mt.ma_root"
	optional bool   // it may be missing: into stays empty
}

// MissingError says what types of the kernel lack. It Is errors.ErrUnsupported: this
// kernel is one that is not known.
type MissingError struct{ Missing []string }

func (e *MissingError) Error() string {
	return "the types of the kernel have no " + strings.Join(e.Missing, ", no ")
}

func (e *MissingError) Unwrap() error { return errors.ErrUnsupported }

// size gives the size of a structure, union, enumeration or type of the kernel in bytes.
func (t *Types) size(ctx context.Context, name string) (uint64, error) {
	for d, err := range t.data.Named(ctx, name, btf.Struct, btf.Union, btf.Typedef, btf.Enum, btf.Enum64) {
		if err != nil {
			return 0, err
		}
		return t.data.SizeOf(ctx, d.ID)
	}
	return 0, &MissingError{[]string{name}}
}

// field finds a member by a path like "mm_mt.ma_root", also within members that have no
// name themselves. Older names of it are tried as the table of alternatives says.
func (t *Types) field(ctx context.Context, structure, path string) (field, error) {
	var f field
	err := t.fields(ctx, wanted{into: &f, member: structure + "." + path})
	return f, err
}

// fields finds many, and says of all that are missing in one error. Where several
// structures have the same name, that one is taken which has all that is wanted.
func (t *Types) fields(ctx context.Context, all ...wanted) error {
	var missing []string
	for i, w := range all {
		name, _, _ := strings.Cut(w.member, ".")
		same := func(o wanted) bool { return strings.HasPrefix(o.member, name+".") }
		if slices.ContainsFunc(all[:i], same) {
			continue
		}
		var group []wanted
		for _, o := range all[i:] {
			if same(o) {
				group = append(group, o)
			}
		}
		lacks, err := t.fieldsOf(ctx, name, group)
		if err != nil {
			return err
		}
		missing = append(missing, lacks...)
	}
	if len(missing) != 0 {
		return &MissingError{missing}
	}
	return nil
}

// fieldsOf finds the members of structures of one name, and gives those that are missing.
func (t *Types) fieldsOf(ctx context.Context, name string, group []wanted) (missing []string, err error) {
	found := make([]field, len(group))
	best := -1
	for d, err := range t.data.Named(ctx, name, btf.Struct, btf.Union, btf.Typedef) {
		if err != nil {
			return nil, err
		}
		if d, err = t.data.Plain(ctx, d.ID); err != nil {
			return nil, err
		}
		var lacks []string
		these := make([]field, len(group))
		for i, w := range group {
			if these[i], err = t.wantedIn(ctx, d, w.member); err != nil {
				return nil, err
			}
			if !these[i].there && !w.optional {
				lacks = append(lacks, w.member)
			}
		}
		if best < 0 || len(lacks) < best {
			best, found, missing = len(lacks), these, lacks
		}
		if best == 0 {
			break
		}
	}
	for i, w := range group {
		*w.into = found[i]
		if best < 0 {
			// Of a structure that is not there another one may have had the name.
			f, err := t.elsewhere(ctx, w.member)
			if err != nil {
				return nil, err
			}
			if *w.into = f; !f.there && !w.optional {
				missing = append(missing, w.member)
			}
		}
	}
	return missing, nil
}

// wantedIn looks for a member of d by all the names that it has had.
func (t *Types) wantedIn(ctx context.Context, d btf.Type, member string) (field, error) {
	name, path, _ := strings.Cut(member, ".")
	f, err := t.fieldIn(ctx, d, path)
	for _, old := range alternatives[member] {
		if err != nil || f.there {
			break
		}
		if structure, path, _ := strings.Cut(old, "."); structure == name {
			f, err = t.fieldIn(ctx, d, path)
		} else {
			f, err = t.exactly(ctx, old)
		}
	}
	return f, err
}

// elsewhere looks for a member in the structures of other names that it has been in.
func (t *Types) elsewhere(ctx context.Context, member string) (f field, err error) {
	for _, old := range alternatives[member] {
		if f, err = t.exactly(ctx, old); err != nil || f.there {
			break
		}
	}
	return f, err
}

// exactly looks for a member by one name.
func (t *Types) exactly(ctx context.Context, member string) (field, error) {
	name, path, _ := strings.Cut(member, ".")
	for d, err := range t.data.Named(ctx, name, btf.Struct, btf.Union) {
		if err != nil {
			return field{}, err
		}
		if f, err := t.fieldIn(ctx, d, path); err != nil || f.there {
			return f, err
		}
	}
	return field{}, nil
}

// fieldIn finds a member of a structure by its path.
func (t *Types) fieldIn(ctx context.Context, d btf.Type, path string) (field, error) {
	m, ok, err := t.data.Find(ctx, d, path)
	if err != nil || !ok {
		return field{}, err
	}
	return t.fieldOf(ctx, m)
}

// fieldOf makes a field of a member.
func (t *Types) fieldOf(ctx context.Context, m btf.Member) (field, error) {
	d, err := t.data.Plain(ctx, m.Type)
	if err != nil {
		return field{}, err
	}
	size, err := t.data.SizeOf(ctx, m.Type)
	if err != nil {
		return field{}, err
	}
	if size > math.MaxInt32 {
		return field{}, fmt.Errorf("%s: %s has %d bytes: %w", t.data.Name(), m.Name, size, remora.ErrCorrupt)
	}
	f := field{off: m.Bit / 8, size: uint32(size), signed: d.Signed, there: true}
	switch bits := max(m.Bits, d.Bits); {
	case bits != 0:
		off, n, shift, err := btf.Unit(m, d, size)
		if err != nil {
			return field{}, fmt.Errorf("%s: %w", t.data.Name(), err)
		}
		f.off, f.size, f.bit, f.bits = off, uint32(n), shift, bits
	case d.Kind == btf.Array:
		each, err := t.data.SizeOf(ctx, d.Ref)
		if err != nil || each > math.MaxInt32 {
			return field{}, err
		}
		f.elem = uint32(each)
	}
	return f, nil
}
