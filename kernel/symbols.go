// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"fmt"
	"io/fs"
	"iter"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/sym"
)

// Symbols are the symbols of a kernel and of its modules. They are decoded when they are
// first asked for: a name by itself, where the kernel has them sorted by name, and
// otherwise all.
type Symbols struct{ own symbolSource }

// symbolSource is where the symbols of the kernel itself come from.
type symbolSource interface {
	lookup(ctx context.Context, name string) ([]sym.Symbol, error)
	table(ctx context.Context) (*sym.Table, error)
}

var _ symbolSource = (*kallsyms)(nil)

// Symbols finds the symbols, once.
func (k *Kernel) Symbols(ctx context.Context) (*Symbols, error) {
	return k.symbols.do(ctx, func(ctx context.Context) (*Symbols, error) {
		own, err := k.kallsymsOfInfo(ctx)
		if err != nil && ctx.Err() == nil {
			if s, none := k.kallsymsOfImage(ctx); none == nil {
				own, err = s, nil
			}
		}
		if err != nil {
			return nil, fmt.Errorf("the symbols of the kernel were not found: %w", err)
		}
		return &Symbols{own}, nil
	})
}

// Lookup gives every symbol of a name: those of the kernel, then those of modules. None
// is no error.
func (s *Symbols) Lookup(ctx context.Context, name string) ([]sym.Symbol, error) {
	return s.own.lookup(ctx, name)
}

// At gives the symbol at or before a, of the part of memory that a is in. The error is a
// *NoSymbolError where there is none.
func (s *Symbols) At(ctx context.Context, a remora.Addr) (sym.Symbol, error) {
	t, err := s.own.table(ctx)
	if err != nil {
		return sym.Symbol{}, err
	}
	if found, ok := t.At(a); ok && inKernel(t, a) {
		return found, nil
	}
	return sym.Symbol{}, &NoSymbolError{Addr: a}
}

// inKernel says whether an address is in the image of the kernel.
func inKernel(t *sym.Table, a remora.Addr) bool {
	if a < 1<<63 {
		return false // the number of a per-CPU symbol at most
	}
	for _, end := range t.Lookup("_end") {
		if a >= end.Addr {
			return false
		}
	}
	return true
}

// All gives all symbols in the order of /proc/kallsyms.
func (s *Symbols) All(ctx context.Context) iter.Seq2[sym.Symbol, error] {
	return func(yield func(sym.Symbol, error) bool) {
		t, err := s.own.table(ctx)
		if err != nil {
			yield(sym.Symbol{}, err)
			return
		}
		for found := range t.All() {
			if !yield(found, nil) {
				return
			}
		}
	}
}

// NoSymbolError says that a kernel has no symbol of a name, or at an address. It Is
// fs.ErrNotExist.
type NoSymbolError struct {
	Name string      // "" if it is about an address
	Addr remora.Addr // where Name is ""
}

func (e *NoSymbolError) Error() string {
	if e.Name != "" {
		return fmt.Sprintf("the kernel has no symbol %s", e.Name)
	}
	return fmt.Sprintf("no symbol of the kernel or of a module is at %v", e.Addr)
}

// Is says that a NoSymbolError is an fs.ErrNotExist.
func (e *NoSymbolError) Is(target error) bool { return target == fs.ErrNotExist }

// symbol gives the address of a symbol of the kernel itself that there is one of. Where
// there is none the error is a *NoSymbolError.
func (k *Kernel) symbol(ctx context.Context, name string) (remora.Addr, error) {
	s, err := k.Symbols(ctx)
	if err != nil {
		return 0, err
	}
	found, err := s.own.lookup(ctx, name)
	switch {
	case err != nil:
		return 0, err
	case len(found) == 0:
		return 0, &NoSymbolError{Name: name}
	case len(found) > 1:
		return 0, fmt.Errorf("the kernel has %d symbols %s: %w", len(found), name, remora.ErrCorrupt)
	}
	return found[0].Addr, nil
}
