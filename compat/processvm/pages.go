// SPDX-License-Identifier: Apache-2.0

package processvm

import (
	"context"
	"errors"
	"io/fs"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/compat/errno"
)

// bufferSize is how much is on its way at a time. It stays in the processor's second cache.
const bufferSize = 64 << 10

// Pinner is what a Space may offer so that the engine can do to it what the kernel does.
//
// Pin makes the pages of r accessible for op, remora.Read or remora.Write, as a load or a
// store in each would: it allocates, copies on write, and reads from disk, and
// moves no byte. It says how many bytes from r.Start on can be accessed, and if these are not all why
// not. memtest.Sparse has it.
type Pinner interface {
	Pin(ctx context.Context, op remora.Op, r remora.Range) (uint64, error)
}

// Direct is what a Space may offer to have memory moved from another one to it without a buffer between
// the two, as the kernel does. MoveFrom moves up to n bytes from b in src to a, and says how many. It stops where
// it would have to do more than that, be it at a fault; a Transfer tells why, and goes on. memtest.Sparse has
// it for another Sparse.
type Direct interface {
	MoveFrom(ctx context.Context, a remora.Addr, src remora.Space, b remora.Addr, n uint64) uint64
}

// side is the memory of one of the two processes.
type side struct {
	mem    *remora.Memory
	bits   remora.Op    // what mem adds to every operation
	pinner Pinner       // nil: it is none
	space  remora.Space // below mem; nil: not to be used past it
	direct Direct       // nil: space is none
}

func newSide(mem *remora.Memory) side {
	s := side{mem: mem}
	if mem == nil {
		return s
	}
	s.bits = mem.Bits()
	s.pinner, _ = remora.As[Pinner](mem)
	if s.bits == 0 {
		s.space, _ = mem.Unwrap().(remora.Space)
		s.direct, _ = s.space.(Direct)
	}
	return s
}

// pin asks the Pinner, which must be there.
func (s *side) pin(ctx context.Context, op remora.Op, a, n uint64) (uint64, error) {
	return s.pinner.Pin(ctx, op|s.bits, remora.Range{Start: remora.Addr(a), Size: n})
}

// pages is process_vm_rw_pages: it copies n bytes at a, which are pinned, from or to the local
// memory, and stops exactly at a fault on either side. That the local memory ends is none.
func (c *call) pages(a, n uint64) errno.Errno {
	for n > 0 && c.iter.left > 0 {
		if done := c.moveDirect(a, n); done > 0 {
			a, n = a+done, n-done
			continue
		}
		var done uint64
		var e errno.Errno
		if b := c.buffer[:c.step(a, n)]; c.write {
			done, e = c.copyTo(a, b)
		} else {
			done, e = c.copyFrom(a, b)
		}
		if e != 0 {
			return e
		}
		a, n = a+done, n-done
	}
	return 0
}

// moveDirect moves as much of the next n bytes, in one local element, as can be moved without a
// buffer. It may be none.
func (c *call) moveDirect(a, n uint64) (done uint64) {
	at, n := c.iter.piece(n)
	switch {
	case c.byPage:
		return 0
	case c.write && c.remote.direct != nil && c.local.space != nil:
		done = c.remote.direct.MoveFrom(c.ctx, remora.Addr(a), c.local.space, remora.Addr(at), n)
	case !c.write && c.local.direct != nil && c.remote.space != nil:
		done = c.local.direct.MoveFrom(c.ctx, remora.Addr(at), c.remote.space, remora.Addr(a), n)
	}
	c.iter.advance(done)
	return done
}

// step is how many bytes are moved next. Where a byte that is written may be read later, that is what the
// kernel moves: up to the end of a page or of a local element.
func (c *call) step(a, n uint64) uint64 {
	n = min(n, c.iter.left)
	if !c.byPage {
		return min(n, uint64(len(c.buffer))-a%c.sys.opt.PageSize)
	}
	_, piece := c.iter.piece(n)
	return min(piece, c.sys.opt.PageSize-a%c.sys.opt.PageSize)
}

// copyFrom moves len(b) bytes from the remote memory through b to the local one.
func (c *call) copyFrom(a uint64, b []byte) (uint64, errno.Errno) {
	got, err := c.transfer(&c.remote, remora.Read, a, b)
	e := c.number(&c.remote, err)
	for b = b[:got]; len(b) > 0; {
		at, n := c.iter.piece(uint64(len(b)))
		put, err := c.transfer(&c.local, remora.Write, at, b[:n])
		c.iter.advance(uint64(put))
		if err != nil {
			return 0, c.number(&c.local, err) // R26
		}
		b = b[n:]
	}
	return uint64(got), e
}

// copyTo moves len(b) bytes from the local memory through b to the remote one. What
// has been taken and not been stored is not counted.
func (c *call) copyTo(a uint64, b []byte) (uint64, errno.Errno) {
	have, local := c.gather(b)
	put, err := c.transfer(&c.remote, remora.Write, a, b[:have])
	c.iter.advance(uint64(put))
	if err != nil {
		return 0, c.number(&c.remote, err)
	}
	if local != nil {
		return 0, c.number(&c.local, local)
	}
	return uint64(put), 0
}

// gather fills b from the local memory, and leaves the iterator where it is.
func (c *call) gather(b []byte) (int, error) {
	have := 0
	for it := c.iter; have < len(b); {
		at, n := it.piece(uint64(len(b) - have))
		got, err := c.transfer(&c.local, remora.Read, at, b[have:have+int(n)])
		it.advance(uint64(got))
		have += got
		if err != nil {
			return have, err
		}
	}
	return have, nil
}

// transfer moves one run. What the processor lets the caller read is not what
// protections say, so that is tried again.
func (c *call) transfer(s *side, op remora.Op, a uint64, b []byte) (int, error) {
	switch {
	case len(b) == 0:
		return 0, nil
	case s.mem == nil: // a caller without memory
		return 0, remora.ErrUnmapped
	}
	seg := &c.seg[0]
	seg.Addr, seg.Buf = remora.Addr(a), b
	s.mem.Transfer(c.ctx, op, c.seg[:])
	n, err := seg.N, seg.Err
	seg.Buf = nil
	if s == &c.local && op == remora.Read && errors.Is(err, remora.ErrProtected) {
		return c.load(n, a, b)
	}
	return n, err
}

// number gives what the kernel says of a failure at s (R31), and remembers that it was there.
func (c *call) number(s *side, err error) errno.Errno {
	if err == nil {
		return 0
	}
	c.failed = s
	switch {
	case c.ctx.Err() != nil:
		return errno.EINTR
	case s == &c.remote && (errors.Is(err, remora.ErrGone) || errors.Is(err, fs.ErrClosed)):
		return errno.ESRCH
	}
	return errno.EFAULT
}
