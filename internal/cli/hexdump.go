// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"io"
	"slices"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/scan"
)

const (
	hexDigits = "0123456789abcdef"
	colorHole = "\x1b[31m" // red
	colorZero = "\x1b[2m"  // dim
	colorOff  = "\x1b[0m"
)

// dumper prints the layout of hexdump -C with the addresses of the target.
type dumper struct {
	tick  pulse
	w     io.Writer
	cols  int
	group int
	all   bool // no folding
	color bool

	started bool        // something was printed
	at      remora.Addr // of the line that is being filled
	line    []byte      // its bytes; what line[i] is worth is told by gone[i]
	gone    []bool      // unreadable
	lastB   []byte      // the line printed before, for folding
	lastG   []bool
	folded  bool // a * stands for lines since
	out     []byte
}

func (d *dumper) begin(_ int, r remora.Range) error {
	gap := d.started && r.Start != d.at
	d.at, d.line, d.gone, d.lastB, d.lastG, d.folded = r.Start, d.line[:0], d.gone[:0], d.lastB[:0], d.lastG[:0], false
	if gap {
		_, err := io.WriteString(d.w, "\n")
		return err
	}
	return nil
}

func (d *dumper) bytes(_ remora.Addr, data []byte) error {
	for len(data) > 0 {
		n := min(len(data), d.cols-len(d.line))
		d.line = append(d.line, data[:n]...)
		for range n {
			d.gone = append(d.gone, false)
		}
		data = data[n:]
		if err := d.full(); err != nil {
			return err
		}
	}
	return nil
}

func (d *dumper) hole(p *scan.Piece) error {
	if p.Past {
		return nil // it has no addresses to print
	}
	for left := p.Size; left > 0; {
		if len(d.line) == 0 && !d.all && d.lastIsHole() && left >= uint64(d.cols) {
			lines := left / uint64(d.cols)
			left -= lines * uint64(d.cols)
			if err := d.fold(); err != nil {
				return err
			}
			d.at += remora.Addr(lines * uint64(d.cols))
			continue
		}
		n := min(left, uint64(d.cols-len(d.line)))
		for range n {
			d.line, d.gone = append(d.line, 0), append(d.gone, true)
		}
		left -= n
		if err := d.tick.look(); err != nil {
			return err
		}
		if err := d.full(); err != nil {
			return err
		}
	}
	return nil
}

// lastIsHole says whether the line printed before is full of unreadable bytes.
func (d *dumper) lastIsHole() bool {
	for _, g := range d.lastG {
		if !g {
			return false
		}
	}
	return len(d.lastG) == d.cols
}

// full prints the line if it is full.
func (d *dumper) full() error {
	if len(d.line) < d.cols {
		return nil
	}
	return d.put()
}

// put prints the line, or folds it.
func (d *dumper) put() error {
	if !d.all && len(d.line) == d.cols && bytes.Equal(d.line, d.lastB) && slices.Equal(d.gone, d.lastG) {
		err := d.fold()
		d.next()
		return err
	}
	d.folded, d.started = false, true
	d.render()
	_, err := d.w.Write(d.out)
	d.lastB, d.line = d.line, d.lastB
	d.lastG, d.gone = d.gone, d.lastG
	d.at += remora.Addr(len(d.lastB))
	d.line, d.gone = d.line[:0], d.gone[:0]
	return err
}

func (d *dumper) next() {
	d.at += remora.Addr(len(d.line))
	d.line, d.gone = d.line[:0], d.gone[:0]
}

func (d *dumper) fold() error {
	if d.folded {
		return nil
	}
	d.folded = true
	_, err := io.WriteString(d.w, "*\n")
	return err
}

// end prints what is left, and the address behind the range.
func (d *dumper) end() error {
	if len(d.line) > 0 {
		if err := d.put(); err != nil {
			return err
		}
	}
	if len(d.lastB) == 0 {
		return nil // an empty range
	}
	_, err := d.w.Write(append(appendAddr(d.out[:0], d.at), '\n'))
	return err
}

// render puts the line into out: address, bytes in groups, and characters.
func (d *dumper) render() {
	out := appendAddr(d.out[:0], d.at)
	out = append(out, ' ')
	for i := range d.cols {
		if i%d.group == 0 {
			out = append(out, ' ')
		}
		if i > 0 && i%8 == 0 && 8%d.group == 0 {
			out = append(out, ' ')
		}
		if i >= len(d.line) {
			out = append(out, "  "...)
			continue
		}
		out = d.appendByte(out, i)
	}
	out = append(out, "  |"...)
	for i, b := range d.line {
		switch {
		case d.gone[i]:
			out = append(out, ' ')
		case b >= 0x20 && b < 0x7f:
			out = append(out, b)
		default:
			out = append(out, '.')
		}
	}
	d.out = append(out, "|\n"...)
}

func (d *dumper) appendByte(out []byte, i int) []byte {
	b := d.line[i]
	color := ""
	switch {
	case !d.color:
	case d.gone[i]:
		color = colorHole
	case b == 0:
		color = colorZero
	}
	out = append(out, color...)
	if d.gone[i] {
		out = append(out, "??"...)
	} else {
		out = append(out, hexDigits[b>>4], hexDigits[b&15])
	}
	if color != "" {
		out = append(out, colorOff...)
	}
	return out
}

// appendAddr writes an address in 16 digits.
func appendAddr(out []byte, a remora.Addr) []byte {
	for shift := 60; shift >= 0; shift -= 4 {
		out = append(out, hexDigits[a>>shift&15])
	}
	return out
}
