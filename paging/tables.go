// SPDX-License-Identifier: Apache-2.0

package paging

import (
	"context"

	"github.com/remora-go/remora"
)

// Half says which addresses a root serves.
type Half uint8

// The halves. Whole is what one root of x86-64 or riscv64 serves; on arm64, where each
// half has a root of its own, it stands for Upper.
const (
	Whole Half = iota
	Lower      // the user's: addresses with the upper bits clear; TTBR0
	Upper      // the kernel's: addresses with the upper bits set; TTBR1
)

func (h Half) String() string {
	return [...]string{"whole space", "lower half", "upper half"}[h%3]
}

// Options say how tables are used.
type Options struct {
	// Half is what the root serves; everything else is ErrUnmapped. The tables of a
	// process, opened for what is the user's, are Lower.
	Half Half

	// Live keeps nothing: every translation reads the tables. It is implied when the
	// physical memory is Live.
	Live bool

	// Cache keeps tables and translations, nil: one of its own. It must be of the
	// same physical memory.
	Cache *Cache

	// RAM says whether there is memory at a physical address. With it, a PROT_NONE
	// entry of x86-64 that leads to no memory, but would if it were written as by a
	// kernel without, or with, the fix for L1TF, is taken to be so.
	RAM func(remora.Addr) bool
}

// Tables is one root of page tables: the address space that it makes. It may be
// used from many goroutines.
type Tables struct {
	f      *Format
	phys   remora.Space
	root   remora.Addr
	half   Half
	live   bool
	ram    func(remora.Addr) bool
	cache  *Cache
	id     uint64
	grains []uint
}

var (
	_ remora.Translator = (*Tables)(nil)
	_ remora.Explainer  = (*Tables)(nil)
	_ remora.Mapper     = (*Tables)(nil)
)

// NewTables gives the tables of format f in phys whose top table is at root; nil
// options are the zero options. It does no I/O.
//
// The bits of root below the alignment of the table do not count: the PCID in CR3, CnP
// in TTBR. That alignment is a page, but on arm64 the size of the top table, which has
// few entries in some geometries. Of x86-64's CR3 neither LAM nor SME's bit count; the
// ASID in TTBR, and the upper part of an address of 52 bits there, are the caller's.
func NewTables(phys remora.Space, f *Format, root remora.Addr, o *Options) *Tables {
	if o == nil {
		o = &Options{}
	}
	t := &Tables{f: f, phys: phys, half: o.Half % 3, live: o.Live || phys.Info().Live, ram: o.RAM, cache: o.Cache}
	t.root = root &^ remora.Addr(f.entries(f.levels)*8-1)
	if f.arch == archX86 {
		t.root &= remora.Addr(f.physical)
	}
	if t.half == Whole && !f.split {
		t.half = Upper
	}
	if t.cache == nil {
		t.cache = NewCache(phys, nil)
	}
	t.id = t.cache.identify(tablesKey{f, t.root, t.half}, t.ram != nil)
	t.grains = f.shift[1 : min(f.levels, 3)+1]
	return t
}

// Format gives the format.
func (t *Tables) Format() *Format { return t.f }

// Root gives the physical address of the top table.
func (t *Tables) Root() remora.Addr { return t.root }

// Half gives the addresses that the root serves.
func (t *Tables) Half() Half { return t.half }

// Last is the highest address that can be mapped.
func (t *Tables) Last() remora.Addr {
	if t.half == Lower {
		return 1<<t.f.halfBits() - 1
	}
	return remora.MaxAddr
}

// Cache gives what keeps tables and translations.
func (t *Tables) Cache() *Cache { return t.cache }

// middle is the address that no Extent spans.
const middle = 1 << 63

// serves says whether the root has an answer for va.
func (t *Tables) serves(va remora.Addr) bool {
	n := t.f.halfBits()
	if va < middle {
		return t.half != Upper && va>>n == 0
	}
	return t.half != Lower && ^va>>n == 0
}

// outside gives the hole around an address that the root does not serve.
func (t *Tables) outside(va remora.Addr) remora.Extent {
	first, last := remora.Addr(0), remora.Addr(middle-1)
	size := remora.Addr(1) << t.f.halfBits()
	if va < middle {
		if t.half != Upper {
			first = size
		}
	} else {
		first, last = middle, remora.MaxAddr
		if t.half != Lower {
			last = -size - 1
		}
	}
	return remora.Extent{Virt: first, Size: uint64(last-first) + 1, Err: remora.ErrUnmapped}
}

// Translate gives the run of addresses around va that share one fate: as long as the
// table that decides it allows, or what a table that cannot be read governs. Raw is
// the entry of the first page of the run. Phys and, of what is swapped out, the swap
// offset rise with the address from there.
//
// Err is a plain Cause for what the tables say, the error of the context or of a
// physical memory that is gone, or Is ErrNoTable and the physical fault's cause.
func (t *Tables) Translate(ctx context.Context, va remora.Addr) remora.Extent {
	if !t.serves(va) {
		return t.outside(va)
	}
	if t.live {
		r := readers.Get().(*reader)
		e, _ := t.walk(ctx, va, ticket{}, r, nil)
		readers.Put(r)
		return e
	}
	k := t.cache.begin()
	if e, ok := t.cache.find(t, k.epoch, uint64(va)); ok {
		return e
	}
	e, lasting := t.walk(ctx, va, k, nil, nil)
	if lasting {
		t.cache.remember(t, k, uint64(va), &e)
	}
	return e
}

