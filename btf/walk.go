// SPDX-License-Identifier: Apache-2.0

package btf

import (
	"context"
	"fmt"
	"iter"

	"github.com/remora-go/remora"
)

const (
	typeHeader = 12
	maxName    = 4096
)

// head is the header of a type.
type head struct {
	name, info, size uint32
}

func (h head) kind() Kind    { return Kind(h.info >> 24 & 31) }
func (h head) count() uint32 { return h.info & 0xffff }
func (h head) flag() bool    { return h.info>>31 != 0 }

// extra is the number of bytes that follow the header.
func (h head) extra() (n uint32, ok bool) {
	switch h.kind() {
	case Int, Var, DeclTag:
		return 4, true
	case Array:
		return 12, true
	case Struct, Union, Datasec, Enum64:
		return 12 * h.count(), true
	case Enum, FuncProto:
		return 8 * h.count(), true
	case Pointer, Forward, Typedef, Volatile, Const, Restrict, Func, Float, TypeTag:
		return 0, true
	}
	return 0, false
}

// nameable are the kinds that can be looked for by a name. Functions, of which there are
// most, have symbols.
const nameable = 1<<Int | 1<<Struct | 1<<Union | 1<<Enum | 1<<Enum64 | 1<<Typedef | 1<<Float

// step walks over one type more. It is false behind the last one.
func (t *Types) step(ctx context.Context) (bool, error) {
	if t.next >= t.types.size {
		return false, nil
	}
	b, ok, err := t.types.at(ctx, t.next, typeHeader)
	if err != nil {
		return false, err
	}
	if !ok {
		return false, t.badType(t.next, "the header of a type", "the end of the types")
	}
	h := head{t.order.Uint32(b), t.order.Uint32(b[4:]), t.order.Uint32(b[8:])}
	n, ok := h.extra()
	if !ok {
		return false, t.badType(t.next+4, "a kind of type that is known", fmt.Sprint(uint8(h.kind())))
	}
	if n > t.types.size-t.next-typeHeader {
		return false, t.badType(t.next+4, fmt.Sprintf("at most %d bytes of what belongs to a type", t.types.size-t.next-typeHeader), fmt.Sprint(n))
	}
	if t.starts == nil { // a type has 25 bytes on average, and one of 6 such a name
		t.starts = make([]uint32, 0, t.types.size/24)
		t.named = make([]named, 0, t.types.size/128)
	}
	if h.name != 0 && nameable>>h.kind()&1 != 0 {
		t.named = append(t.named, named{h.name, t.first + ID(len(t.starts)), h.kind()})
	}
	t.starts = append(t.starts, t.next)
	t.next += typeHeader + n
	return true, nil
}

// Len is the number of types, with void and those of the base: the first number that no
// type has. All of them are walked over.
func (t *Types) Len(ctx context.Context) (ID, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for {
		more, err := t.step(ctx)
		if err != nil {
			return 0, err
		}
		if !more {
			return t.first + ID(len(t.starts)), nil
		}
	}
}

