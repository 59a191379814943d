// SPDX-License-Identifier: Apache-2.0

package vmcore

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/testimage"
)

// readCached reads page pfn as a miss does, whose data are at off: 16 words of off.
func readCached(c *pageCache, pfn uint64, off int64, loads *atomic.Int64) uint64 {
	var b [8]byte
	in := int(pfn%16) * 8
	if c.copy(b[:], pfn, in) {
		return binary.LittleEndian.Uint64(b[:])
	}
	k := cacheKey{off: off}
	ref, answer := c.claim(k, true)
	switch answer {
	case claimNone:
		return uint64(off)
	case claimLoad:
		loads.Add(1)
		for i := 0; i < c.size; i += 8 {
			binary.LittleEndian.PutUint64(c.page(ref)[i:], uint64(off))
		}
		c.done(k, ref, true)
	}
	copy(b[:], c.page(ref)[in:])
	c.link(pfn, ref)
	c.unpin(ref)
	return binary.LittleEndian.Uint64(b[:])
}

// TestPageCache reads pages from many goroutines through a cache that is too small: each
// has the bytes of its own data, wherever those are shared.
func TestPageCache(t *testing.T) {
	c := newPageCache(40*(128+cacheExtra), 128)
	var loads atomic.Int64
	var wait sync.WaitGroup
	for g := range uint64(6) {
		wait.Go(func() {
			rng := rand.New(rand.NewPCG(g, 1))
			for range 30000 {
				pfn := rng.Uint64N(1 << rng.Uint64N(10))
				off := int64(1 + pfn)
				if pfn%3 == 0 {
					off = 7777 // the page of zeros
				}
				if got := readCached(c, pfn, off, &loads); got != uint64(off) {
					t.Errorf("page %d: %d, want %d", pfn, got, off)
					return
				}
			}
		})
	}
	wait.Wait()
	for i := range c.frames {
		if pins := c.frames[i].state.Load() & (1<<cachePinBits - 1); pins != 0 {
			t.Errorf("frame %d has %d pins", i, pins)
		}
	}
	if n := len(c.frames); n != 40 {
		t.Errorf("%d frames", n)
	}
}

// TestPageCacheShares: pages with the same data take one frame, and are loaded once.
func TestPageCacheShares(t *testing.T) {
	c := newPageCache(1<<20, 128)
	var loads atomic.Int64
	for pfn := range uint64(1000) {
		readCached(c, pfn, 5, &loads)
	}
	if n := loads.Load(); n != 1 {
		t.Errorf("%d loads", n)
	}
}

// TestPageCacheOnce: of many who miss the same page one loads it, and the others wait. When
// it fails they try on their own.
func TestPageCacheOnce(t *testing.T) {
	c := newPageCache(1<<20, 128)
	k := cacheKey{off: 9}
	ref, answer := c.claim(k, true)
	if answer != claimLoad {
		t.Fatal(answer)
	}
	if _, answer := c.claim(k, false); answer != claimNone {
		t.Error(answer)
	}
	answers := make(chan int, 5)
	for range 5 {
		go func() {
			ref, answer := c.claim(k, true)
			if answer == claimHit {
				c.unpin(ref)
			}
			answers <- answer
		}()
	}
	select {
	case a := <-answers:
		t.Error("nobody has loaded the page, but", a)
	case <-time.After(20 * time.Millisecond):
	}
	c.done(k, ref, false)
	if a := <-answers; a != claimLoad {
		t.Error(a)
	}
	ref = refOf(ref.index(), c.frames[ref.index()].state.Load()>>cachePinBits)
	c.done(k, ref, true)
	for range 4 {
		if a := <-answers; a != claimHit {
			t.Error(a)
		}
	}
	c.unpin(ref)
}

// TestPageCacheFull: a set whose frames are all in use has none for another page.
func TestPageCacheFull(t *testing.T) {
	c := newPageCache(1, 128)
	var refs []frameRef
	for i := range int64(cacheWays) {
		ref, answer := c.claim(cacheKey{off: i}, true)
		if answer != claimLoad {
			t.Fatal(answer)
		}
		if i%2 == 0 {
			c.done(cacheKey{off: i}, ref, true) // pinned
		}
		refs = append(refs, ref)
	}
	if _, answer := c.claim(cacheKey{off: 100}, true); answer != claimNone {
		t.Error(answer)
	}
	c.unpin(refs[2])
	if ref, answer := c.claim(cacheKey{off: 100}, true); answer != claimLoad || ref.index() != refs[2].index() {
		t.Error(ref, answer)
	}
	if c.link(3, refs[2]); c.copy(make([]byte, 8), 3, 0) {
		t.Error("a frame that has another page now was read")
	}
}

// TestKdumpCacheBytes: the cache has no more memory than it may.
func TestKdumpCacheBytes(t *testing.T) {
	k := testimage.NewKdump(testimage.Random(9, 4096, 400))
	k.SharedZero = false
	m := mustKdump(t, &Options{CacheBytes: 1 << 18}, k.Bytes())
	b := make([]byte, 100)
	for a := remora.Addr(0); uint64(a) < k.Mem.End()*4096; a += 4096 {
		_, _ = m.Memory().ReadAt(context.Background(), b, a+5)
	}
	kept := 0
	for i := range m.f.(*kdump).cache.frames {
		kept += len(m.f.(*kdump).cache.frames[i].buf)
	}
	if kept > 1<<18 || kept < 1<<17 {
		t.Errorf("%d bytes are kept", kept)
	}
}

// TestKdumpReadAhead: small reads one after another take few reads of the file.
func TestKdumpReadAhead(t *testing.T) {
	mem := programPages(t, 128)
	k := testimage.NewKdump(mem)
	k.Compress = testimage.Zlib
	src := kdumpFile("dump", k.Bytes())
	count := &atomicCounter{r: src.r}
	src.r = count
	m, err := openKdumpSources(nil, src)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	count.calls.Store(0)
	b := make([]byte, 512)
	for a := remora.Addr(0); a < 128*4096; a += 512 {
		want, _ := mem.Page(uint64(a / 4096))
		if _, err := m.Memory().ReadAt(context.Background(), b, a); err != nil || string(b) != string(want[a%4096:][:512]) {
			t.Fatal(a, err)
		}
	}
	if n := count.calls.Load(); n > 128/4 {
		t.Errorf("%d reads of the file for 128 pages", n)
	}
}
