// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/sym"
)

// Symbols are the symbols of a kernel and of its modules. They are decoded when they are
// first asked for: a name by itself, where the kernel has its names sorted, and otherwise
// all.
type Symbols struct {
	// How says where those of the kernel itself come from.
	How string

	own     symbolSource
	loaded  func(context.Context) iter.Seq2[sym.Symbol, error] // of modules and the like
	parts   func(context.Context) []remora.Range               // of the memory of modules
	version func(context.Context) uint64                       // another one where modules came or went; nil: they do not
	modules once[*moduleSymbolTable]
	mu      sync.Mutex // of newest
	newest  *moduleSymbolTable
}

// symbolSource is where the symbols of the kernel itself come from.
type symbolSource interface {
	lookup(ctx context.Context, name string) ([]sym.Symbol, error)
	// table gives all that can be read, and why that is not all; or nil.
	table(ctx context.Context) (*sym.Table, error)
	// at gives the symbol at an address, or the nearest one before it: see sym.Table.At.
	at(ctx context.Context, a remora.Addr) (found sym.Symbol, ok bool, err error)
}

var _ symbolSource = (*kallsyms)(nil)

// moduleSymbolTable is what there is of modules, and why that is not all.
type moduleSymbolTable struct {
	*sym.Table
	parts   []remora.Range
	problem error
	version uint64
	read    time.Time
}

// NoSymbolsError says that no symbols of the kernel were found.
type NoSymbolsError struct{ Why error }

func (e *NoSymbolsError) Error() string {
	return fmt.Sprintf("the symbols of the kernel were not found: %v", e.Why)
}

func (e *NoSymbolsError) Unwrap() error { return e.Why }

// Symbols finds the symbols, once. Where there are none the error is a *NoSymbolsError.
func (k *Kernel) Symbols(ctx context.Context) (*Symbols, error) {
	return k.symbols.do(ctx, func(ctx context.Context) (*Symbols, error) {
		found, err := k.Tables(ctx)
		if err != nil {
			return nil, &NoSymbolsError{err}
		}
		if s, err := k.symbolsOfFile(ctx, found); s != nil || err != nil {
			return s, err
		}
		own, err := kallsymsOfInfo(ctx, k.mem, k.VMCoreInfo())
		if err != nil && ctx.Err() == nil {
			if s, none := k.kallsymsOfImage(ctx); none == nil {
				own, err = s, nil
			}
		}
		if err != nil {
			return nil, &NoSymbolsError{err}
		}
		return k.newSymbols("kallsyms, addresses "+own.encoding.String(), own), nil
	})
}

// newSymbols gives the symbols of the kernel itself with those of its modules.
func (k *Kernel) newSymbols(how string, own symbolSource) *Symbols {
	s := &Symbols{How: how, own: own, loaded: k.moduleSymbols, parts: k.moduleParts}
	if k.info.Live {
		s.version = k.moduleVersion
	}
	return s
}

// Lookup gives every symbol of a name: those of the kernel, then those of modules. None
// is no error, but where the symbols of modules cannot all be read; Problem has that
// error also where there is one.
func (s *Symbols) Lookup(ctx context.Context, name string) ([]sym.Symbol, error) {
	found, err := s.own.lookup(ctx, name)
	if err != nil {
		return nil, err
	}
	m, err := s.ofModules(ctx)
	if err != nil {
		return found, err
	}
	if more := m.Lookup(name); len(more) == 0 && len(found) == 0 {
		if m, err = s.again(ctx, m); err != nil {
			return nil, err
		}
	}
	if found = append(found, m.Lookup(name)...); len(found) == 0 {
		return nil, m.problem
	}
	return found, nil
}

// LookupOwn is Lookup without modules.
func (s *Symbols) LookupOwn(ctx context.Context, name string) ([]sym.Symbol, error) {
	return s.own.lookup(ctx, name)
}

// Problem says why not all symbols of modules could be read.
func (s *Symbols) Problem(ctx context.Context) error {
	m, err := s.ofModules(ctx)
	if err != nil {
		return err
	}
	return m.problem
}

