// SPDX-License-Identifier: Apache-2.0

package btf

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/remora-go/remora"
)

// Datum is something of a type in memory.
type Datum struct {
	Name string // of a member
	Decl string // the type, as C writes it
	Addr remora.Addr
	Size uint64
	Bits uint8 // of a bit field

	// Text is an integer in decimal, the name of an enumeration's value, an address as
	// "0x...", or, where Quoted is set, the characters of an array of them up to the first
	// zero, which may be any bytes.
	Text   string
	Quoted bool
	N      uint64 // the bits, of what is a number
	Number string // which in decimal is
	Ptr    bool   // it is an address

	Group   bool    // a structure, union or array, of
	Members []Datum // which of arrays are the first ones
	More    uint64  // and so many are left out

	Err error // why it could not be read; that of a group is in its members
}

// DatumOptions say how much of a value is read. Nil is the same as the zero DatumOptions.
type DatumOptions struct {
	Elements int // of an array, at most; 0: 16
	Depth    int // of structures within one another, at most; 0: 8
}

const (
	maxDatum = 16 << 20
	maxData  = 1 << 16
	maxText  = 4096
)

// Read reads what is in memory at a, of a type: the member m of Find, whose Bit counts from
// a, or a whole type as Member{Type: id}. A part that cannot be read says so by itself; the
// error is about the types.
func (t *Types) Read(ctx context.Context, mem *remora.Memory, a remora.Addr, m Member, o *DatumOptions) (*Datum, error) {
	if o == nil {
		o = &DatumOptions{}
	}
	r := datumReader{ctx: ctx, mem: mem, in: t, elements: o.Elements, depth: o.Depth}
	if r.elements <= 0 {
		r.elements = 16
	}
	if r.depth <= 0 {
		r.depth = 8
	}
	size, err := t.SizeOf(ctx, m.Type)
	if err != nil {
		return nil, err
	}
	if size > maxDatum {
		return nil, fmt.Errorf("%s has %d bytes, of which at most %d are read: %w", m.Name, size, maxDatum, remora.ErrCorrupt)
	}
	r.load(a+remora.Addr(m.Bit/8), size)
	v, err := r.value(a, m, 0)
	return &v, err
}

// datumReader reads one value.
type datumReader struct {
	ctx             context.Context
	mem             *remora.Memory
	in              *Types
	elements, depth int
	count           int

	at   remora.Addr
	data []byte
	lost []remora.Range // that could not be read
}

// load reads all of the value, page by page: what is missing of one does not keep the
// others from being read.
func (r *datumReader) load(a remora.Addr, size uint64) {
	page := uint64(max(r.mem.Info().Granule, 512))
	r.at, r.data = a, make([]byte, size)
	var segs []remora.Seg
	for off := uint64(0); off < size; {
		n := min(page-uint64(a+remora.Addr(off))%page, size-off)
		segs = append(segs, remora.Seg{Addr: a + remora.Addr(off), Buf: r.data[off : off+n]})
		off += n
	}
	_, _ = r.mem.ReadV(r.ctx, segs) // it is in the segments
	for _, s := range segs {
		if s.Err != nil {
			r.lost = append(r.lost, remora.Range{Start: s.Addr + remora.Addr(s.N), Size: uint64(len(s.Buf) - s.N)})
		}
	}
}

// bytes gives the bytes at an address, or why there are none.
func (r *datumReader) bytes(a remora.Addr, n uint64) ([]byte, error) {
	off := uint64(a - r.at)
	within := off <= uint64(len(r.data)) && n <= uint64(len(r.data))-off
	for _, lost := range r.lost {
		if lost.Intersect(remora.Range{Start: a, Size: n}).Size != 0 {
			within = false
		}
	}
	if within {
		return r.data[off : off+n], nil
	}
	b := make([]byte, n)
	got, err := r.mem.ReadAt(r.ctx, b, a)
	return b[:got], err
}

// value reads a member of what begins at an address.
func (r *datumReader) value(base remora.Addr, m Member, depth int) (v Datum, err error) {
	if err := r.ctx.Err(); err != nil {
		return v, err
	}
	v.Name = m.Name
	if v.Decl, err = r.in.Decl(r.ctx, m.Type, ""); err != nil {
		return v, err
	}
	d, err := r.in.Plain(r.ctx, m.Type)
	if err != nil {
		return v, err
	}
	if v.Size, err = r.in.SizeOf(r.ctx, m.Type); err != nil {
		return v, err
	}
	v.Addr = base + remora.Addr(m.Bit/8)
	if r.count++; r.count > maxData {
		return v, fmt.Errorf("%s has more than %d values: %w", r.in.Name(), maxData, remora.ErrCorrupt)
	}
	switch d.Kind {
	case Struct, Union:
		err = r.group(&v, d, depth)
	case Array:
		err = r.array(&v, d, depth)
	case Int, Enum, Enum64, Pointer, Float:
		err = r.scalar(&v, base, m, d)
	default:
		v.Text = "?" // void, or a function
	}
	return v, err
}

