// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"strings"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/sym"
)

// symbolFile is a file with the symbols of a kernel, that must turn out to be this one.
type symbolFile struct {
	k     *Kernel
	found *Found
	path  string
	f     *sym.File
	names *sym.Table
	slide uint64 // that the kernel was moved by since it was linked
}

// fileTable is a table as a symbolSource.
type fileTable struct{ names *sym.Table }

func (t fileTable) table(context.Context) (*sym.Table, error) { return t.names, nil }
func (t fileTable) at(_ context.Context, a remora.Addr) (sym.Symbol, bool, error) {
	s, ok := t.names.At(a)
	return s, ok, nil
}
func (t fileTable) lookup(_ context.Context, name string) ([]sym.Symbol, error) {
	return t.names.Lookup(name), nil
}

// MismatchError says that a file with symbols is not of the kernel in the image. It Is
// remora.ErrUnrecognized.
type MismatchError struct {
	File   string
	Why    string
	ID     string // the build id of the file, where it is about that
	Kernel string // and that of the kernel
}

func (e *MismatchError) Error() string {
	if e.ID != "" {
		return fmt.Sprintf("%s is of another kernel: its build id is %s, and that of the kernel %s", e.File, e.ID, e.Kernel)
	}
	return fmt.Sprintf("%s is of another kernel, or of another boot: %s", e.File, e.Why)
}

// Unwrap gives the cause.
func (e *MismatchError) Unwrap() error { return remora.ErrUnrecognized }

// symbolsOfFile reads the symbols of the file that the hints name. It gives nil if they
// name none.
func (k *Kernel) symbolsOfFile(ctx context.Context, found *Found) (*Symbols, error) {
	for _, path := range []string{k.hints.VMLinux, k.hints.SystemMap, k.hints.Kallsyms} {
		if path == "" {
			continue
		}
		f, err := sym.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		if path == k.hints.VMLinux && !f.ELF() {
			return nil, &remora.FormatError{File: path, Want: "an ELF file", Got: "another one", Err: remora.ErrUnrecognized}
		}
		s := &symbolFile{k: k, found: found, path: path, f: f}
		if s.names, err = f.Table(ctx); err != nil {
			return nil, err
		}
		if err := s.place(); err != nil {
			return nil, err
		}
		return s.symbols(), s.verify(ctx)
	}
	return nil, nil
}

// symbols splits the kernel's symbols from those of modules. These hold where the file
// was written while this kernel ran.
func (s *symbolFile) symbols() *Symbols {
	var own, modules sym.Builder
	for one := range s.names.All() {
		if one.Module == "" {
			_ = own.Add(one) // it was in a table before
		} else if s.slide == 0 {
			_ = modules.Add(one)
		}
	}
	out := s.k.newSymbols(s.path, fileTable{own.Table()})
	if t := modules.Table(); t.Len() > 0 {
		out.loaded = func(context.Context) iter.Seq2[sym.Symbol, error] {
			return func(yield func(sym.Symbol, error) bool) {
				for one := range t.All() {
					if !yield(one, nil) {
						return
					}
				}
			}
		}
	}
	return out
}

// one gives the symbol of the kernel of a name that there is one of.
func (s *symbolFile) one(name string) (remora.Addr, bool) {
	found := s.names.Lookup(name)
	if len(found) != 1 || found[0].Module != "" {
		return 0, false
	}
	return found[0].Addr, true
}

// place moves the symbols to where the kernel runs. What is not in its image stays: the
// numbers of per-CPU symbols, and values that are no addresses.
func (s *symbolFile) place() error {
	first, ok := s.one("_stext")
	if !ok {
		return &MismatchError{File: s.path, Why: "it has no symbol _stext, or more than one"}
	}
	if first == 0 {
		return fmt.Errorf("%s: the addresses are 0, as a kernel shows them to who may not see them (kernel.kptr_restrict): %w", s.path, fs.ErrPermission)
	}
	if runs, ok := s.found.symbol("_stext"); ok {
		s.slide = uint64(runs - first)
	} else if n, ok := s.k.VMCoreInfo().Value("KERNELOFFSET"); ok {
		s.slide = n
	}
	if s.slide == 0 {
		return nil
	}
	if text, ok := s.one("_text"); ok {
		first = min(first, text)
	}
	r := remora.Range{Start: first, Size: -uint64(first)}
	if end, ok := s.one("_end"); ok && end > first {
		r.Size = uint64(end-first) + 1 // _end moves too
	}
	s.names = s.names.Slide(r, s.slide)
	return nil
}

// verify makes sure that the file is of this kernel: by the build ids, or else by what
// the kernel has at linux_banner, or else by where _stext is.
func (s *symbolFile) verify(ctx context.Context) error {
	if id := s.f.BuildID(); id != "" {
		known, err := s.sameID(ctx, id)
		if known || err != nil {
			return err
		}
	}
	at, ok := s.one("linux_banner")
	if !ok {
		return s.verifyText()
	}
	const most = 512
	got, err := s.k.mem.CString(ctx, at, most)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case got == "" && err != nil:
		return fmt.Errorf("%s: it cannot be told whether that is the kernel in the image: linux_banner: %w", s.path, err)
	}
	want := bannerStart + s.k.release()
	var own [most]byte
	if n := s.f.Read(own[:], at-remora.Addr(s.slide)); n > 0 {
		text, _, _ := bytes.Cut(own[:n], []byte{0})
		want = string(text)
		if got == want {
			return nil
		}
	} else if rest, ok := strings.CutPrefix(got, want); ok && (strings.HasSuffix(want, " ") || strings.HasPrefix(rest, " ")) {
		return nil
	}
	return &MismatchError{File: s.path, Why: fmt.Sprintf("at linux_banner, %v, there should be %q, and there is %.100q", at, want, got)}
}

// verifyText is for a file with symbols of code alone.
func (s *symbolFile) verifyText() error {
	_, ok := s.found.symbol("_stext")
	switch {
	case !ok:
		return &MismatchError{File: s.path, Why: "it has no symbol linux_banner to tell by, and where _stext is is not known"}
	case s.slide != 0:
		return &MismatchError{File: s.path, Why: fmt.Sprintf("it has no symbol linux_banner to tell by, and its _stext is %#x bytes away from the kernel's", s.slide)}
	}
	return nil
}

// sameID compares a build id with that of the kernel. known is false where that cannot
// be found. VMCOREINFO of some stable kernels has a wrong one: then the notes in the
// kernel's image decide.
func (s *symbolFile) sameID(ctx context.Context, id string) (known bool, err error) {
	told, ok := s.k.VMCoreInfo().Text("BUILD-ID")
	if ok && told == id {
		return true, nil
	}
	own, err := s.notesID(ctx)
	switch {
	case err != nil && ctx.Err() != nil:
		return false, ctx.Err()
	case own == id:
		return true, nil
	case own == "":
		own = told
	}
	if own == "" {
		return false, nil
	}
	return true, &MismatchError{File: s.path, ID: id, Kernel: own}
}

// notesID reads the build id among the notes in the kernel's image.
func (s *symbolFile) notesID(ctx context.Context) (string, error) {
	start, ok := s.one("__start_notes")
	stop, known := s.one("__stop_notes")
	const most = 64 << 10
	if !ok || !known || stop < start || stop-start > most {
		return "", errors.ErrUnsupported
	}
	b := make([]byte, stop-start)
	if _, err := s.k.mem.ReadAt(ctx, b, start); err != nil {
		return "", err
	}
	return sym.BuildID(b, binary.LittleEndian.Uint32), nil
}
