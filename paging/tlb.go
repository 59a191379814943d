// SPDX-License-Identifier: Apache-2.0

package paging

import (
	"sync/atomic"

	"github.com/remora-go/remora"
)

// run is an Extent that is kept: 64 bytes, read without a lock. It is written under
// Cache.mu, with seq odd meanwhile; who reads looks at seq before and after.
type run struct {
	seq   atomic.Uint32
	id    atomic.Uint64 // of the Tables
	epoch atomic.Uint64
	virt  atomic.Uint64
	size  atomic.Uint64
	phys  atomic.Uint64
	raw   atomic.Uint64
	meta  atomic.Uint64 // Perm, Level and the Cause
}

const (
	metaLevel = 16
	metaCause = 24
)

// tablesKey is what Tables that give the same answers have in common.
type tablesKey struct {
	f    *Format
	root remora.Addr
	half Half
}

// identify gives the number of Tables in c, the same for the same key. Those with
// an opinion of their own, as Options.RAM is, are like no others.
func (c *Cache) identify(k tablesKey, alone bool) uint64 {
	const most = 1 << 16 // keys that are remembered
	c.mu.Lock()
	defer c.mu.Unlock()
	if id := c.ids[k]; id != 0 && !alone {
		return id
	}
	c.next++
	if !alone {
		if len(c.ids) == most {
			clear(c.ids)
		}
		c.ids[k] = c.next
	}
	return c.next
}

// place gives the run where the translation of va may be for one grain: the shift of
// what a level's entries map. A run that covers such a piece whole is in its place.
func (c *Cache) place(id, va uint64, grain uint) *run {
	h := (va>>grain ^ id<<40 ^ uint64(grain)<<34) * golden
	return &c.runs[h>>c.runShift]
}

// find gives the translation of va, if it is kept.
func (c *Cache) find(t *Tables, epoch, va uint64) (remora.Extent, bool) {
	for _, grain := range t.grains {
		r := c.place(t.id, va, grain)
		seq := r.seq.Load()
		if seq&1 != 0 || r.id.Load() != t.id || r.epoch.Load() != epoch {
			continue
		}
		virt, size := r.virt.Load(), r.size.Load()
		if va-virt >= size {
			continue
		}
		meta := r.meta.Load()
		e := remora.Extent{
			Virt: remora.Addr(virt), Size: size, Phys: remora.Addr(r.phys.Load()), Raw: r.raw.Load(),
			Perm: remora.Perm(meta), Level: uint8(meta >> metaLevel),
		}
		if r.seq.Load() != seq {
			continue
		}
		if cause := remora.Cause(meta >> metaCause); cause != 0 {
			e.Err = cause
		}
		return e, true
	}
	return remora.Extent{}, false
}

// remember keeps e as the translation of va. One whose Err is no plain Cause is not
// kept: the table that has the gap is.
func (c *Cache) remember(t *Tables, k ticket, va uint64, e *remora.Extent) {
	cause, plain := remora.Cause(0), true
	if e.Err != nil {
		cause, plain = e.Err.(remora.Cause)
	}
	if !plain {
		return
	}
	grain := t.grains[0]
	for _, g := range t.grains[1:] {
		first := va >> g << g
		if first >= uint64(e.Virt) && first-uint64(e.Virt)+1<<g <= e.Size {
			grain = g
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.holds(k) {
		return
	}
	r := c.place(t.id, va, grain)
	r.seq.Add(1)
	r.id.Store(t.id)
	r.epoch.Store(k.epoch)
	r.virt.Store(uint64(e.Virt))
	r.size.Store(e.Size)
	r.phys.Store(uint64(e.Phys))
	r.raw.Store(e.Raw)
	r.meta.Store(uint64(e.Perm) | uint64(e.Level)<<metaLevel | uint64(cause)<<metaCause)
	r.seq.Add(1)
}
