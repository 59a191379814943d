// SPDX-License-Identifier: Apache-2.0

package compose

import (
	"context"
	"errors"
	"math/bits"
	"sync"
	"sync/atomic"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/xfer"
)

// CacheOptions are the limits of a cache.
type CacheOptions struct {
	// Bytes bounds the memory that the pages take, 0: 4 MiB. It is rounded up to a
	// power of two, and to 32 KiB at least.
	Bytes int

	// Live keeps pages of a Space that is Live as well: what is read may then be
	// out of date, until Drop.
	Live bool
}

// Cache gives s as a Space that keeps pages that were read; nil options are the
// zero options. It is transparent.
//
// Only plain reads of less than 64 KiB are answered from kept pages; longer ones,
// which would push out all others, and those with remora.Force or Resident go past
// them. Faults are kept as well, but for what may be different the next time:
// contexts that end, ErrIO, and all that is not a fault. A write goes through and
// drops every page, since two addresses may lead to the same byte. A Space that is
// Live is not cached, unless the options ask for it.
//
// When s is closed, what is kept can still be read: close the PageCache with it.
func Cache(s remora.Space, o *CacheOptions) *PageCache {
	if o == nil {
		o = &CacheOptions{}
	}
	size := o.Bytes
	if size <= 0 {
		size = 4 << 20
	}
	order := bits.Len(uint(size-1) / (ways * cachePage))
	c := &PageCache{below: s, live: o.Live, sets: make([]set, 1<<order), shift: 64 - order}
	c.state.Store(writer << writerBits)
	return c
}

// PageCache is what Cache makes: pages of cachePage bytes in sets of a few, the one
// in which a page may be being a function of its number.
type PageCache struct {
	below remora.Space
	live  bool
	gate  xfer.Gate
	sets  []set
	shift int // of a hash, to give the number of a set

	// state counts, in its low bits, the writes that are being made, and above
	// them the times that all pages were dropped. A page counts only while the
	// upper part is what it was when it was read.
	state atomic.Uint64
	doubt atomic.Bool // a write may still happen: nothing can be kept
}

const (
	cachePage  = 4096     // bytes
	ways       = 8        // pages in a set
	bypass     = 64 << 10 // bytes; longer reads are not kept
	writer     = 1        // in state
	writerBits = 16
)

// set is a group of pages with a clock of its own.
type set struct {
	mu   sync.Mutex
	tick uint64
	ways [ways]way
}

// way is a page that may be kept: n bytes, and why there are no more.
type way struct {
	no    uint64 // address / cachePage
	epoch uint64 // state when it was read; 0: never
	used  uint64 // tick of the last use
	data  []byte
	n     int
	err   error
}

var (
	_ remora.Space = (*PageCache)(nil)
	_ xfer.Mover   = (*cacheMover)(nil)
)

// Info is that of the Space below.
func (c *PageCache) Info() remora.Info { return c.below.Info() }

// Unwrap gives the Space below.
func (c *PageCache) Unwrap() any { return c.below }

// Transfer answers reads from the pages that are kept, where that may be done.
func (c *PageCache) Transfer(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
	info := c.below.Info()
	if err := c.gate.Admit(op, info.Ops, info.Writable); err != nil {
		return xfer.Refuse(segs, err)
	}
	defer c.gate.Leave()
	switch {
	case op&remora.Write != 0:
		return c.write(ctx, op, segs)
	case op&(remora.Force|remora.Resident) != 0:
		return c.below.Transfer(ctx, op, segs)
	case info.Live && !c.live:
		c.drop() // it may not have been Live before
		return c.below.Transfer(ctx, op, segs)
	}
	return xfer.Each(ctx, op, segs, (*cacheMover)(c))
}

// Drop forgets every page.
func (c *PageCache) Drop() {
	c.doubt.Store(false)
	c.drop()
}

func (c *PageCache) drop() { c.state.Add(1 << writerBits) }

// Close waits for calls that run, refuses later ones with fs.ErrClosed and frees
// the pages. The Space below stays open.
func (c *PageCache) Close() error {
	if c.gate.Close() {
		c.sets = nil
	}
	return nil
}

