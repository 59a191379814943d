// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/kernel"
	"github.com/remora-go/remora/sym"
	"github.com/remora-go/remora/target"
)

// symbolList is the Result of sym: it looks up while it prints.
type symbolList struct {
	ctx     context.Context
	kernel  *target.Kernel
	symbols *kernel.Symbols
	args    []string
}

var _ Streamer = (*symbolList)(nil)

// Close closes the image.
func (l *symbolList) Close() error { return l.kernel.Close() }

// symbolRow is one symbol, or one address in it, for --json.
type symbolRow struct {
	Address string `json:"address"`
	Type    string `json:"type"`
	Name    string `json:"name"`
	Offset  uint64 `json:"offset,omitempty"` // of the address from the symbol
	Size    uint64 `json:"size,omitempty"`   // 0: not known
	Module  string `json:"module,omitempty"`
}

// Lines gives an object for each symbol.
func (l *symbolList) Lines(emit func(any) error) error {
	return l.each(func(s sym.Symbol, off uint64) error {
		return emit(symbolRow{(s.Addr + remora.Addr(off)).String(), string(s.Type), s.Name, off, s.Size, s.Module})
	})
}

// Text prints the lines of /proc/kallsyms.
func (l *symbolList) Text(out io.Writer) error {
	line := make([]byte, 0, 256)
	return l.each(func(s sym.Symbol, off uint64) error {
		line = appendHex(line[:0], uint64(s.Addr)+off)
		line = append(line, ' ', s.Type, ' ')
		line = append(line, harmless(s.Name)...)
		if off != 0 {
			line = strconv.AppendUint(append(line, "+0x"...), off, 16)
		}
		if s.Module != "" {
			line = append(append(append(line, "\t["...), harmless(s.Module)...), ']')
		}
		_, err := out.Write(append(line, '\n'))
		return err
	})
}

// appendHex writes 16 digits.
func appendHex(b []byte, n uint64) []byte {
	for shift := 60; shift >= 0; shift -= 4 {
		b = append(b, "0123456789abcdef"[n>>shift&0xf])
	}
	return b
}

// each finds what was asked for, or everything. The error names what was not found.
func (l *symbolList) each(show func(s sym.Symbol, off uint64) error) error {
	if len(l.args) == 0 {
		return l.all(show)
	}
	var absent []error
	for _, arg := range l.args {
		found, off, err := l.find(arg)
		switch {
		case l.ctx.Err() != nil:
			return context.Cause(l.ctx)
		case err != nil:
			absent = append(absent, err)
		}
		for _, s := range found {
			if err := show(s, off); err != nil {
				return err
			}
		}
	}
	return errors.Join(absent...)
}

// all shows every symbol. What of modules cannot be read does not keep the others away.
func (l *symbolList) all(show func(s sym.Symbol, off uint64) error) error {
	n := 0
	for s, err := range l.symbols.All(l.ctx) {
		switch {
		case l.ctx.Err() != nil:
			return context.Cause(l.ctx)
		case err != nil:
			return err
		}
		if n++; n%4096 == 0 && l.ctx.Err() != nil {
			return context.Cause(l.ctx)
		}
		if err := show(s, 0); err != nil {
			return err
		}
	}
	return nil
}

// find looks one argument up: an address, a name, or a name and an offset.
func (l *symbolList) find(arg string) (found []sym.Symbol, off uint64, err error) {
	if arg != "" && arg[0] >= '0' && arg[0] <= '9' {
		n, err := parseNumber(arg)
		if err != nil {
			return nil, 0, err
		}
		s, err := l.symbols.At(l.ctx, remora.Addr(n))
		if err != nil {
			return nil, 0, err
		}
		return []sym.Symbol{s}, n - uint64(s.Addr), nil
	}
	if found, err = l.symbols.Lookup(l.ctx, arg); len(found) > 0 {
		return found, 0, err
	}
	if at := strings.LastIndexByte(arg, '+'); at > 0 {
		off, bad := parseNumber(arg[at+1:])
		if bad != nil {
			return nil, 0, bad
		}
		if found, err = l.symbols.Lookup(l.ctx, arg[:at]); len(found) > 0 {
			return found, off, err
		}
	}
	if err != nil {
		return nil, 0, fmt.Errorf("%q was not found: %w", arg, err)
	}
	why := ""
	if isHex(arg) {
		why = fmt.Sprintf("; is 0x%s meant?", arg)
	}
	return nil, 0, fmt.Errorf("%q: no symbol of that name%s", arg, why)
}
