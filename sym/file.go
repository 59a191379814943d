// SPDX-License-Identifier: Apache-2.0

package sym

import (
	"bufio"
	"context"
	"debug/elf"
	"fmt"
	"io"
	"iter"
	"os"

	"github.com/remora-go/remora"
)

// File is an open file with symbols: an ELF file with its tables, or a text as System.map
// or /proc/kallsyms. It is for one goroutine at a time.
type File struct {
	path  string
	f     io.ReaderAt
	elf   *elf.File // nil: a text
	close func() error
}

// Open opens a file, of whatever form it is.
func Open(path string) (*File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	s, err := newFile(f, path)
	if err != nil {
		f.Close()
		return nil, err
	}
	s.close = f.Close
	return s, nil
}

func newFile(f io.ReaderAt, path string) (*File, error) {
	s := &File{path: path, f: f}
	var magic [len(elf.ELFMAG)]byte
	n, err := f.ReadAt(magic[:], 0)
	switch {
	case err != nil && err != io.EOF:
		return nil, fmt.Errorf("%s: %w", path, err)
	case string(magic[:n]) != elf.ELFMAG:
		return s, nil
	}
	if s.elf, err = elf.NewFile(f); err != nil {
		return nil, s.bad(0, "an ELF file with sections", err.Error())
	}
	return s, nil
}

// Close closes the file.
func (s *File) Close() error { return s.close() }

// ELF says whether the file is an ELF file.
func (s *File) ELF() bool { return s.elf != nil }

func (s *File) bad(off int64, want, got string) error {
	return &remora.FormatError{File: s.path, Offset: off, Want: want, Got: got, Err: remora.ErrUnrecognized}
}

// All gives the symbols in the order of the file.
func (s *File) All() iter.Seq2[Symbol, error] {
	return func(yield func(Symbol, error) bool) {
		if s.elf != nil {
			s.ofELF(yield)
			return
		}
		s.ofText(bufio.NewReaderSize(io.NewSectionReader(s.f, 0, 1<<62), 64<<10), yield)
	}
}

// Table reads all symbols.
func (s *File) Table(ctx context.Context) (*Table, error) {
	var b Builder
	n := 0
	for one, err := range s.All() {
		if err == nil && n%1024 == 0 {
			err = ctx.Err()
		}
		if err == nil {
			err = b.Add(one)
		}
		if err != nil {
			return nil, err
		}
		n++
	}
	if n == 0 {
		return nil, s.bad(0, "symbols", "none")
	}
	return b.Table(), nil
}
