// SPDX-License-Identifier: Apache-2.0

package vmcore

import (
	"sync"
	"sync/atomic"
)

// The shape of a pageCache.
const (
	cacheWays    = 8        // frames of a set: the least that a cache has
	cacheDefault = 64 << 20 // bytes
	cacheExtra   = 192      // bytes of tables a frame
	cachePinBits = 24       // of frame.state
)

// pageCache keeps inflated pages. A page is known by where its data lie in the files,
// so that those that share them have one frame. It allocates the frames as they are
// needed, and never gives one back.
//
// It is a set-associative cache. What is in a set is guarded by the lock of the set,
// which only a miss takes. A hit goes through a slot that says in which frame the page
// with this number is, and takes no lock. It pins the frame while it copies from it;
// the frame is not used for another page meanwhile. A frame's state is its generation,
// which grows whenever it gets another page, and the number of pins, in one word: one
// addition pins the frame and tells whether it is still that of the slot.
type pageCache struct {
	size   int // of a page, bytes
	sets   []cacheSet
	frames []cacheFrame // those of a set lie together
	slots  []cacheSlot
}

// cacheKey says where the data of a page are. What they are said to be is part of it:
// of two descriptors that disagree one is wrong.
type cacheKey struct {
	off         int64
	part        int32
	size, flags uint32
}

type cacheSet struct {
	mu   sync.Mutex
	wait sync.Cond // a load has ended
	keys [cacheWays]cacheKey
	has  [cacheWays]uint8 // frameEmpty, frameLoading, frameReady
	hand uint8
}

const (
	frameEmpty = iota
	frameLoading
	frameReady
)

type cacheFrame struct {
	state atomic.Uint64 // generation and pins
	used  atomic.Uint32 // since the hand came by
	buf   []byte        // written while there are no pins
	_     [16]byte      // a frame has its own line of the processor's cache
}

// cacheSlot says where page pfn is. seq is odd while the other two change, and grows.
type cacheSlot struct {
	seq, pfn atomic.Uint64
	ref      atomic.Uint64 // index of the frame, and its generation; 0: none
	_        uint64
}

// frameRef is a frame with one generation.
type frameRef uint64

const refIndexBits = 24

func refOf(index int, generation uint64) frameRef {
	return frameRef(generation<<refIndexBits | uint64(index))
}
func (r frameRef) index() int         { return int(r & (1<<refIndexBits - 1)) }
func (r frameRef) generation() uint64 { return uint64(r) >> refIndexBits }

// newPageCache gives a cache of bytes bytes for pages of size bytes, tables counted;
// or of eight pages if that is more.
func newPageCache(bytes, size int) *pageCache {
	if bytes <= 0 {
		bytes = cacheDefault
	}
	sets := min(max(1, bytes/(size+cacheExtra)/cacheWays), 1<<refIndexBits/cacheWays)
	c := &pageCache{size: size, sets: make([]cacheSet, sets), frames: make([]cacheFrame, sets*cacheWays)}
	for i := range c.sets {
		c.sets[i].wait.L = &c.sets[i].mu
	}
	slots := 1
	for slots < len(c.frames) {
		slots *= 2
	}
	c.slots = make([]cacheSlot, slots*2)
	return c
}

// copy copies from byte in of page pfn, if it is here.
func (c *pageCache) copy(dst []byte, pfn uint64, in int) bool {
	s := &c.slots[pfn&uint64(len(c.slots)-1)]
	seq := s.seq.Load()
	if s.pfn.Load() != pfn {
		return false
	}
	ref := frameRef(s.ref.Load())
	if ref == 0 || seq&1 != 0 || s.seq.Load() != seq {
		return false
	}
	f := &c.frames[ref.index()]
	if f.state.Add(1)>>cachePinBits != ref.generation() {
		f.state.Add(^uint64(0))
		return false
	}
	copy(dst, f.buf[in:])
	if f.used.Load() == 0 {
		f.used.Store(1)
	}
	f.state.Add(^uint64(0))
	return true
}