// Type gives the type of a number.
func (t *Types) Type(ctx context.Context, id ID) (Type, error) {
	if id == 0 {
		return Type{Name: "void", owner: t}, nil
	}
	if id < t.first {
		return t.base.Type(ctx, id)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for uint64(id-t.first) >= uint64(len(t.starts)) {
		more, err := t.step(ctx)
		if err != nil {
			return Type{}, err
		}
		if !more {
			return Type{}, fmt.Errorf("%s: type %d of %d: %w", t.name, id, t.first+ID(len(t.starts)), remora.ErrCorrupt)
		}
	}
	return t.decode(ctx, id)
}

// decode gives a type that was walked over.
func (t *Types) decode(ctx context.Context, id ID) (Type, error) {
	at := t.starts[id-t.first]
	b, _, err := t.types.at(ctx, at, typeHeader)
	if err != nil {
		return Type{}, err
	}
	h := head{t.order.Uint32(b), t.order.Uint32(b[4:]), t.order.Uint32(b[8:])}
	d := Type{ID: id, Kind: h.kind(), Count: h.count(), at: at + typeHeader, flag: h.flag(), owner: t}
	if d.Name, err = t.text(ctx, h.name); err != nil {
		return Type{}, err
	}
	n, _ := h.extra()
	more, _, err := t.types.at(ctx, d.at, n)
	if err != nil {
		return Type{}, err
	}
	switch d.Kind {
	case Int:
		d.Size = h.size
		v := t.order.Uint32(more)
		if d.Size == 0 || d.Size > 16 {
			return Type{}, t.badType(at+8, "an integer of 1 to 16 bytes", fmt.Sprint(d.Size))
		}
		d.Signed, d.Char, d.Bool = v>>24&1 != 0, v>>24&2 != 0, v>>24&4 != 0
		if bits, shift := v&0xff, v>>16&0xff; bits != 8*d.Size || shift != 0 {
			if bits == 0 || bits+shift > 8*d.Size {
				return Type{}, t.badType(d.at, fmt.Sprintf("bits within %d bytes", d.Size), fmt.Sprintf("%d from %d on", bits, shift))
			}
			d.Bits, d.Shift = uint8(bits), uint8(shift)
		}
	case Struct, Union, Float, Datasec:
		d.Size = h.size
	case Enum, Enum64:
		d.Size, d.Signed = h.size, d.flag
		if d.Size != 1 && d.Size != 2 && d.Size != 4 && d.Size != 8 {
			return Type{}, t.badType(at+8, "an enumeration of 1, 2, 4 or 8 bytes", fmt.Sprint(d.Size))
		}
	case Array:
		d.Ref, d.Count = ID(t.order.Uint32(more)), t.order.Uint32(more[8:])
	case Forward:
		d.Union = d.flag
	default:
		d.Ref = ID(h.size)
	}
	return d, nil
}

// text gives a string.
func (t *Types) text(ctx context.Context, off uint32) (string, error) {
	if off == 0 {
		return "", nil
	}
	if t.base != nil {
		if n := t.base.strings.size; off < n {
			t.base.mu.Lock()
			defer t.base.mu.Unlock()
			return t.base.text(ctx, off)
		} else {
			off -= n
		}
	}
	b, ok, err := t.strings.cstring(ctx, off)
	if err != nil {
		return "", err
	}
	if !ok {
		return "", t.bad(int64(t.strings.off)+int64(off), fmt.Sprintf("a string of at most %d bytes", maxName), "none")
	}
	return held(b), nil
}

// Named gives the types of a name and of one of the kinds, in their order: those of the
// base first. Of functions, variables and tags there are none.
func (t *Types) Named(ctx context.Context, name string, kinds ...Kind) iter.Seq2[Type, error] {
	return func(yield func(Type, error) bool) {
		if t.base != nil {
			for d, err := range t.base.Named(ctx, name, kinds...) {
				if !yield(d, err) || err != nil {
					return
				}
			}
		}
		var want [2]place
		if err := t.places(ctx, name, &want); err != nil {
			yield(Type{}, err)
			return
		}
		if !want[0].some && !want[1].some {
			return
		}
		for i := 0; ; {
			d, ok, err := t.from(ctx, &i, want, kinds)
			if err == nil && !ok {
				return
			}
			if !yield(d, err) || err != nil {
				return
			}
		}
	}
}

// places gives where a name is in the strings: by those that the types add, and by those
// of their base.
func (t *Types) places(ctx context.Context, name string, all *[2]place) (err error) {
	if name == "" || len(name) > maxName {
		return nil
	}
	shift := uint32(0)
	if t.base != nil {
		if all[1], err = t.base.placed(ctx, name); err != nil {
			return err
		}
		shift = t.base.strings.size
	}
	if all[0], err = t.placed(ctx, name); err != nil {
		return err
	}
	all[0].off += shift
	return nil
}

func (t *Types) placed(ctx context.Context, name string) (place, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p, ok := t.found[name]; ok {
		return p, nil
	}
	p, err := t.strings.find(ctx, []byte(name))
	if err == nil {
		t.found[name] = p
	}
	return p, err
}

// from gives the next type of a name, beginning with the i'th that has one.
func (t *Types) from(ctx context.Context, i *int, want [2]place, kinds []Kind) (Type, bool, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for {
		for ; *i < len(t.named); *i++ {
			n := t.named[*i]
			if (!want[0].some || n.name != want[0].off) && (!want[1].some || n.name != want[1].off) {
				continue
			}
			for _, k := range kinds {
				if k == n.kind {
					*i++
					d, err := t.decode(ctx, n.id)
					return d, true, err
				}
			}
		}
		if more, err := t.step(ctx); err != nil || !more {
			return Type{}, false, err
		}
	}
}
