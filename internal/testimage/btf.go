// SPDX-License-Identifier: Apache-2.0

package testimage

import "encoding/binary"

// BTF is types as the kernel keeps them (include/uapi/linux/btf.h), to be written. Each
// method that adds a type gives its number.
type BTF struct {
	BigEndian bool
	Header    uint32 // bytes of it, 0: 24
	FirstType uint32 // of what a module adds: the number of its first one
	FirstText uint32 // and the size of the strings that it adds to

	types, text []byte
	texts       map[string]uint32
	count       uint32
}

// BTFMember is a member of a structure, a value of an enumeration (of which Bit is the
// value) or a parameter of a function.
type BTFMember struct {
	Name string
	Type uint32
	Bit  uint64 // its first bit
	Bits uint8  // of a bit field
}

// The kinds of types.
const (
	btfInt = iota + 1
	btfPointer
	btfArray
	btfStruct
	btfUnion
	btfEnum
	btfForward
	btfTypedef
	btfVolatile
	btfConst
	btfRestrict
	btfFunc
	btfProto
	btfVar
	btfDatasec
	btfFloat
	btfDeclTag
	btfTypeTag
	btfEnum64
)

func (b *BTF) order() binary.AppendByteOrder {
	if b.BigEndian {
		return binary.BigEndian
	}
	return binary.LittleEndian
}

// Text gives where a string is.
func (b *BTF) Text(s string) uint32 {
	if s == "" {
		return 0
	}
	if b.texts == nil {
		b.texts = map[string]uint32{}
	}
	if len(b.text) == 0 && b.FirstText == 0 {
		b.text = []byte{0}
	}
	if at, ok := b.texts[s]; ok {
		return at
	}
	at := b.FirstText + uint32(len(b.text))
	b.text = append(append(b.text, s...), 0)
	b.texts[s] = at
	return at
}

// Add adds a type of any kind.
func (b *BTF) Add(name string, info, size uint32, more ...uint32) uint32 {
	for _, v := range append([]uint32{b.Text(name), info, size}, more...) {
		b.types = b.order().AppendUint32(b.types, v)
	}
	if b.count++; b.FirstType != 0 {
		return b.FirstType + b.count - 1
	}
	return b.count
}

// Int adds an integer.
func (b *BTF) Int(name string, size uint32, signed bool) uint32 {
	v := 8 * size
	if signed {
		v |= 1 << 24
	}
	return b.Add(name, btfInt<<24, size, v)
}

// Pointer adds a pointer.
func (b *BTF) Pointer(to uint32) uint32 { return b.Add("", btfPointer<<24, to) }

// Array adds an array.
func (b *BTF) Array(of, n uint32) uint32 { return b.Add("", btfArray<<24, 0, of, 1, n) }

// Typedef adds another name of a type, Const, Volatile and TypeTag the modifiers.
func (b *BTF) Typedef(name string, of uint32) uint32 { return b.Add(name, btfTypedef<<24, of) }

// Const adds a type that is not changed.
func (b *BTF) Const(of uint32) uint32 { return b.Add("", btfConst<<24, of) }

// TypeTag adds a tag, as __user and __rcu are.
func (b *BTF) TypeTag(name string, of uint32) uint32 { return b.Add(name, btfTypeTag<<24, of) }

// Forward adds a structure that is elsewhere.
func (b *BTF) Forward(name string) uint32 { return b.Add(name, btfForward<<24, 0) }

// Func adds a function without parameters.
func (b *BTF) Func(name string) uint32 {
	return b.Add(name, btfFunc<<24, b.Add("", btfProto<<24, 0))
}

// Struct adds a structure.
func (b *BTF) Struct(name string, size uint32, members ...BTFMember) uint32 {
	return b.members(name, btfStruct, size, members)
}

// Union adds a union.
func (b *BTF) Union(name string, size uint32, members ...BTFMember) uint32 {
	return b.members(name, btfUnion, size, members)
}

func (b *BTF) members(name string, kind, size uint32, members []BTFMember) uint32 {
	info := kind<<24 | uint32(len(members))
	for _, m := range members {
		if m.Bits != 0 {
			info |= 1 << 31
		}
	}
	var more []uint32
	for _, m := range members {
		at := uint32(m.Bit)
		if info>>31 != 0 {
			at |= uint32(m.Bits) << 24
		}
		more = append(more, b.Text(m.Name), m.Type, at)
	}
	return b.Add(name, info, size, more...)
}

// Enum adds an enumeration; one of 8 bytes is of the kind that is for those.
func (b *BTF) Enum(name string, size uint32, signed bool, values ...BTFMember) uint32 {
	info := uint32(btfEnum<<24 | len(values))
	if size == 8 {
		info = uint32(btfEnum64<<24 | len(values))
	}
	if signed {
		info |= 1 << 31
	}
	var more []uint32
	for _, v := range values {
		more = append(more, b.Text(v.Name), uint32(v.Bit))
		if size == 8 {
			more = append(more, uint32(v.Bit>>32))
		}
	}
	return b.Add(name, info, size, more...)
}

// TextSize is the size of the strings.
func (b *BTF) TextSize() uint32 { b.Text("_"); return uint32(len(b.text)) }

// Count is the number of the next type.
func (b *BTF) Count() uint32 { return max(b.FirstType, 1) + b.count }

// Bytes gives all of it.
func (b *BTF) Bytes() []byte {
	head := max(b.Header, 24)
	n := b.TextSize()
	o := b.order()
	h := o.AppendUint16(nil, 0xeb9f)
	h = append(h, 1, 0)
	for _, v := range []uint32{head, 0, uint32(len(b.types)), uint32(len(b.types)), n} {
		h = o.AppendUint32(h, v)
	}
	h = append(h, make([]byte, head-24)...)
	return append(append(h, b.types...), b.text...)
}
