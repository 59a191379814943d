// SPDX-License-Identifier: Apache-2.0

package remora

import (
	"context"
	"iter"
)

// Target is a thing that has memory: a process, a core file, a kernel. What else
// it can do is found with As.
type Target interface {
	Memory() *Memory
	Close() error
}

// As finds an ability: v itself if it is a T, else what v.Unwrap() gives, and so
// on. Only transparent wrappers have Unwrap, so an opaque one (read-only, overlay,
// window) is never seen through.
func As[T any](v any) (T, bool) {
	for v != nil {
		if t, ok := v.(T); ok {
			return t, true
		}
		u, ok := v.(interface{ Unwrap() any })
		if !ok {
			break
		}
		v = u.Unwrap()
	}
	var zero T
	return zero, false
}

// Region is one mapping of an address space.
type Region struct {
	Range
	Perm    Perm
	Shared  bool   // MAP_SHARED: writes are seen by others
	Name    string // file path, or "[heap]" and the like; may be empty
	Deleted bool   // the file has been unlinked since it was mapped
	Offset  uint64 // of Start in the file, in bytes
	Major   uint32 // of the device that holds the file
	Minor   uint32
	Inode   uint64 // 0 where no file is mapped
}

// Mapper lists what is mapped, in address order.
type Mapper interface {
	Regions(ctx context.Context) iter.Seq2[Region, error]
}

// Presence tells what is in memory: what a read with Resident gives.
type Presence interface {
	// Present gives the runs of pages in r that are in memory, in address order. On a target
	// that runs they may have gone when they are read, and others come.
	Present(ctx context.Context, r Range) iter.Seq2[Range, error]
}

// Symbol is a name for an address.
type Symbol struct {
	Name   string
	Addr   Addr
	Size   uint64 // 0 when unknown
	Module string // empty for the main image
}

// Symbolizer knows names.
type Symbolizer interface {
	// Symbol gives every symbol of that name; none is not an error.
	Symbol(ctx context.Context, name string) ([]Symbol, error)
	// SymbolAt gives the symbol that holds a, or the nearest one before it.
	SymbolAt(ctx context.Context, a Addr) (Symbol, bool)
}

// Child is a target inside another: a process in a kernel.
type Child struct {
	ID   int64 // the number to open it by
	Name string
}

// Container lists the targets inside this one.
type Container interface {
	Children(ctx context.Context) iter.Seq2[Child, error]
}

// Pauser stops a target. The target runs on when resume is called, and also when
// this process dies.
type Pauser interface {
	Pause(ctx context.Context) (resume func() error, err error)
}

// Fact is one line of what there is to say about a target.
type Fact struct{ Key, Value string }

// Describer says what a target is and how it is reached.
type Describer interface {
	Describe(ctx context.Context) ([]Fact, error)
}