// Step is one level of a walk.
type Step struct {
	Level int
	Name  string      // of the level: "PGD"
	Table remora.Addr // physical address of the table
	Index int         // of the entry in it
	At    remora.Addr // physical address of the entry
	Raw   uint64      // the entry, 0 if it could not be read
	Entry Entry       // decoded; its zero value if it could not be read
	Err   error       // why the walk ends here with no memory: as in Translate
}

// Walk gives every level on the way to va, from the top: the last step maps memory or
// has an error. There is none for an address that the root does not serve.
func (t *Tables) Walk(ctx context.Context, va remora.Addr) []Step {
	if !t.serves(va) {
		return nil
	}
	steps := make([]Step, 0, t.f.levels)
	var r *reader
	if t.live {
		r = readers.Get().(*reader)
		defer readers.Put(r)
	}
	t.walk(ctx, va, t.cache.begin(), r, &steps)
	return steps
}

// place is where a walk is in a table.
type place struct {
	level int
	index int
	base  remora.Addr // address that entry 0 would govern
	lo    int         // the entries of the same half of the space,
	hi    int         // from lo up to, not including, hi
}

func (t *Tables) place(level int, va remora.Addr) place {
	f := t.f
	shift, n := f.shift[level], f.entries(level)
	p := place{level: level, index: int(va >> shift & remora.Addr(n-1)), hi: n}
	p.base = va>>shift<<shift - remora.Addr(p.index)<<shift
	if level == f.levels && f.split {
		if p.index < n/2 {
			p.hi = n / 2
		} else {
			p.lo = n / 2
		}
	}
	return p
}

// extent gives the addresses that the entries from first up to end govern.
func (p *place) extent(f *Format, first, end int) remora.Extent {
	shift := f.shift[p.level]
	return remora.Extent{Virt: p.base + remora.Addr(first)<<shift, Size: uint64(end-first) << shift, Level: uint8(p.level)}
}

// walk goes down from the root to what decides the fate of va, and says whether the
// result may be kept. With a reader nothing is taken from the cache or left there.
// It ends, whatever the tables hold: level 1 leads to no table.
func (t *Tables) walk(ctx context.Context, va remora.Addr, k ticket, r *reader, steps *[]Step) (remora.Extent, bool) {
	at, may, lasting := t.root, allRights, true
	var e Entry
	for level := t.f.levels; ; level-- {
		tb := t.load(ctx, k, at, level, r)
		lasting = lasting && !tb.passing
		p := t.place(level, va)
		err := t.entry(&e, tb, &p)
		if steps != nil {
			*steps = append(*steps, t.step(tb, &p, &e, err))
		}
		switch {
		case err != nil:
			return t.missing(tb, &p), lasting
		case e.Kind != KindTable:
			return t.extent(tb, &p, &e, may), lasting
		}
		may &= e.rights
		at = e.Phys
	}
}

func (t *Tables) load(ctx context.Context, k ticket, at remora.Addr, level int, r *reader) *table {
	if r == nil {
		return t.cache.load(ctx, k, at, t.f.entries(level))
	}
	r.own.at = at
	r.own.read(ctx, t.phys, t.f.entries(level), r)
	return &r.own
}

// entry makes e the entry at p, or gives the error of the gap it is in.
func (t *Tables) entry(e *Entry, tb *table, p *place) error {
	if tb.gaps != nil {
		if g := tb.gapAt(p.index); g != nil {
			return g.err
		}
	}
	t.decode(e, p, tb.word(p.index))
	return nil
}

// decode is Format.Decode with what the Tables know.
func (t *Tables) decode(e *Entry, p *place, raw uint64) {
	t.f.decode(e, p.level, raw)
	switch e.Kind {
	case KindProtNone:
		if t.ram != nil && t.f.arch == archX86 && !t.ram(e.Phys) {
			if turned := t.f.turned(e); t.ram(turned) {
				e.Phys = turned
			}
		}
	case KindSwap, KindMigration, KindPoison, KindDevice, KindMarker:
		if p.base+remora.Addr(p.lo)<<t.f.shift[p.level] >= middle {
			*e = Entry{Kind: KindInvalid, Level: e.Level, Name: e.Name, Raw: raw, Size: t.f.entrySize(p.level)}
		}
	}
}

func (t *Tables) step(tb *table, p *place, e *Entry, err error) Step {
	s := Step{Level: p.level, Name: t.f.LevelName(p.level), Table: tb.at, Index: p.index, At: tb.at + remora.Addr(p.index*8), Err: err}
	if err == nil {
		s.Raw, s.Entry, s.Err = e.Raw, *e, e.Err()
	}
	return s
}
