// SPDX-License-Identifier: Apache-2.0

package paging

import (
	"context"
	"sync"
	"testing"

	"github.com/remora-go/remora"
)

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