// link makes copy find page pfn at ref.
func (c *pageCache) link(pfn uint64, ref frameRef) {
	s := &c.slots[pfn&uint64(len(c.slots)-1)]
	seq := s.seq.Load()
	if seq&1 != 0 || !s.seq.CompareAndSwap(seq, seq+1) {
		return // another one is at it
	}
	s.pfn.Store(pfn)
	s.ref.Store(uint64(ref))
	s.seq.Store(seq + 2)
}

// unpin ends what claim began with a pin, or done.
func (c *pageCache) unpin(ref frameRef) { c.frames[ref.index()].state.Add(^uint64(0)) }

func (c *pageCache) page(ref frameRef) []byte { return c.frames[ref.index()].buf }

func (c *pageCache) setOf(k cacheKey) (*cacheSet, int) {
	h := (uint64(k.off) + uint64(k.part)<<56) * 0x9e3779b97f4a7c15
	i := int((h >> 32) * uint64(len(c.sets)) >> 32)
	return &c.sets[i], i * cacheWays
}

// The answers of claim.
const (
	claimHit  = iota // the page is there, and pinned
	claimLoad        // the caller has to fill the page, and then to call done
	claimNone        // no frame is free, or, unless told to wait, another one loads it
)

// claim looks for the page with key k, or takes a frame for it. While another caller
// loads the page it waits for that one if wait says so.
func (c *pageCache) claim(k cacheKey, wait bool) (frameRef, int) {
	s, first := c.setOf(k)
	s.mu.Lock()
	defer s.mu.Unlock()
again:
	for w := range s.keys {
		if s.has[w] == frameEmpty || s.keys[w] != k {
			continue
		}
		if s.has[w] == frameLoading {
			if !wait {
				return 0, claimNone
			}
			s.wait.Wait()
			goto again
		}
		f := &c.frames[first+w]
		f.used.Store(1)
		return refOf(first+w, f.state.Add(1)>>cachePinBits), claimHit
	}
	w := c.victim(s, first)
	if w < 0 {
		return 0, claimNone
	}
	f := &c.frames[first+w]
	if f.buf == nil {
		f.buf = make([]byte, c.size)
	}
	s.keys[w], s.has[w] = k, frameLoading
	return refOf(first+w, f.state.Load()>>cachePinBits), claimLoad
}

// victim gives a frame of the set that nobody uses, with a new generation.
func (c *pageCache) victim(s *cacheSet, first int) int {
	for w := range s.has {
		if s.has[w] == frameEmpty && c.renew(first+w) {
			return w
		}
	}
	for range 2 * cacheWays {
		w := int(s.hand)
		s.hand = (s.hand + 1) % cacheWays
		if s.has[w] == frameLoading {
			continue
		}
		if f := &c.frames[first+w]; f.used.Load() != 0 {
			f.used.Store(0)
			continue
		}
		if c.renew(first + w) {
			return w
		}
	}
	return -1
}

// renew gives a frame its next generation, unless it has pins: from then on no slot
// leads to it.
func (c *pageCache) renew(i int) bool {
	f := &c.frames[i]
	old := f.state.Load()
	if old&(1<<cachePinBits-1) != 0 {
		return false
	}
	return f.state.CompareAndSwap(old, old+1<<cachePinBits)
}

// done ends a load. A page that could be loaded is pinned.
func (c *pageCache) done(k cacheKey, ref frameRef, ok bool) {
	s, first := c.setOf(k)
	s.mu.Lock()
	w := ref.index() - first
	if ok {
		s.has[w] = frameReady
		c.frames[ref.index()].used.Store(1)
		c.frames[ref.index()].state.Add(1)
	} else {
		s.has[w] = frameEmpty
	}
	s.mu.Unlock()
	s.wait.Broadcast()
}
