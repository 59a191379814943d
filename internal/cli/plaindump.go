// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"io"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/scan"
)

// rawPrinter writes the bytes themselves. Without a fill byte it ends at the first
// hole: what came behind it would stand at the wrong place.
type rawPrinter struct {
	tick pulse
	w    io.Writer
	fill sizeFlag
}

func (p *rawPrinter) begin(int, remora.Range) error { return nil }
func (p *rawPrinter) end() error                    { return nil }

func (p *rawPrinter) bytes(_ remora.Addr, data []byte) error {
	_, err := p.w.Write(data)
	return err
}

func (p *rawPrinter) hole(h *scan.Piece) error {
	if !p.fill.set {
		return errEnough
	}
	chunk := bytes.Repeat([]byte{byte(p.fill.n)}, int(min(h.Size, 64<<10)))
	for left := h.Size; left > 0; {
		if err := p.tick.look(); err != nil {
			return err
		}
		n := min(left, uint64(len(chunk)))
		if _, err := p.w.Write(chunk[:n]); err != nil {
			return err
		}
		left -= n
	}
	return nil
}

// plainPrinter prints hexadecimal digits alone, ?? for what is missing. Each range
// begins on a line of its own.
type plainPrinter struct {
	tick pulse
	w    io.Writer
	cols int
	n    int // bytes in the current line
	out  []byte
}

func (p *plainPrinter) begin(int, remora.Range) error { return nil }

func (p *plainPrinter) bytes(_ remora.Addr, data []byte) error {
	for _, b := range data {
		if err := p.put(hexDigits[b>>4], hexDigits[b&15]); err != nil {
			return err
		}
	}
	return nil
}

func (p *plainPrinter) hole(h *scan.Piece) error {
	for range h.Size {
		if err := p.tick.look(); err != nil {
			return err
		}
		if err := p.put('?', '?'); err != nil {
			return err
		}
	}
	return nil
}

func (p *plainPrinter) put(hi, lo byte) error {
	p.out = append(p.out, hi, lo)
	if p.n++; p.n < p.cols {
		return nil
	}
	return p.end()
}

// end ends the line.
func (p *plainPrinter) end() error {
	if p.n == 0 {
		return nil
	}
	_, err := p.w.Write(append(p.out, '\n'))
	p.out, p.n = p.out[:0], 0
	return err
}
