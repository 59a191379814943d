// SPDX-License-Identifier: Apache-2.0

package paging

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/remora-go/remora"
)

// chain is x86-64 tables that map one page at 0x8000, at address 0.
func chain() *ram {
	mem := newRAM()
	mem.granule = 4096
	for i := range uint64(3) {
		mem.set(0x1000+i*0x1000, 0, 0x2067+i*0x1000)
	}
	mem.set(0x4000, 0, 0x8067)
	mem.make(0x8000)
	return mem
}

// A walk that finds nothing kept makes one transfer a level, one where all tables are
// kept makes none, and neither does one that ends at a table that is not there.
func TestWalksReadEachTableOnce(t *testing.T) {
	ctx := context.Background()
	for _, levels := range []int{4, 5} {
		mem := chain()
		root := remora.Addr(0x1000)
		if levels == 5 {
			mem.set(0x9000, 0, 0x1067)
			root = 0x9000
		}
		mem.set(0x3000, 2, 0x100067) // not there
		tables := NewTables(mem, x86(t, levels), root, nil)
		reads := func(va remora.Addr, want int64) {
			t.Helper()
			before := mem.reads.Load()
			tables.Translate(ctx, va)
			if n := mem.reads.Load() - before; n != want {
				t.Errorf("%d levels, %v: %d reads, want %d", levels, va, n, want)
			}
		}
		reads(0, int64(levels))
		reads(0, 0)
		reads(0x1000, 0)   // another entry of the same table
		reads(0x200000, 0) // an empty entry
		reads(0x400000, 1) // what is not there is asked for once
		reads(0x401000, 0) // and kept
		reads(0x40000000, 0)
		tables.Cache().Drop()
		reads(0, int64(levels))
		tables = NewTables(mem, x86(t, levels), root, &Options{Live: true})
		reads(0, int64(levels))
		reads(0, int64(levels))
	}
}

// Tables of the same root share what is kept; those of other roots, halves and
// opinions do not mix.
func TestCacheIsSharedByRoot(t *testing.T) {
	ctx := context.Background()
	mem := chain()
	mem.set(0x5000, 0, 0x2067)
	mem.set(0x5000, 1, 0x2067)
	f := x86(t, 4)
	c := NewCache(mem, nil)
	one := NewTables(mem, f, 0x1000, &Options{Cache: c})
	one.Translate(ctx, 0)
	before := mem.reads.Load()
	if e := NewTables(mem, f, 0x1fff, &Options{Cache: c}).Translate(ctx, 0); e.Phys != 0x8000 {
		t.Error(extentText(&e))
	}
	if n := mem.reads.Load() - before; n != 0 {
		t.Errorf("%d reads for a root that is known", n)
	}
	other := NewTables(mem, f, 0x5000, &Options{Cache: c})
	if e := other.Translate(ctx, 1<<39); e.Phys != 0x8000 {
		t.Error(extentText(&e))
	}
	if n := mem.reads.Load() - before; n != 1 {
		t.Errorf("%d reads for another root", n)
	}
	if e := one.Translate(ctx, 1<<39); e.Err != remora.ErrUnmapped {
		t.Error(extentText(&e))
	}
	upper := NewTables(mem, f, 0x1000, &Options{Cache: c, Half: Upper})
	if e := upper.Translate(ctx, 0); e.Err != remora.ErrUnmapped {
		t.Error(extentText(&e))
	}
	if one.id == other.id || one.id == upper.id {
		t.Error("different tables have one number")
	}
}

// flaky fails a number of times, and then does not.
type flaky struct {
	*ram
	err  error
	left int
}

func (f *flaky) Transfer(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
	if f.left > 0 {
		f.left--
		f.ram.Move(ctx, op, segs[0].Addr, segs[0].Buf[:8])
		segs[0].N, segs[0].Err = 8, f.err
		return 8, f.err
	}
	return f.ram.Transfer(ctx, op, segs)
}

