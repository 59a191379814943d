// SPDX-License-Identifier: Apache-2.0

package rwmem

import (
	"context"
	"errors"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/compat/errno"
)

// Direction says which way a Uio goes (enum uio_rw).
type Direction uint8

// The directions, from the chair of the one who has the vector.
const (
	UIORead  Direction = iota // from the process into the vector
	UIOWrite                  // from the vector into the process
)

// Segment says where the vector of a Uio lies (enum uio_seg).
type Segment uint8

// The places.
const (
	SysSpace  Segment = iota // in the caller's own memory: Iovec.Buf
	UserSpace                // in the address space of Uio.Thread: Iovec.Base and Len
	NoCopy                   // nowhere: the Uio advances, and no byte is copied; Iovec.Len
)

// Iovec is one element of a vector.
type Iovec struct {
	Buf  []byte      // for SysSpace
	Base remora.Addr // for UserSpace
	Len  uint64      // bytes, for UserSpace and NoCopy
}

func (v *Iovec) size(s Segment) uint64 {
	if s == SysSpace {
		return uint64(len(v.Buf))
	}
	return v.Len
}

func (v *Iovec) advance(s Segment, n uint64) {
	if s == SysSpace {
		v.Buf = v.Buf[n:]
		return
	}
	v.Base, v.Len = v.Base+remora.Addr(n), v.Len-n
}

// Thread is on whose behalf a call is made (struct thread). A nil Thread has
// nothing: no memory and no privilege.
type Thread struct {
	Memory     remora.Space // of its process: what UserSpace means
	Proc       *Proc        // its process; that one need not be held (R71)
	Privileged bool         // it has PRIV_PROC_MEM_WRITE (R75)
}

// Uio is a request and its progress (uio(9)). A call takes from it what it moves:
// Iov loses its elements from the front, in place, Resid goes down and Offset up, also
// when the call fails later.
type Uio struct {
	Iov    []Iovec
	Offset remora.Addr // in the process
	Resid  int64       // bytes left; at most what Iov holds
	RW     Direction
	Seg    Segment
	Thread *Thread
}

var (
	errShortVector = errors.New("the vector is shorter than the residual")
	errNoMemory    = errors.New("the vector is in user space, and the thread has no memory")
)

// Move is uiomove(9): it copies between p and the vector, in the direction of u, at
// most Resid bytes, and advances u. A failure is an *Error about the caller's memory.
// The part of an element that failed is not counted, even where some of its bytes have
// been copied.
func (u *Uio) Move(ctx context.Context, p []byte) error {
	if int64(len(p)) > u.Resid {
		p = p[:max(u.Resid, 0)]
	}
	if u.RW == UIOWrite {
		n, err := u.gather(ctx, p)
		u.advance(n)
		return err
	}
	return u.scatter(ctx, p)
}

// scatter copies p into the vector, and advances u by what was copied.
func (u *Uio) scatter(ctx context.Context, p []byte) error {
	for len(p) > 0 {
		if len(u.Iov) == 0 {
			return u.invalid(errShortVector)
		}
		n := min(uint64(len(p)), u.Iov[0].size(u.Seg))
		if n > 0 {
			if err := u.element(ctx, &u.Iov[0], p[:n]); err != nil {
				return err
			}
		}
		u.advance(n)
		p = p[n:]
	}
	return nil
}

// gather fills p from the vector, and does not advance u: it gives how many bytes it
// could have, and why no more.
func (u *Uio) gather(ctx context.Context, p []byte) (got uint64, err error) {
	for i := 0; got < uint64(len(p)); i++ {
		if i == len(u.Iov) {
			return got, u.invalid(errShortVector)
		}
		v := u.Iov[i]
		n := min(uint64(len(p))-got, v.size(u.Seg))
		if n == 0 {
			continue
		}
		if err := u.element(ctx, &v, p[got:got+n]); err != nil {
			return got, err
		}
		got += n
	}
	return got, nil
}

// element copies between all of p and the front of v.
func (u *Uio) element(ctx context.Context, v *Iovec, p []byte) error {
	switch {
	case u.Seg == NoCopy:
		return nil
	case u.Seg == SysSpace && u.RW == UIORead:
		copy(v.Buf, p)
		return nil
	case u.Seg == SysSpace:
		copy(p, v.Buf)
		return nil
	}
	if u.Thread == nil || u.Thread.Memory == nil {
		return u.invalid(errNoMemory)
	}
	op := remora.Read // copyin: from the user to the kernel
	if u.RW == UIORead {
		op = remora.Write
	}
	segs := [1]remora.Seg{{Addr: v.Base, Buf: p}}
	if _, err := u.Thread.Memory.Transfer(ctx, op, segs[:]); err != nil {
		return &Error{Errno: number(err), Op: op, Space: u.Thread.Memory.Info().Name,
			Addr: v.Base + remora.Addr(segs[0].N), Caller: true, Err: err}
	}
	return nil
}

// advance takes n bytes off u, and empty elements off the front of its vector.
func (u *Uio) advance(n uint64) {
	u.Offset += remora.Addr(n)
	u.Resid -= int64(n)
	for len(u.Iov) > 0 {
		v := &u.Iov[0]
		part := min(n, v.size(u.Seg))
		v.advance(u.Seg, part)
		n -= part
		if v.size(u.Seg) > 0 {
			return
		}
		u.Iov = u.Iov[1:]
	}
}

func (u *Uio) invalid(err error) error {
	return &Error{Errno: errno.EINVAL, Op: u.op(), Addr: u.Offset, Caller: true, Err: err}
}

// op is the direction, seen from the process.
func (u *Uio) op() remora.Op {
	if u.RW == UIOWrite {
		return remora.Write
	}
	return remora.Read
}
