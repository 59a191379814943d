// SPDX-License-Identifier: Apache-2.0

package sym

import (
	"cmp"
	"fmt"
	"hash/maphash"
	"iter"
	"slices"
	"sort"
	"sync"

	"github.com/remora-go/remora"
)

// What a Table holds at most.
const (
	MaxSymbols = 1 << 24
	MaxName    = 1<<16 - 1 // bytes
	maxNames   = 1 << 29   // bytes of all names
	maxModules = 1<<16 - 1
)

// Table holds symbols in the order in which they were added to its Builder. It does not
// change, and may be used from many goroutines.
type Table struct {
	list    []entry
	names   string // of all, one after the other
	sizes   []uint64
	modules []uint16 // index of module+1; nil: none belongs to one
	module  []string

	addrs sync.Once
	order []uint32 // of list by address; nil: list is in that order
	hash  sync.Once
	seed  maphash.Seed
	first []uint32 // by hash of the name: index+1
	next  []uint32 // of the next symbol of that hash: index+1
}

// entry is a symbol. Its name is names[at:at+size].
type entry struct {
	addr uint64
	at   uint32
	size uint16
	typ  byte
}

// Builder makes a Table. The zero Builder is ready to use.
type Builder struct {
	t     *Table
	names []byte
	known map[string]uint16
}

// Grow makes room for so many symbols, whose names have so many bytes together.
func (b *Builder) Grow(symbols, names int) {
	b.table().list = slices.Grow(b.t.list, symbols)
	b.names = slices.Grow(b.names, names)
}

func (b *Builder) table() *Table {
	if b.t == nil {
		b.t = &Table{}
	}
	return b.t
}

// Add adds a symbol. The error says that the table is full, or the name too long.
func (b *Builder) Add(s Symbol) error {
	t := b.table()
	n := len(t.list)
	if err := b.AddName(s.Addr, s.Type, []byte(s.Name)); err != nil {
		return err
	}
	if s.Size != 0 && t.sizes == nil {
		t.sizes = make([]uint64, n, cap(t.list))
	}
	if t.sizes != nil {
		t.sizes = append(t.sizes, s.Size)
	}
	if s.Module != "" && t.modules == nil {
		t.modules = make([]uint16, n, cap(t.list))
		b.known = map[string]uint16{"": 0}
	}
	if t.modules == nil {
		return nil
	}
	no, ok := b.known[s.Module]
	if !ok {
		if len(t.module) == maxModules {
			return full("modules", maxModules)
		}
		t.module = append(t.module, s.Module)
		no = uint16(len(t.module))
		b.known[s.Module] = no
	}
	t.modules = append(t.modules, no)
	return nil
}

// AddName adds a symbol without size and module to a table where no symbol has any.
func (b *Builder) AddName(addr remora.Addr, typ byte, name []byte) error {
	t := b.table()
	switch {
	case len(t.list) == MaxSymbols:
		return full("symbols", MaxSymbols)
	case len(name) > MaxName:
		return fmt.Errorf("the name of a symbol has %d bytes, and at most %d are read: %w", len(name), MaxName, remora.ErrCorrupt)
	case len(b.names)+len(name) > maxNames:
		return full("bytes of names", maxNames)
	}
	t.list = append(t.list, entry{addr: uint64(addr), at: uint32(len(b.names)), size: uint16(len(name)), typ: typ})
	b.names = append(b.names, name...)
	return nil
}

func full(what string, most int) error {
	return fmt.Errorf("a table of symbols has more than %d %s: %w", most, what, remora.ErrCorrupt)
}

// Table gives the table. The Builder is empty then.
func (b *Builder) Table() *Table {
	t := b.table()
	t.names = string(b.names)
	*b = Builder{}
	return t
}

// Len is the number of symbols.
func (t *Table) Len() int { return len(t.list) }

// Symbol gives the symbol of an index.
func (t *Table) Symbol(i int) Symbol {
	e := &t.list[i]
	s := Symbol{Addr: remora.Addr(e.addr), Name: t.name(e), Type: e.typ}
	if i < len(t.sizes) {
		s.Size = t.sizes[i]
	}
	if i < len(t.modules) && t.modules[i] != 0 {
		s.Module = t.module[t.modules[i]-1]
	}
	return s
}

func (t *Table) name(e *entry) string { return t.names[e.at : e.at+uint32(e.size)] }

// Slide gives a table whose symbols in r are moved by a distance, which may be the two's
// complement of a negative one. The names are shared.
func (t *Table) Slide(r remora.Range, by uint64) *Table {
	list := slices.Clone(t.list)
	for i := range list {
		if r.Contains(remora.Addr(list[i].addr)) {
			list[i].addr += by
		}
	}
	return &Table{list: list, names: t.names, sizes: t.sizes, modules: t.modules, module: t.module}
}

// All gives all symbols in the order of the table.
func (t *Table) All() iter.Seq[Symbol] {
	return func(yield func(Symbol) bool) {
		for i := range t.list {
			if !yield(t.Symbol(i)) {
				return
			}
		}
	}
}

// Lookup gives every symbol of a name, in the order of the table.
func (t *Table) Lookup(name string) (all []Symbol) {
	if len(t.list) == 0 {
		return nil
	}
	t.hash.Do(t.index)
	for i := t.first[t.slot(name)]; i != 0; i = t.next[i-1] {
		if t.name(&t.list[i-1]) == name {
			all = append(all, t.Symbol(int(i-1)))
		}
	}
	return all
}

func (t *Table) slot(name string) uint64 {
	return maphash.String(t.seed, name) & uint64(len(t.first)-1)
}

// index makes the chains of names.
func (t *Table) index() {
	size := 1
	for size < len(t.list) {
		size *= 2
	}
	t.seed, t.first, t.next = maphash.MakeSeed(), make([]uint32, size), make([]uint32, len(t.list))
	for i := len(t.list) - 1; i >= 0; i-- { // the first one comes first in its chain
		at := t.slot(t.name(&t.list[i]))
		t.next[i], t.first[at] = t.first[at], uint32(i+1)
	}
}

// At gives the symbol at a, or else the nearest one before it, however far that is. Of
// several at one address it is the first. Names that compilers make up for places in the
// code are passed over.
func (t *Table) At(a remora.Addr) (Symbol, bool) {
	t.addrs.Do(t.sort)
	i := sort.Search(len(t.list), func(i int) bool { return t.list[t.sorted(i)].addr > uint64(a) })
	found := -1
	for i--; i >= 0; i-- {
		e := &t.list[t.sorted(i)]
		if found >= 0 && e.addr != t.list[found].addr {
			break
		}
		if !Local(t.name(e)) {
			found = t.sorted(i)
		}
	}
	if found < 0 {
		return Symbol{}, false
	}
	return t.Symbol(found), true
}

func (t *Table) sorted(i int) int {
	if t.order == nil {
		return i
	}
	return int(t.order[i])
}

// sort finds the order by address.
func (t *Table) sort() {
	byAddr := func(a, b entry) int { return cmp.Compare(a.addr, b.addr) }
	if slices.IsSortedFunc(t.list, byAddr) {
		return
	}
	order := make([]uint32, len(t.list))
	for i := range order {
		order[i] = uint32(i)
	}
	slices.SortFunc(order, func(i, j uint32) int {
		return cmp.Or(cmp.Compare(t.list[i].addr, t.list[j].addr), cmp.Compare(i, j))
	})
	t.order = order
}

// Local says whether a name is one of those that assemblers give to places: .L0 or $x.
func Local(name string) bool {
	return len(name) >= 2 && (name[0] == '.' && name[1] == 'L' || name[0] == '$')
}