// write drops all pages before it writes, and none are kept until it has.
func (c *PageCache) write(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
	c.state.Add(1<<writerBits + writer)
	n, err := c.below.Transfer(ctx, op, segs)
	for i := range segs {
		if errors.Is(segs[i].Err, remora.ErrInDoubt) {
			c.doubt.Store(true)
		}
	}
	c.state.Add(^uint64(writer - 1))
	return n, err
}

// cacheMover is a PageCache as xfer.Each needs it for reads.
type cacheMover PageCache

// Move reads from one page, or past all.
func (m *cacheMover) Move(ctx context.Context, op remora.Op, a remora.Addr, buf []byte) (int, error) {
	c := (*PageCache)(m)
	if len(buf) >= bypass {
		return c.past(ctx, a, buf)
	}
	off := int(a % cachePage)
	buf = buf[:min(len(buf), cachePage-off)]
	no, state := uint64(a)/cachePage, c.state.Load()
	n, err := c.set(no).get(no, state, off, buf)
	if n < 0 {
		n, err = c.fill(ctx, no, state, off, buf)
	}
	if n < 0 {
		return c.past(ctx, a, buf)
	}
	return n, err
}

// set gives the one where page no may be.
func (c *PageCache) set(no uint64) *set {
	const golden = 0x9e3779b97f4a7c15 // 2^64 divided by the golden ratio
	return &c.sets[no*golden>>c.shift]
}

// get fills buf from offset off of page no. n is negative when the page is not
// kept, or does not say what lies there.
func (s *set) get(no, state uint64, off int, buf []byte) (n int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.ways {
		w := &s.ways[i]
		if w.no == no && w.epoch>>writerBits == state>>writerBits {
			s.tick++
			w.used = s.tick
			return prefix(w.data, w.n, w.err, off, buf)
		}
	}
	return -1, nil
}

// prefix fills buf from offset off of a page of which the first n bytes could be
// read. It gives -1 when the reading ended before off: that says nothing of off.
func prefix(page []byte, n int, err error, off int, buf []byte) (int, error) {
	switch {
	case n < off:
		return -1, nil
	case n-off >= len(buf):
		return copy(buf, page[off:]), nil
	}
	return copy(buf, page[off:n]), err
}

// put keeps a page in place of the one that was not used for longest, and gives
// the memory of that one, or nil.
func (s *set) put(no, state uint64, data []byte, n int, err error) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := &s.ways[0]
	for i := range s.ways {
		o := &s.ways[i]
		if o.no == no { // out of date, or read by another at the same time
			w = o
			break
		}
		if o.used < w.used {
			w = o
		}
	}
	s.tick++
	old := w.data
	*w = way{no: no, epoch: state, used: s.tick, data: data, n: n, err: err}
	return old
}

// reader is what it takes to read below.
type reader struct {
	segs [1]remora.Seg
	page []byte
}

var readers = sync.Pool{New: func() any { return new(reader) }}

func (r *reader) read(ctx context.Context, below remora.Space, a remora.Addr, buf []byte) (int, error) {
	r.segs[0] = remora.Seg{Addr: a, Buf: buf}
	below.Transfer(ctx, remora.Read, r.segs[:])
	n, err := r.segs[0].N, r.segs[0].Err
	r.segs[0] = remora.Seg{}
	return n, err
}

// past reads past the cache.
func (c *PageCache) past(ctx context.Context, a remora.Addr, buf []byte) (int, error) {
	r := readers.Get().(*reader)
	n, err := r.read(ctx, c.below, a, buf)
	readers.Put(r)
	return n, err
}

// fill reads page no, keeps it if it may be kept, and fills buf from it, as
// get does.
func (c *PageCache) fill(ctx context.Context, no, state uint64, off int, buf []byte) (int, error) {
	r := readers.Get().(*reader)
	if r.page == nil {
		r.page = make([]byte, cachePage)
	}
	had, cause := r.read(ctx, c.below, remora.Addr(no*cachePage), r.page)
	n, err := prefix(r.page, had, cause, off, buf)
	if state%(1<<writerBits) == 0 && !c.doubt.Load() && xfer.Lasting(cause) {
		r.page = c.set(no).put(no, state, r.page, had, cause)
	}
	readers.Put(r)
	return n, err
}