// group reads the members of a structure.
func (r *datumReader) group(v *Datum, d Type, depth int) error {
	v.Group = true
	all, err := r.in.Members(r.ctx, d)
	if err != nil {
		return err
	}
	if depth >= r.depth {
		v.More = uint64(len(all))
		return nil
	}
	for _, m := range all {
		in, err := r.value(v.Addr, m, depth+1)
		if err != nil {
			return err
		}
		v.Members = append(v.Members, in)
	}
	return nil
}

// array reads the elements of one.
func (r *datumReader) array(v *Datum, d Type, depth int) error {
	e, err := r.in.Plain(r.ctx, d.Ref)
	if err != nil {
		return err
	}
	if direct, err := r.in.Decl(r.ctx, d.Ref, ""); err == nil && isChar(e, direct) {
		b, err := r.bytes(v.Addr, min(v.Size, maxText))
		v.Err = err
		text, _, _ := bytes.Cut(b, []byte{0})
		v.Text, v.Quoted = string(text), true
		return nil
	}
	v.Group = true
	size, err := r.in.SizeOf(r.ctx, d.Ref)
	if err != nil {
		return err
	}
	n := uint64(d.Count)
	if shown := min(n, uint64(r.elements), uint64(max(maxData/2-r.count, 0))); depth >= r.depth {
		v.More = n
	} else {
		v.More = n - shown
		for i := range shown {
			in, err := r.value(v.Addr+remora.Addr(i*size), Member{Type: d.Ref}, depth+1)
			if err != nil {
				return err
			}
			v.Members = append(v.Members, in)
		}
	}
	return nil
}

// isChar says whether an array of such elements is text: of char, and not of u8 and the
// like.
func isChar(d Type, decl string) bool {
	decl = strings.TrimPrefix(strings.TrimPrefix(decl, "const "), "volatile ")
	return d.Kind == Int && d.Size == 1 && (d.Char || decl == "char")
}

// scalar reads a number.
func (r *datumReader) scalar(v *Datum, base remora.Addr, m Member, d Type) error {
	shift, bits := uint8(0), max(m.Bits, d.Bits)
	if bits != 0 {
		off, n, first, err := Unit(Member{Name: m.Name, Bit: m.Bit % 64, Bits: m.Bits}, d, v.Size)
		if err != nil {
			return err
		}
		v.Addr, v.Size, v.Bits, shift = base+remora.Addr(m.Bit/64*8+off), n, bits, first
	}
	if v.Size > 8 {
		v.Text = fmt.Sprintf("? (%d bytes)", v.Size)
		return nil
	}
	b, err := r.bytes(v.Addr, v.Size)
	if v.Err = err; err != nil {
		return nil
	}
	v.N = Integer(b, r.in.order, shift, bits, d.Signed)
	switch {
	case d.Kind == Pointer:
		v.Ptr, v.Text = true, remora.Addr(v.N).String()
	case d.Kind == Enum || d.Kind == Enum64:
		return r.enumerated(v, d)
	case d.Kind == Float && v.Size == 4:
		v.Text = strconv.FormatFloat(float64(math.Float32frombits(uint32(v.N))), 'g', -1, 32)
	case d.Kind == Float:
		v.Text = strconv.FormatFloat(math.Float64frombits(v.N), 'g', -1, 64)
	case d.Bool && v.N < 2:
		v.Text = strconv.FormatBool(v.N == 1)
	default:
		v.Number = decimal(v.N, d.Signed)
		v.Text = v.Number
	}
	return nil
}

// enumerated names a value of an enumeration.
func (r *datumReader) enumerated(v *Datum, d Type) error {
	all, err := r.in.Values(r.ctx, d)
	if err != nil {
		return err
	}
	mask := ^uint64(0)
	if v.Bits != 0 {
		mask = 1<<v.Bits - 1
	}
	v.Number = decimal(v.N, d.Signed)
	v.Text = v.Number
	for _, e := range all {
		if e.N&mask == v.N&mask {
			v.Text = e.Name
			break
		}
	}
	return nil
}

func decimal(n uint64, signed bool) string {
	if signed {
		return strconv.FormatInt(int64(n), 10)
	}
	return strconv.FormatUint(n, 10)
}

// Integer decodes the bytes of an integer, or of the unit of a bit field, which has bits
// from shift on: see Unit. A signed one is extended.
func Integer(b []byte, order binary.ByteOrder, shift, bits uint8, signed bool) uint64 {
	var v uint64
	big := order == binary.ByteOrder(binary.BigEndian)
	for i := range min(len(b), 8) {
		k := i
		if big {
			k = len(b) - 1 - i
		}
		v |= uint64(b[k]) << (8 * i)
	}
	width := 8 * uint(len(b))
	if bits != 0 {
		v >>= shift
		width = uint(bits)
	}
	if width == 0 || width >= 64 {
		return v
	}
	v &= 1<<width - 1
	if signed && v>>(width-1) != 0 {
		v |= ^uint64(0) << width
	}
	return v
}