// What may be different the next time is not kept, and is told as it is.
func TestPassingErrorsAreNotKept(t *testing.T) {
	ctx := context.Background()
	for _, row := range []struct {
		err   error
		table bool // it is a table that is missing
	}{
		{remora.ErrIO, true}, {remora.ErrGone, false}, {context.Canceled, false}, {fs.ErrClosed, false}, {remora.ErrBusy, false},
	} {
		mem := chain()
		mem.set(0x1000, 1, 0x2067)
		fl := &flaky{mem, row.err, 1}
		tables := NewTables(fl, x86(t, 4), 0x1000, nil)
		e := tables.Translate(ctx, 1<<39)
		if !errors.Is(e.Err, row.err) || errors.Is(e.Err, remora.ErrNoTable) != row.table {
			t.Errorf("%v: %s", row.err, extentText(&e))
		}
		if !row.table && e.Err != row.err {
			t.Errorf("%v was wrapped: %v", row.err, e.Err)
		}
		if e := tables.Translate(ctx, 1<<39); e.Phys != 0x8000 || e.Err != nil {
			t.Errorf("%v was kept: %s", row.err, extentText(&e))
		}
		// The first entry was read, but what is there is not kept either.
		fl.left = 1
		tables.Cache().Drop()
		before := mem.reads.Load()
		for range 2 {
			if e := tables.Translate(ctx, 0); e.Phys != 0x8000 {
				t.Errorf("%v: %s", row.err, extentText(&e))
			}
		}
		if n := mem.reads.Load() - before; n != 4 {
			t.Errorf("%v: %d reads", row.err, n)
		}
	}
}

// The memory of a Cache is bounded, whatever passes through it.
func TestCacheIsBounded(t *testing.T) {
	ctx := context.Background()
	mem, vas := scattered(40 * 512)
	c := NewCache(mem, &CacheOptions{TableBytes: 8 * 4096, Translations: 1})
	tables := NewTables(mem, x86(t, 4), 0x1000, &Options{Cache: c})
	for range 2 {
		for _, va := range vas {
			if e := tables.Translate(ctx, va); e.Err != nil {
				t.Fatal(e.Err)
			}
		}
	}
	sum := 0
	for i := range c.slots {
		if k := c.slots[i].Load(); k != nil {
			sum += len(k.buf)
		}
	}
	if sum != c.bytes || sum > 8*4096 || sum < 4*4096 {
		t.Errorf("%d bytes are kept, counted as %d", sum, c.bytes)
	}
	small := NewCache(mem, &CacheOptions{TableBytes: 100})
	tables = NewTables(mem, x86(t, 4), 0x1000, &Options{Cache: small})
	if e := tables.Translate(ctx, vas[0]); e.Err != nil || small.bytes != 0 {
		t.Errorf("%v, %d bytes", e.Err, small.bytes)
	}
}

// A write whose end is in doubt leaves nothing to keep until Drop.
func TestDoubtKeepsNothing(t *testing.T) {
	ctx := context.Background()
	mem := chain()
	tables := NewTables(mem, x86(t, 4), 0x1000, nil)
	c := tables.Cache()
	reads := func(want int64) {
		t.Helper()
		before := mem.reads.Load()
		for range 2 {
			tables.Translate(ctx, 0)
		}
		if n := mem.reads.Load() - before; n != want {
			t.Errorf("%d reads, want %d", n, want)
		}
	}
	c.write()
	reads(8) // while it is being made
	c.wrote([]remora.Seg{{Addr: 0x4000, Buf: make([]byte, 8), Err: remora.ErrInDoubt}})
	reads(8)
	c.Drop()
	reads(4)
	// One that began after the tables were read, and before they were kept.
	k := c.begin()
	c.write()
	c.wrote(nil)
	c.mu.Lock()
	if c.holds(k) {
		t.Error("a ticket outlives a write")
	}
	c.mu.Unlock()
}

// Many translate while others write to the tables: every answer is one that was
// right at some time, and the last is the last.
func TestConcurrentWritesToTables(t *testing.T) {
	ctx := context.Background()
	mem := &locked{ram: chain()}
	tables := NewTables(mem, x86(t, 4), 0x1000, nil)
	v := New(mem, tables, nil)
	mem.ram.set(0x4000, 1, 0x4067) // the lowest table as a page, at 0x1000
	var all sync.WaitGroup
	for g := range 4 {
		all.Go(func() {
			for i := range 300 {
				if g == 0 {
					p := []byte{0x67, byte(i) << 4, 0, 0, 0, 0, 0, 0}
					if _, err := remora.New(v).WriteAt(ctx, p, 0x1000); err != nil {
						t.Error(err)
					}
					if e := tables.Translate(ctx, 0); e.Err != nil || e.Phys != remora.Addr(byte(i)<<4)<<8 {
						t.Errorf("%d: %s", i, extentText(&e))
					}
				} else if e := tables.Translate(ctx, 0); e.Err != nil || e.Phys&0xfff != 0 || e.Phys > 0xf000 {
					t.Error(extentText(&e))
				}
			}
		})
	}
	all.Wait()
}