// ofModules reads the symbols of modules: once, or, on a live machine, whenever other
// modules are loaded than the last time.
func (s *Symbols) ofModules(ctx context.Context) (*moduleSymbolTable, error) {
	if s.version == nil {
		return s.modules.do(ctx, s.readModules)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	version := s.version(ctx)
	if m := s.newest; m != nil && m.version == version && m.problem == nil {
		return m, nil
	}
	m, err := s.readModules(ctx)
	if err == nil {
		m.version, s.newest = version, m
	}
	return m, err
}

// maxAge is how old symbols of modules and the like may be, on a live machine, when
// something is not found among them. What is like modules comes and goes without them: BPF
// programs, trampolines.
const maxAge = time.Second

// again reads the symbols of modules again, where m are not those of now.
func (s *Symbols) again(ctx context.Context, m *moduleSymbolTable) (*moduleSymbolTable, error) {
	if s.version == nil || time.Since(m.read) < maxAge {
		return m, nil
	}
	s.mu.Lock()
	if s.newest == m {
		s.newest = nil
	}
	s.mu.Unlock()
	return s.ofModules(ctx)
}

func (s *Symbols) readModules(ctx context.Context) (*moduleSymbolTable, error) {
	var all sym.Builder
	m := &moduleSymbolTable{read: time.Now()}
	for one, err := range s.loaded(ctx) {
		if err == nil {
			err = all.Add(one)
		}
		if err != nil && m.problem == nil {
			m.problem = fmt.Errorf("the symbols of modules: %w", err)
		}
	}
	m.Table, m.parts = all.Table(), s.parts(ctx)
	return m, ctx.Err()
}

// moduleVersion is a number that changes when modules come or go.
func (k *Kernel) moduleVersion(ctx context.Context) uint64 {
	h := fnv.New64a()
	for m, err := range k.Modules(ctx) {
		if err == nil {
			fmt.Fprintln(h, m.Name, m.at, m.State, m.Base, m.Size)
		}
	}
	return h.Sum64()
}

// moduleParts gives the memory of modules, as far as it is known.
func (k *Kernel) moduleParts(ctx context.Context) (all []remora.Range) {
	for m, err := range k.Modules(ctx) {
		if err == nil {
			for _, r := range m.Ranges {
				all = append(all, r.Range)
			}
		}
	}
	return all
}

// in gives the symbol of a module that an address is in, or the nearest one before it in
// the same part of the module.
func (m *moduleSymbolTable) in(a remora.Addr) (sym.Symbol, bool) {
	found, ok := m.At(a)
	if !ok || uint64(a-found.Addr) < max(found.Size, 1) {
		return found, ok
	}
	return found, slices.ContainsFunc(m.parts, func(r remora.Range) bool { return r.Contains(a) && r.Contains(found.Addr) })
}

// At gives the symbol at a, or else the nearest one before it in the same part of memory:
// the image of the kernel, or a module. The error is a *NoSymbolError where there is none.
func (s *Symbols) At(ctx context.Context, a remora.Addr) (sym.Symbol, error) {
	found, ok, why := s.own.at(ctx, a)
	if ok && why == nil {
		ok, why = s.inKernel(ctx, a, found)
	}
	if ok && why == nil {
		return found, nil
	}
	m, err := s.ofModules(ctx)
	if err != nil {
		return sym.Symbol{}, err
	}
	found, ok = m.in(a)
	if !ok {
		if m, err = s.again(ctx, m); err != nil {
			return sym.Symbol{}, err
		}
		found, ok = m.in(a)
	}
	if ok {
		return found, nil
	}
	if why != nil {
		return sym.Symbol{}, why
	}
	return sym.Symbol{}, &NoSymbolError{Addr: a}
}

// maxFunction is how far behind the last symbol an address is believed to be in what
// that names, where nothing says how long it is.
const maxFunction = 1 << 20

// inKernel says whether an address is in the image of the kernel, as far as the symbol
// before it is. Those of per-CPU variables may be numbers from 0 on, which are no
// addresses; without CONFIG_KALLSYMS_ALL there is no _end.
func (s *Symbols) inKernel(ctx context.Context, a remora.Addr, before sym.Symbol) (bool, error) {
	if before.Addr < 1<<63 {
		return false, nil
	}
	ends, err := s.own.lookup(ctx, "_end")
	for _, end := range ends {
		if a >= end.Addr {
			return false, nil
		}
	}
	return len(ends) > 0 || a-before.Addr < maxFunction, err
}

// All gives all symbols in the order of /proc/kallsyms. Why some could not be read is the
// last error.
func (s *Symbols) All(ctx context.Context) iter.Seq2[sym.Symbol, error] {
	return func(yield func(sym.Symbol, error) bool) {
		own, problem := s.own.table(ctx)
		if own == nil {
			yield(sym.Symbol{}, problem)
			return
		}
		for one := range own.All() {
			if !yield(one, nil) {
				return
			}
		}
		m, err := s.ofModules(ctx)
		if err != nil {
			yield(sym.Symbol{}, err)
			return
		}
		for one := range m.All() {
			if !yield(one, nil) {
				return
			}
		}
		if err := errors.Join(problem, m.problem); err != nil {
			yield(sym.Symbol{}, err)
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

// noted gives the address of a symbol as VMCOREINFO has it, or else as symbol does.
func (k *Kernel) noted(ctx context.Context, name string) (remora.Addr, error) {
	if a, ok := k.VMCoreInfo().Symbol(name); ok {
		return a, nil
	}
	return k.symbol(ctx, name)
}

// Symbol gives every symbol of a name.
func (k *Kernel) Symbol(ctx context.Context, name string) ([]remora.Symbol, error) {
	s, err := k.Symbols(ctx)
	if err != nil {
		return nil, err
	}
	found, err := s.Lookup(ctx, name)
	var all []remora.Symbol
	for _, one := range found {
		all = append(all, remora.Symbol{Name: one.Name, Addr: one.Addr, Size: one.Size, Module: one.Module})
	}
	return all, err
}

// SymbolAt gives the symbol at a, or the nearest one before it in the same part of memory.
func (k *Kernel) SymbolAt(ctx context.Context, a remora.Addr) (remora.Symbol, bool) {
	s, err := k.Symbols(ctx)
	if err != nil {
		return remora.Symbol{}, false
	}
	one, err := s.At(ctx, a)
	return remora.Symbol{Name: one.Name, Addr: one.Addr, Size: one.Size, Module: one.Module}, err == nil
}
