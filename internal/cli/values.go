// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/scan"
)

// kind is a type of value that --as knows.
type kind struct {
	name  string
	width int // in bytes; 0: of a pointer; -1: text
	show  func(raw uint64) string
}

func kinds() []kind {
	signed := func(bits int) func(uint64) string {
		return func(raw uint64) string { return strconv.FormatInt(int64(raw<<(64-bits))>>(64-bits), 10) }
	}
	unsigned := func(raw uint64) string { return strconv.FormatUint(raw, 10) }
	single := func(raw uint64) string {
		return strconv.FormatFloat(float64(math.Float32frombits(uint32(raw))), 'g', -1, 32)
	}
	double := func(raw uint64) string { return strconv.FormatFloat(math.Float64frombits(raw), 'g', -1, 64) }
	list := []kind{
		{name: "f32", width: 4, show: single},
		{name: "f64", width: 8, show: double},
		{name: "ptr", width: 0, show: func(raw uint64) string { return remora.Addr(raw).String() }},
		{name: "str", width: -1},
	}
	for width := 1; width <= 8; width *= 2 {
		bits := strconv.Itoa(8 * width)
		list = append(list, kind{name: "u" + bits, width: width, show: unsigned},
			kind{name: "i" + bits, width: width, show: signed(8 * width)})
	}
	return list
}

// typeFlag is --as.
type typeFlag struct{ kind *kind }

func (f *typeFlag) Type() string { return "type" }
func (f *typeFlag) String() string {
	if f.kind == nil {
		return ""
	}
	return f.kind.name
}
func (f *typeFlag) Set(s string) error {
	for _, k := range kinds() {
		if k.name == s {
			f.kind = &k
			return nil
		}
	}
	return fmt.Errorf("want one of u8, u16, u32, u64, i8, i16, i32, i64, f32, f64, ptr, str")
}

// longString is how far the end of a text is looked for.
const longString = 4096

// bytes is how much is read where a range gives no length.
func (k *kind) bytes(info remora.Info) uint64 {
	switch k.width {
	case 0:
		return uint64(info.PtrSize)
	case -1:
		return longString
	}
	return uint64(k.width)
}

// fits says whether the ranges hold whole values.
func (k *kind) fits(info remora.Info, ranges []remora.Range) error {
	width := k.bytes(info)
	if width == 0 {
		return fmt.Errorf("%s: the size of a pointer is not known", info.Name)
	}
	for _, r := range ranges {
		if k.width >= 0 && r.Size%width != 0 {
			return usagef("%v: %d bytes are not a whole number of %s, which have %d", r, r.Size, k.name, width)
		}
	}
	return nil
}

// value is one value, or what is missing instead.
type value struct {
	addr    remora.Addr
	kind    *kind
	shown   string
	raw     string // of a text: as it is
	cut     bool   // a text without its end
	missing error
}

func (v value) print(w io.Writer, plain bool) error {
	s := v.shown
	switch {
	case v.missing != nil && s == "":
		s = "??"
	case v.missing != nil:
		s += "??"
	case v.cut:
		s += "..."
	}
	if !plain {
		s = v.addr.String() + "  " + s
	}
	_, err := io.WriteString(w, s+"\n")
	return err
}

// object is the value for --json.
func (v value) object() any {
	o := struct {
		Address string `json:"address"`
		Type    string `json:"type"`
		Value   any    `json:"value"`
		Cut     bool   `json:"cut,omitempty"`
		Missing string `json:"missing,omitempty"`
	}{Address: v.addr.String(), Type: v.kind.name, Cut: v.cut}
	if v.missing != nil {
		o.Missing = v.missing.Error()
	}
	switch {
	case v.kind.width < 0:
		o.Value = v.raw
	case v.shown == "":
	case v.kind.width > 0 && strings.Trim(v.shown, "-+.e0123456789") == "":
		o.Value = number(v.shown)
	default:
		o.Value = v.shown
	}
	return o
}

// number is a number of JSON, written as it is.
type number string

// MarshalJSON gives the digits.
func (n number) MarshalJSON() ([]byte, error) { return []byte(n), nil }

// valuePrinter makes values out of pieces.
type valuePrinter struct {
	kind *kind
	info remora.Info
	emit func(value) error
	tick pulse

	at   remora.Addr // of the value that is being gathered
	have []byte
	bad  error // part of it is missing
	lost int   // so many bytes of it
	full bool  // a text that has ended
}

func (p *valuePrinter) begin(_ int, r remora.Range) error {
	p.at, p.have, p.bad, p.lost, p.full = r.Start, p.have[:0], nil, 0, false
	return nil
}

// lacks says whether a hole matters: behind the end of a text it does not.
func (p *valuePrinter) lacks(*scan.Piece) bool { return !p.full }

func (p *valuePrinter) bytes(_ remora.Addr, data []byte) error {
	if p.kind.width < 0 {
		return p.textBytes(data)
	}
	width := int(p.kind.bytes(p.info))
	for len(data) > 0 {
		n := min(len(data), width-len(p.have)-p.lost)
		p.have = append(p.have, data[:n]...)
		data = data[n:]
		if err := p.whole(width); err != nil {
			return err
		}
	}
	return nil
}

func (p *valuePrinter) hole(h *scan.Piece) error {
	if p.kind.width < 0 {
		if p.full || p.bad != nil {
			return nil
		}
		p.bad = h.Err
		return p.emitText()
	}
	width := p.kind.bytes(p.info)
	for left := h.Size; left > 0; {
		n := min(left, width-uint64(len(p.have)+p.lost))
		p.lost += int(n)
		p.bad = h.Err
		left -= n
		if err := p.tick.look(); err != nil {
			return err
		}
		if err := p.whole(int(width)); err != nil {
			return err
		}
	}
	return nil
}

// whole gives the value once all of it came, or is known to be missing.
func (p *valuePrinter) whole(width int) error {
	if len(p.have)+p.lost < width {
		return nil
	}
	v := value{addr: p.at, kind: p.kind, missing: p.bad}
	if p.bad == nil {
		v.shown = p.kind.show(word(p.have, p.info.BigEndian))
	}
	p.at += remora.Addr(width)
	p.have, p.bad, p.lost = p.have[:0], nil, 0
	return p.emit(v)
}

func word(b []byte, big bool) uint64 {
	var w [8]byte
	if big {
		copy(w[8-len(b):], b)
		return binary.BigEndian.Uint64(w[:])
	}
	copy(w[:], b)
	return binary.LittleEndian.Uint64(w[:])
}

func (p *valuePrinter) textBytes(data []byte) error {
	if p.full || p.bad != nil {
		return nil
	}
	end := bytes.IndexByte(data, 0)
	if end < 0 {
		p.have = append(p.have, data...)
		return nil
	}
	p.have = append(p.have, data[:end]...)
	p.full = true
	return p.emitText()
}

func (p *valuePrinter) emitText() error {
	text := string(p.have)
	return p.emit(value{addr: p.at, kind: p.kind, shown: strconv.Quote(text), raw: text, cut: !p.full && p.bad == nil, missing: p.bad})
}

// end gives a text whose end did not come.
func (p *valuePrinter) end() error {
	if p.kind.width < 0 && !p.full && p.bad == nil && len(p.have) > 0 {
		return p.emitText()
	}
	return nil
}