// locked is a memory that many may use.
type locked struct {
	*ram
	mu sync.Mutex
}

func (l *locked) Transfer(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ram.Transfer(ctx, op, segs)
}

// A list takes time in the number of tables, not of what they claim to map.
func TestRegionsOfCyclicTables(t *testing.T) {
	mem := newRAM()
	mem.granule = 4096
	for i := range uint64(8) {
		for k := range 512 {
			mem.set(0x1000+i*0x1000, k, 0x1067+uint64(k)%8*0x1000) // each leads to all
		}
	}
	tables := NewTables(mem, x86(t, 5), 0x1000, nil)
	n := 0
	for _, err := range tables.Regions(context.Background()) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n > 5*8*512*2 || mem.reads.Load() > 8 {
		t.Errorf("%d regions, %d reads", n, mem.reads.Load())
	}
	for range tables.Regions(context.Background()) {
		break // ends when it is told to
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	var errs []error
	for _, err := range tables.Regions(ctx) {
		errs = append(errs, err)
	}
	if !slices.Equal(errs, []error{context.Canceled}) {
		t.Error(errs)
	}
}

// The list has every page that can be translated, and no other.
func TestRegionsAreWhatTranslates(t *testing.T) {
	ctx := context.Background()
	m := machines()[0]
	f, err := m.format()
	must(t, f, err)
	for seed := range uint64(10) {
		s := newScene(&m, seed)
		tables := NewTables(s.mem, f, remora.Addr(s.roots[0]), &Options{Live: seed%2 == 0})
		last := remora.Addr(0)
		for r, err := range tables.Regions(ctx) {
			if r.Start < last || r.Size == 0 {
				t.Fatalf("%v after %v", r.Range, last)
			}
			last = r.Last()
			if r.Name != "" {
				continue // stands for tables that were listed before
			}
			for _, a := range []remora.Addr{r.Start, r.Start + remora.Addr(s.rng.Uint64N(r.Size)), r.Last()} {
				e := tables.Translate(ctx, a)
				if err == nil && (e.Err != nil || e.Perm&^remora.PermUser != r.Perm&^remora.PermUser) || err != nil && !errors.Is(e.Err, remora.ErrNoTable) {
					t.Fatalf("%v %v %v: %s", r.Range, r.Perm, err, extentText(&e))
				}
			}
		}
		for range 100 {
			a := remora.Addr(s.address())
			if e := tables.Translate(ctx, a); e.Err == nil && !listed(ctx, tables, a) {
				t.Fatalf("%v is not listed: %s", a, extentText(&e))
			}
		}
	}
}

func listed(ctx context.Context, tables *Tables, a remora.Addr) bool {
	for r, err := range tables.Regions(ctx) {
		if err == nil && r.Contains(a) {
			return true
		}
	}
	return false
}

// Options that make no sense are refused.
func TestFormatsThatThereAreNot(t *testing.T) {
	for name, f := range map[string]func() (*Format, error){
		"levels":   func() (*Format, error) { return X86(X86Options{Levels: 3}) },
		"sme":      func() (*Format, error) { return X86(X86Options{SMEMask: 1 << 60}) },
		"special":  func() (*Format, error) { return X86(X86Options{Special: &Special{Device: 33}}) },
		"negative": func() (*Format, error) { return RISCV(RISCVOptions{VABits: 39, Special: &Special{Marker: -1}}) },
		"page":     func() (*Format, error) { return ARM64(ARM64Options{PageShift: 13, VABits: 48}) },
		"few":      func() (*Format, error) { return ARM64(ARM64Options{PageShift: 12, VABits: 35}) },
		"many":     func() (*Format, error) { return ARM64(ARM64Options{PageShift: 12, VABits: 53}) },
		"49":       func() (*Format, error) { return ARM64(ARM64Options{PageShift: 12, VABits: 49}) },
		"phys":     func() (*Format, error) { return ARM64(ARM64Options{PageShift: 12, VABits: 48, PhysBits: 60}) },
		"types": func() (*Format, error) {
			return ARM64(ARM64Options{PageShift: 12, VABits: 48, Special: &Special{Poison: 20, Device: 20}})
		},
		"sv32": func() (*Format, error) { return RISCV(RISCVOptions{VABits: 32}) },
	} {
		if got, err := f(); err == nil {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// What the geometry of a format is.
func TestFormatShapes(t *testing.T) {
	type shape struct {
		Name    string
		Levels  int
		Top     int // entries in the highest table
		Half    uint
		PageMax uint // the largest leaf, as a shift
	}
	var got []shape
	seen := map[string]bool{}
	for _, m := range machines() {
		f, err := m.format()
		must(t, f, err)
		if seen[f.String()] {
			continue
		}
		seen[f.String()] = true
		s := shape{f.String(), f.Levels(), f.entries(f.levels), f.halfBits(), 0}
		for l := range f.levels + 1 {
			if f.mayMap(l) {
				s.PageMax = f.shift[l]
			}
		}
		got = append(got, s)
	}
	want := []shape{
		{"x86-64, 4 levels", 4, 512, 47, 30},
		{"x86-64, 5 levels", 5, 512, 56, 30},
		{"arm64, 4 KiB pages, 39-bit addresses, 3 levels", 3, 512, 39, 30},
		{"arm64, 4 KiB pages, 48-bit addresses, 4 levels", 4, 512, 48, 30},
		{"arm64, 4 KiB pages, 52-bit addresses, 5 levels, LPA2", 5, 16, 52, 39},
		{"arm64, 16 KiB pages, 36-bit addresses, 2 levels", 2, 2048, 36, 25},
		{"arm64, 16 KiB pages, 47-bit addresses, 3 levels", 3, 2048, 47, 25},
		{"arm64, 16 KiB pages, 48-bit addresses, 4 levels", 4, 2, 48, 25},
		{"arm64, 16 KiB pages, 52-bit addresses, 4 levels, LPA2", 4, 32, 52, 36},
		{"arm64, 64 KiB pages, 42-bit addresses, 2 levels", 2, 8192, 42, 29},
		{"arm64, 64 KiB pages, 48-bit addresses, 3 levels", 3, 64, 48, 42},
		{"arm64, 64 KiB pages, 52-bit addresses, 3 levels", 3, 1024, 52, 42},
		{"riscv64, Sv39", 3, 512, 38, 30},
		{"riscv64, Sv39, T-Head", 3, 512, 38, 30},
		{"riscv64, Sv48", 4, 512, 47, 39},
		{"riscv64, Sv48, T-Head", 4, 512, 47, 39},
		{"riscv64, Sv57", 5, 512, 56, 48},
		{"riscv64, Sv57, T-Head", 5, 512, 56, 48},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// The special types of the kernels that were looked at.
func TestSpecialTypes(t *testing.T) {
	for v, want := range map[Version]Special{
		{}:      {1, 3, 3, 1, 0},
		{7, 2}:  {1, 3, 3, 1, 0},
		{6, 15}: {1, 3, 3, 1, 0},
		{6, 14}: {1, 3, 4, 1, 0},
		{6, 2}:  {1, 3, 4, 1, 0},
		{6, 1}:  {1, 3, 4, 1, 1},
		{5, 19}: {1, 3, 4, 1, 1},
		{5, 18}: {1, 2, 4, 0, 0},
		{5, 10}: {1, 2, 2, 0, 0},
	} {
		if got := SpecialOf(v); got != want {
			t.Errorf("%v: %+v, want %+v", v, got, want)
		}
	}
	if e := x86(t, 4).Decode(6, 1); e.Kind != KindCorrupt || e.Err() != remora.ErrCorrupt {
		t.Error(e)
	}
}

// A translation allocates nothing, kept or not, once its tables are.
func TestTranslateAllocatesNothing(t *testing.T) {
	ctx := context.Background()
	mem, vas := scattered(512)
	mem.set(0x3000, 511, 0x800067) // not there
	vas = append(vas, 511<<21, 1<<46, 1<<47)
	for name, o := range map[string]*Options{
		"kept":   nil,
		"tables": {Cache: NewCache(mem, &CacheOptions{Translations: 1})},
		"live":   {Live: true},
	} {
		tables := NewTables(mem, x86(t, 4), 0x1000, o)
		some := vas
		if o != nil && o.Live {
			some = vas[:512] // what is missing makes an error each time
		}
		once := func() {
			for _, va := range some {
				tables.Translate(ctx, va)
			}
		}
		once()
		if n := testing.AllocsPerRun(20, once); n >= 1 && !raceEnabled {
			t.Errorf("%s: %v allocations for %d translations", name, n, len(some))
		}
	}
}
