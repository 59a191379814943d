// SPDX-License-Identifier: Apache-2.0

package paging

import (
	"context"
	"errors"
	"math/bits"
	"sync"
	"sync/atomic"

	"github.com/remora-go/remora"
)

// CacheOptions are the limits of a Cache.
type CacheOptions struct {
	// TableBytes bounds the memory of the tables that are kept, 0: 16 MiB.
	TableBytes int
	// Translations is the number of those that are kept, 64 bytes each, rounded up
	// to a power of two. 0: 4096.
	Translations int
}

// Cache keeps page tables and translations of one physical memory. Many Tables may
// share one: the processes of a kernel share its half.
type Cache struct {
	phys remora.Space

	slots []atomic.Pointer[kept] // sets of ways, the one of a table being a function of its address
	shift int                    // of a hash, to give the number of a set
	limit int                    // bytes

	runs     []run
	runShift int

	epoch  atomic.Uint64 // what was kept under another is out of date
	writes atomic.Uint64 // that have begun
	active atomic.Int64  // writes that are being made
	doubt  atomic.Bool   // a write may still happen: nothing can be kept

	mu    sync.Mutex // for all that changes what is kept
	bytes int
	hand  int
	ids   map[tablesKey]uint64
	next  uint64
	read  map[uint64]struct{} // where tables were read since the last drop: numbers of 4 KiB pages
}

const (
	ways     = 8
	pageBits = 12      // of the 4 KiB in read
	mostRead = 1 << 17 // entries of read, beyond which everything is dropped
	golden   = 0x9e3779b97f4a7c15
)

// kept is a table that is kept; nothing of it but used is changed.
type kept struct {
	table
	epoch uint64
	used  atomic.Bool // since the hand of the clock was here
}

// NewCache gives a Cache for tables in phys; nil options are the zero options.
//
// Everything is dropped when a View with this Cache writes where a table was read.
// Who writes past the View, or knows that the memory has changed, calls Drop.
func NewCache(phys remora.Space, o *CacheOptions) *Cache {
	if o == nil {
		o = &CacheOptions{}
	}
	c := &Cache{phys: phys, limit: o.TableBytes, ids: map[tablesKey]uint64{}, read: map[uint64]struct{}{}}
	if c.limit <= 0 {
		c.limit = 16 << 20
	}
	n := o.Translations
	if n <= 0 {
		n = 4096
	}
	order := bits.Len(uint(c.limit-1) / (ways << pageBits))
	c.slots, c.shift = make([]atomic.Pointer[kept], ways<<order), 64-order
	order = bits.Len(uint(n - 1))
	c.runs, c.runShift = make([]run, 1<<order), 64-order
	c.epoch.Store(1)
	return c
}

// Drop forgets everything.
func (c *Cache) Drop() {
	c.doubt.Store(false)
	c.drop()
}

func (c *Cache) drop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forget()
}

// forget drops all; mu must be held.
func (c *Cache) forget() {
	c.epoch.Add(1)
	for i := range c.slots {
		c.slots[i].Store(nil)
	}
	clear(c.read)
	c.bytes = 0
}

// ticket is taken before tables are read, and shown to keep what came of it.
type ticket struct {
	epoch, writes uint64
	ok            bool
}

// begin takes a ticket. A write that begins later makes it worthless: writes is
// read before active, and they are counted in the other order.
func (c *Cache) begin() ticket {
	t := ticket{epoch: c.epoch.Load(), writes: c.writes.Load()}
	t.ok = c.active.Load() == 0 && !c.doubt.Load()
	return t
}

// holds says whether what was read with the ticket may be kept. mu must be held:
// a write that begins after it looks for what is kept when it has ended.
func (c *Cache) holds(t ticket) bool {
	return t.ok && c.epoch.Load() == t.epoch && c.writes.Load() == t.writes && !c.doubt.Load()
}

// get gives the table of n entries at a, if it is kept.
func (c *Cache) get(t ticket, a remora.Addr, n int) *table {
	set := c.set(a)
	for i := range set {
		k := set[i].Load()
		if k != nil && k.at == a && len(k.buf) == n*8 && k.epoch == t.epoch {
			if !k.used.Load() {
				k.used.Store(true)
			}
			return &k.table
		}
	}
	return nil
}

func (c *Cache) set(a remora.Addr) []atomic.Pointer[kept] {
	i := uint64(a) >> 3 * golden >> c.shift * ways
	return c.slots[i : i+ways]
}

// load gives the table of n entries at a, from memory if it is not kept.
func (c *Cache) load(ctx context.Context, t ticket, a remora.Addr, n int) *table {
	if tb := c.get(t, a, n); tb != nil {
		return tb
	}
	k := &kept{table: table{at: a}, epoch: t.epoch}
	r := readers.Get().(*reader)
	k.read(ctx, c.phys, n, r)
	readers.Put(r)
	c.keep(t, k)
	return &k.table
}

// keep keeps k in place of a table of its set that was not used lately, and lets
// others go until all fit.
func (c *Cache) keep(t ticket, k *kept) {
	size := len(k.buf)
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.holds(t) {
		return
	}
	if len(c.read) >= mostRead {
		c.forget()
		return
	}
	for a := uint64(k.at) >> pageBits; a <= (uint64(k.at)+uint64(size)-1)>>pageBits; a++ {
		c.read[a] = struct{}{}
	}
	if k.passing || size > c.limit {
		return
	}
	set := c.set(k.at)
	victim := -1
	for pass := 0; victim < 0; pass++ {
		for i := range set {
			old := set[i].Load()
			if old == nil || pass > 0 && !old.used.Swap(false) || old.at == k.at && len(old.buf) == len(k.buf) {
				victim = i
				break
			}
		}
	}
	c.swap(&set[victim], k)
	for c.bytes > c.limit {
		c.hand = (c.hand + 1) % len(c.slots)
		if old := c.slots[c.hand].Load(); old != nil && old != k && !old.used.Swap(false) {
			c.swap(&c.slots[c.hand], nil)
		}
	}
}

func (c *Cache) swap(slot *atomic.Pointer[kept], k *kept) {
	if old := slot.Swap(k); old != nil {
		c.bytes -= len(old.buf)
	}
	if k != nil {
		c.bytes += len(k.buf)
	}
}

// write tells that a write begins; wrote must follow.
func (c *Cache) write() {
	c.active.Add(1)
	c.mu.Lock()
	c.writes.Add(1)
	c.mu.Unlock()
}

// wrote tells that the write of segs has ended.
func (c *Cache) wrote(segs []remora.Seg) {
	hit := false
	for i := range segs {
		s := &segs[i]
		if errors.Is(s.Err, remora.ErrInDoubt) {
			c.doubt.Store(true)
			hit = true
		}
		hit = hit || s.N > 0 && c.holdsAny(s.Addr, uint64(s.N))
	}
	if hit {
		c.drop()
	}
	c.active.Add(-1)
}

// holdsAny says whether a table was read from the n bytes at a.
func (c *Cache) holdsAny(a remora.Addr, n uint64) bool {
	first, last := uint64(a)>>pageBits, (uint64(a)+n-1)>>pageBits
	c.mu.Lock()
	defer c.mu.Unlock()
	if last-first < uint64(len(c.read)) {
		for p := first; p <= last; p++ {
			if _, ok := c.read[p]; ok {
				return true
			}
		}
		return false
	}
	for p := range c.read {
		if p >= first && p <= last {
			return true
		}
	}
	return false
}
