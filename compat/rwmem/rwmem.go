// SPDX-License-Identifier: Apache-2.0

package rwmem

import (
	"context"
	"errors"
	"math"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/compat/errno"
)

var errLength = errors.New("the residual is negative, or SSIZE_MAX")

// RWMem is proc_rwmem(9). It moves u.Resid bytes between the process, from u.Offset
// on, and the vector of u. The error is nil or an *Error; u shows how far it came. The
// process must be held, but by a Thread of its own.
func (p *Proc) RWMem(ctx context.Context, u *Uio) error {
	if err := p.admit(u); err != nil {
		return err
	}
	m, _ := p.moves.Get().(*move)
	if m == nil {
		m = &move{buf: make([]byte, p.page)}
	}
	m.Proc, m.u = p, u
	err := m.run(ctx)
	*m = move{buf: m.buf}
	p.moves.Put(m)
	return err
}

// admit checks what can be checked before anything is touched.
func (p *Proc) admit(u *Uio) error {
	e := &Error{Op: u.op(), Space: p.space.Info().Name, Addr: u.Offset}
	switch {
	case !p.held(u.Thread):
		e.Errno, e.Err = errno.EINVAL, ErrNotHeld
	case u.Resid < 0 || u.Resid == math.MaxInt64: // R80
		e.Errno, e.Err = errno.EINVAL, errLength
	case u.RW == UIORead:
		return nil
	case p.opts.NeedPrivilege && (u.Thread == nil || !u.Thread.Privileged): // R75
		e.Errno = errno.EPERM
	case !p.space.Info().Writable:
		e.Errno, e.Err = errno.EPERM, remora.ErrReadOnly
	default:
		return nil
	}
	return e
}

// ReadMem is proc_readmem(9): it reads len(buf) bytes at va. It gives the bytes read,
// or -1 when there are none, also when none were asked for (R78, R79). Where that is
// not all of buf the error, which FreeBSD does not give, is an *Error that says why.
func (p *Proc) ReadMem(ctx context.Context, td *Thread, buf []byte, va remora.Addr) (int, error) {
	return p.simple(ctx, UIORead, td, buf, va)
}

// WriteMem is proc_writemem(9): it writes buf at va, with the result of ReadMem.
func (p *Proc) WriteMem(ctx context.Context, td *Thread, buf []byte, va remora.Addr) (int, error) {
	return p.simple(ctx, UIOWrite, td, buf, va)
}

// simple is proc_iop: one element in the caller's own memory.
func (p *Proc) simple(ctx context.Context, rw Direction, td *Thread, buf []byte, va remora.Addr) (int, error) {
	u := Uio{Iov: []Iovec{{Buf: buf}}, Offset: va, Resid: int64(len(buf)), RW: rw, Thread: td}
	err := p.RWMem(ctx, &u)
	if n := len(buf) - int(u.Resid); n > 0 {
		return n, err
	}
	if err == nil {
		err = &Error{Op: u.op(), Space: p.space.Info().Name, Addr: va, Err: ErrNothing}
	}
	return -1, err
}
