// SPDX-License-Identifier: Apache-2.0

package btf

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"

	"github.com/remora-go/remora"
)

// MaxSize is the largest BTF that is read, in bytes. That of a kernel with all its
// drivers built in is a tenth of it.
const MaxSize = 64 << 20

// ID is the number of a type. 0 is void.
type ID uint32

// Kind is what a type is (BTF_KIND_*).
type Kind uint8

// The kinds.
const (
	Void Kind = iota
	Int
	Pointer
	Array
	Struct
	Union
	Enum
	Forward
	Typedef
	Volatile
	Const
	Restrict
	Func
	FuncProto
	Var
	Datasec
	Float
	DeclTag
	TypeTag
	Enum64
)

// Type is one type.
type Type struct {
	ID   ID
	Kind Kind
	Name string
	// Size is the number of bytes of an Int, Struct, Union, Enum, Enum64, Float or
	// Datasec, as written there. See Types.Size.
	Size uint32
	// Ref is what a Pointer points to, an Array has, and what a Typedef, a modifier, a
	// Func, a FuncProto (its result), a Var or a tag is of.
	Ref ID
	// Count is the number of elements of an Array, of members of a Struct or Union, of
	// values of an Enum, and of parameters of a FuncProto.
	Count uint32
	// Signed says it of an Int, or of the values of an Enum.
	Signed bool
	// Char and Bool say what an Int is. Compilers do not say Char.
	Char, Bool bool
	// Bits is the width of an Int that has fewer bits than its Size, and Shift the first
	// of them; else Bits is 0.
	Bits, Shift uint8
	// Union says of a Forward that it is one of a union.
	Union bool

	at    uint32 // of what follows the type's header, in the types
	flag  bool   // kind_flag
	owner *Types
}

// Member is a member of a Struct or Union.
type Member struct {
	Name string
	Type ID
	// Bit is its first bit, counted from the start of the structure.
	Bit uint64
	// Bits is the width of a bit field, 0: it is none.
	Bits uint8
}

// Read fills p with what is at an offset, or says why not.
type Read func(ctx context.Context, p []byte, off uint32) error

// Types are the types of a program, or those that a module adds.
type Types struct {
	name  string
	read  Read
	size  uint32
	base  *Types
	first ID // the number of the first one
	order binary.ByteOrder

	mu      sync.Mutex
	types   part
	strings part
	// starts has where each type begins that was walked over, from first on.
	starts  []uint32
	next    uint32  // where the walk goes on
	named   []named // those walked over that can be looked for by a name
	found   map[string]place
	members map[ID][]Member // of structures that were looked into
}

// named is a type with a name.
type named struct {
	name uint32
	id   ID
	kind Kind
}

const (
	magic      = 0xeb9f
	headerSize = 24
	longHeader = 32
	maxHeader  = 4096
)

// Open looks at the header of BTF, which says how many bytes it has: at most as many as
// there is room for. name is for messages. base has the types that those of a module add
// to, nil: it stands for itself.
func Open(ctx context.Context, name string, room uint64, read Read, base *Types) (*Types, error) {
	t := &Types{name: name, read: read, base: base, first: 1, found: map[string]place{}, members: map[ID][]Member{}}
	if room < headerSize {
		return nil, t.bad(0, fmt.Sprintf("BTF, of %d bytes at least", headerSize), fmt.Sprintf("%d bytes", room))
	}
	var h [longHeader]byte
	if err := read(ctx, h[:headerSize], 0); err != nil {
		return nil, err
	}
	switch {
	case binary.LittleEndian.Uint16(h[:]) == magic:
		t.order = binary.LittleEndian
	case binary.BigEndian.Uint16(h[:]) == magic:
		t.order = binary.BigEndian
	default:
		return nil, &remora.FormatError{File: name, Want: "the magic number of BTF, eb9f", Got: fmt.Sprintf("%x", h[:2]), Err: remora.ErrUnrecognized}
	}
	if h[2] != 1 {
		return nil, &remora.FormatError{File: name, Offset: 2, Want: "version 1 of BTF", Got: fmt.Sprint(h[2]), Err: remora.ErrUnrecognized}
	}
	room = min(room, MaxSize)
	head := uint64(t.order.Uint32(h[4:]))
	if most := min(maxHeader, room); head < headerSize || head > most || head%4 != 0 {
		return nil, t.bad(4, fmt.Sprintf("a header of %d to %d bytes", headerSize, most), fmt.Sprint(head))
	}
	parts := []*part{&t.types, &t.strings}
	if head >= longHeader {
		if err := read(ctx, h[headerSize:], headerSize); err != nil {
			return nil, err
		}
		parts = append(parts, &part{}) // how long types of each kind are
	}
	t.size = uint32(head)
	for i, p := range parts {
		at := 8 + 8*i
		off, n := uint64(t.order.Uint32(h[at:])), uint64(t.order.Uint32(h[at+4:]))
		if head+off+n > room {
			return nil, t.bad(int64(at), fmt.Sprintf("a part within %d bytes", room), fmt.Sprintf("%d bytes at %d", n, head+off))
		}
		p.read, p.off, p.size = read, uint32(head+off), uint32(n)
		t.size = max(t.size, uint32(head+off+n))
	}
	if base != nil {
		if base.base != nil {
			return nil, fmt.Errorf("%s: its base is itself an addition: %w", name, remora.ErrCorrupt)
		}
		n, err := base.Len(ctx)
		if err != nil {
			return nil, err
		}
		t.first = n
	}
	return t, nil
}

// Name is what Open was given.
func (t *Types) Name() string { return t.name }

// Raw reads the whole.
func (t *Types) Raw(ctx context.Context) ([]byte, error) {
	b := make([]byte, t.size)
	for at := uint32(0); at < t.size; at += min(stride, t.size-at) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := t.read(ctx, b[at:at+min(stride, t.size-at)], at); err != nil {
			return nil, err
		}
	}
	return b, nil
}

func (t *Types) bad(off int64, want, got string) error {
	return &remora.FormatError{File: t.name, Offset: off, Want: want, Got: got, Err: remora.ErrCorrupt}
}

// badType is bad for what is at an offset of the types.
func (t *Types) badType(at uint32, want, got string) error {
	return t.bad(int64(t.types.off)+int64(at), want, got)
}
