// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"errors"
	"iter"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/sym"
)

// Symbols are the symbols of a kernel and of its modules.
type Symbols struct{ k *Kernel }

// Symbols finds the symbols, once.
func (k *Kernel) Symbols(ctx context.Context) (*Symbols, error) {
	return nil, errors.ErrUnsupported
}

// Lookup gives every symbol of a name: those of the kernel, then those of modules.
func (s *Symbols) Lookup(ctx context.Context, name string) ([]sym.Symbol, error) {
	return nil, errors.ErrUnsupported
}

// At gives the symbol at or before a, of the part of memory that a is in.
func (s *Symbols) At(ctx context.Context, a remora.Addr) (sym.Symbol, error) {
	return sym.Symbol{}, errors.ErrUnsupported
}

// All gives all symbols in the order of /proc/kallsyms.
func (s *Symbols) All(ctx context.Context) iter.Seq2[sym.Symbol, error] {
	return func(func(sym.Symbol, error) bool) {}
}

// symbol gives the address of a symbol of the kernel itself that there is one of. The
// error says that it is missing, and Is remora.ErrNotFound-like for callers that do without.
func (k *Kernel) symbol(ctx context.Context, name string) (remora.Addr, error) {
	return 0, errors.ErrUnsupported
}
