// SPDX-License-Identifier: Apache-2.0

package rwmem

import (
	"context"
	"encoding/binary"
	"errors"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/compat/errno"
)

// PTRead is PT_READ_D, and PT_READ_I, of ptrace(2): one int of the process, in its
// byte order. Whatever keeps the four bytes from being read is ENOMEM (R84).
func (p *Proc) PTRead(ctx context.Context, td *Thread, a remora.Addr) (int32, error) {
	var b [4]byte
	if err := p.word(ctx, UIORead, td, b[:], a); err != nil {
		return 0, err
	}
	return int32(p.order().Uint32(b[:])), nil
}

// PTWrite is PT_WRITE_D, and PT_WRITE_I. Where it gives ENOMEM, up to three bytes may
// have been written.
func (p *Proc) PTWrite(ctx context.Context, td *Thread, v int32, a remora.Addr) error {
	var b [4]byte
	p.order().PutUint32(b[:], uint32(v))
	return p.word(ctx, UIOWrite, td, b[:], a)
}

func (p *Proc) order() binary.ByteOrder {
	if p.space.Info().BigEndian {
		return binary.BigEndian
	}
	return binary.LittleEndian
}

func (p *Proc) word(ctx context.Context, rw Direction, td *Thread, b []byte, a remora.Addr) error {
	if err := p.Hold(); err != nil {
		return err
	}
	defer p.Release()
	n, err := p.simple(ctx, rw, td, b, a)
	if n == len(b) {
		return nil
	}
	var e *Error
	if errors.As(err, &e) {
		e.Errno = errno.ENOMEM
	}
	return err
}

// IOOp is what PTIO does (piod_op).
type IOOp int

// The operations, with FreeBSD's numbers.
const (
	IOReadD  IOOp = 1
	IOWriteD IOOp = 2
	IOReadI  IOOp = 3
	IOWriteI IOOp = 4
)

// IODesc is struct ptrace_io_desc.
type IODesc struct {
	Op     IOOp
	Offset remora.Addr // piod_offs: in the process
	Addr   remora.Addr // piod_addr: in the memory of the thread
	Len    uint64      // piod_len: bytes to move, and after success bytes moved
}

var errIOOp = errors.New("no such operation")

// PTIO is PT_IO of ptrace(2), with the error of RWMem. As there, d is as it was when
// the call fails, so that one cannot see how far it came (R84).
func (p *Proc) PTIO(ctx context.Context, td *Thread, d *IODesc) error {
	u := Uio{Iov: []Iovec{{Base: d.Addr, Len: d.Len}}, Offset: d.Offset, Resid: int64(d.Len), Seg: UserSpace, Thread: td}
	switch d.Op {
	case IOReadD, IOReadI:
	case IOWriteD, IOWriteI:
		u.RW = UIOWrite
	default:
		return &Error{Errno: errno.EINVAL, Space: p.space.Info().Name, Addr: d.Offset, Err: errIOOp}
	}
	if err := p.Hold(); err != nil {
		return err
	}
	defer p.Release()
	if err := p.RWMem(ctx, &u); err != nil {
		return err
	}
	d.Len -= uint64(u.Resid)
	return nil
}
