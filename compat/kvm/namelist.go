// SPDX-License-Identifier: Apache-2.0

package kvm

import (
	"bufio"
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"strconv"

	"github.com/remora-go/remora"
)

// namelist is a file with symbols. It is read anew for each look-up, as nlist(3ELF)
// does: nothing of it is kept.
type namelist struct{ path string }

// symbol is one line of a namelist.
type symbol struct {
	name   string
	addr   remora.Addr
	size   uint64
	letter byte // of nm(1); small for a local one
	module bool // of a module, not of the kernel itself
}

// rank orders symbols of one name: the larger one is taken.
func (s *symbol) rank() int {
	switch {
	case s.module:
		return 1
	case s.letter >= 'a':
		return 2
	}
	return 3
}

// openNamelist makes sure that path has symbols.
func openNamelist(path string) (*namelist, error) {
	n := &namelist{path}
	for _, err := range n.all() {
		if err != nil {
			return nil, err
		}
		return n, nil
	}
	return nil, n.bad(0, "symbols", "none")
}

func (n *namelist) bad(off int64, want, got string) error {
	return &remora.FormatError{File: n.path, Offset: off, Want: want, Got: got, Err: remora.ErrUnrecognized}
}

// find looks up the names of list.
func (n *namelist) find(ctx context.Context, list []Nlist) error {
	ranks := make([]int, len(list))
	wanted := map[string][]int{}
	for i := range list {
		wanted[list[i].Name] = append(wanted[list[i].Name], i)
	}
	count, hidden := 0, true
	for s, err := range n.all() {
		if err != nil {
			return err
		}
		if count++; count%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		hidden = hidden && s.addr == 0
		for _, i := range wanted[s.name] {
			if r := s.rank(); r > ranks[i] {
				ranks[i] = r
				list[i].Value, list[i].Size, list[i].Type = s.addr, s.size, s.letter
			}
		}
	}
	switch {
	case count == 0:
		return n.bad(0, "symbols", "none")
	case hidden:
		return fmt.Errorf("%s: every address is 0: the kernel hides them from this process (kernel.kptr_restrict, CAP_SYSLOG): %w",
			n.path, os.ErrPermission)
	}
	return nil
}

// all gives the symbols of the file, which is an ELF file or a text.
func (n *namelist) all() iter.Seq2[symbol, error] {
	return func(yield func(symbol, error) bool) {
		f, err := os.Open(n.path)
		if err != nil {
			yield(symbol{}, err)
			return
		}
		defer f.Close()
		r := bufio.NewReader(f)
		magic, err := r.Peek(len(elf.ELFMAG))
		switch {
		case err != nil && err != io.EOF:
			yield(symbol{}, fmt.Errorf("%s: %w", n.path, err))
		case string(magic) == elf.ELFMAG:
			n.ofELF(f, yield)
		default:
			n.ofText(r, yield)
		}
	}
}

// maxLine is more than a line can have: names end after 512 bytes (KSYM_NAME_LEN).
const maxLine = 4096

// ofText gives the symbols of a System.map or of /proc/kallsyms.
func (n *namelist) ofText(r io.Reader, yield func(symbol, error) bool) {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, maxLine), maxLine)
	off := int64(0)
	for lines.Scan() {
		line := lines.Bytes()
		s, ok := parseSymbol(line)
		if !ok {
			yield(symbol{}, n.bad(off, "an address, a letter and a name", strconv.Quote(string(line[:min(len(line), 40)]))))
			return
		}
		off += int64(len(line)) + 1
		if !yield(s, nil) {
			return
		}
	}
	if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
		yield(symbol{}, n.bad(off, "a line of a symbol table", "one of more than 4096 bytes"))
	} else if err != nil {
		yield(symbol{}, fmt.Errorf("%s: %w", n.path, err))
	}
}

// parseSymbol takes a line apart: "ffffffff81000000 T _text", and in /proc/kallsyms a
// tab and "[module]" behind it.
func parseSymbol(line []byte) (symbol, bool) {
	hex, rest, _ := bytes.Cut(line, []byte{' '})
	addr, err := strconv.ParseUint(string(hex), 16, 64)
	if err != nil || len(rest) < 3 || rest[1] != ' ' || !isLetter(rest[0]) {
		return symbol{}, false
	}
	name, module, _ := bytes.Cut(rest[2:], []byte{'\t'})
	if len(name) == 0 {
		return symbol{}, false
	}
	return symbol{name: string(name), addr: remora.Addr(addr), letter: rest[0], module: len(module) > 0}, true
}

func isLetter(c byte) bool { return c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c == '?' }

// ofELF gives the symbols that an ELF file defines.
func (n *namelist) ofELF(r io.ReaderAt, yield func(symbol, error) bool) {
	f, err := elf.NewFile(r)
	if err != nil {
		yield(symbol{}, n.bad(0, "an ELF file with sections", err.Error()))
		return
	}
	list, err := f.Symbols()
	if errors.Is(err, elf.ErrNoSymbols) {
		list, err = f.DynamicSymbols()
	}
	if err != nil {
		yield(symbol{}, n.bad(0, "an ELF symbol table", err.Error()))
		return
	}
	for i := range list {
		s := &list[i]
		kind := elf.ST_TYPE(s.Info)
		if s.Name == "" || s.Section == elf.SHN_UNDEF || kind == elf.STT_FILE || kind == elf.STT_SECTION {
			continue
		}
		if !yield(symbol{name: s.Name, addr: remora.Addr(s.Value), size: s.Size, letter: letter(f, s)}, nil) {
			return
		}
	}
}

// letter gives the letter that nm(1) shows.
func letter(f *elf.File, s *elf.Symbol) byte {
	c := byte('?')
	switch {
	case s.Section == elf.SHN_ABS:
		c = 'A'
	case s.Section == elf.SHN_COMMON:
		c = 'C'
	case int(s.Section) < len(f.Sections):
		switch sec := f.Sections[s.Section]; {
		case sec.Flags&elf.SHF_EXECINSTR != 0:
			c = 'T'
		case sec.Flags&elf.SHF_ALLOC == 0:
			c = 'N'
		case sec.Flags&elf.SHF_WRITE == 0:
			c = 'R'
		case sec.Type == elf.SHT_NOBITS:
			c = 'B'
		default:
			c = 'D'
		}
	}
	switch bind := elf.ST_BIND(s.Info); {
	case bind == elf.STB_WEAK:
		return 'W'
	case bind == elf.STB_LOCAL && c != '?':
		return c + 'a' - 'A'
	}
	return c
}
