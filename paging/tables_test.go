// SPDX-License-Identifier: Apache-2.0

package paging

import (
	"context"
	"errors"
	"io/fs"
	"testing"

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
