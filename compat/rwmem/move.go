// SPDX-License-Identifier: Apache-2.0

package rwmem

import (
	"context"

	"github.com/remora-go/remora"
)

// move is one RWMem under way.
type move struct {
	*Proc
	u      *Uio
	buf    []byte
	segs   [1]remora.Seg
	region remora.Region // the last that was looked up
}

// way is how a page that has been faulted is written.
type way uint8

const (
	plainly  way = iota
	forced       // into a private copy, whatever the protection; with the instruction cache
	inPlace      // a shared mapping that is read-only now
	refused      // not at all
	unguided     // by a Space that has no map
)

// run moves page after page. It faults one page at least (R77).
func (m *move) run(ctx context.Context) error {
	for {
		from := m.u.Offset
		if err := m.one(ctx, from); err != nil || m.u.Resid == 0 {
			return err
		}
		if m.u.Offset < from {
			return m.fault(0, remora.ErrUnmapped) // past the last address
		}
	}
}

// one moves what of the request lies in the page of va.
func (m *move) one(ctx context.Context, va remora.Addr) error {
	// With 64 bits: a residual of 4 GiB is not 0 (R82).
	size := uint64(len(m.buf))
	part := m.buf[:min(size-uint64(va)&(size-1), uint64(m.u.Resid))]
	if m.u.RW == UIORead {
		return m.read(ctx, va, part)
	}
	how, err := m.way(ctx, va)
	if err == nil && (len(part) == 0 || m.u.Seg == UserSpace || how == unguided) {
		err = m.probe(ctx, va) // the page is faulted before the vector is looked at
	}
	if err == nil && len(part) == 0 && how == inPlace {
		_, err = m.shared.WriteShared(ctx, nil, va)
	}
	if err != nil {
		return m.fault(va, err)
	}
	return m.write(ctx, va, part, how)
}

// read moves a part of a page into the vector.
func (m *move) read(ctx context.Context, va remora.Addr, part []byte) error {
	if len(part) == 0 {
		if err := m.probe(ctx, va); err != nil {
			return m.fault(va, err)
		}
		return nil
	}
	n, err := m.transfer(ctx, remora.Read, va, part)
	if caller := m.u.scatter(ctx, part[:n]); caller != nil {
		return caller
	}
	if err != nil {
		return m.fault(va+remora.Addr(n), err)
	}
	return nil
}

// write moves the front of the vector into a part of a page. What is counted was
// written; where the vector fails in its midst, what comes before is.
func (m *move) write(ctx context.Context, va remora.Addr, part []byte, how way) error {
	got, caller := m.u.gather(ctx, part)
	if m.u.Seg == NoCopy {
		m.u.advance(got)
		return caller
	}
	if part = part[:got]; got == 0 {
		return caller
	}
	n, err := m.store(ctx, va, part, how)
	if n > 0 && m.icache != nil && m.region.Perm&remora.PermExec != 0 && m.region.Contains(va) {
		if bad := m.icache.SyncInstructions(ctx, remora.Range{Start: va, Size: uint64(n)}); err == nil {
			err = bad
		}
	}
	m.u.advance(uint64(n))
	if err != nil {
		return m.fault(va+remora.Addr(n), err)
	}
	return caller
}

func (m *move) store(ctx context.Context, va remora.Addr, part []byte, how way) (int, error) {
	op := remora.Write
	switch how {
	case inPlace:
		return m.shared.WriteShared(ctx, part, va)
	case forced, unguided:
		op |= m.space.Info().Ops & remora.Force
	}
	return m.transfer(ctx, op, va, part)
}

// way asks the map how the page of va is written, or why it is not: the rule is
// that of a fault that asks for a readable page and a copy of it (R74).
func (m *move) way(ctx context.Context, va remora.Addr) (way, error) {
	if m.mapper == nil {
		return unguided, nil
	}
	if err := m.lookup(ctx, va); err != nil {
		return refused, err
	}
	r := &m.region
	switch {
	case r.Perm&remora.PermRead == 0:
		return refused, remora.ErrProtected
	case r.Perm&remora.PermWrite == 0 && r.Shared && m.shared == nil:
		return refused, remora.ErrProtected
	case r.Perm&remora.PermWrite == 0 && r.Shared:
		return inPlace, nil
	case r.Perm&(remora.PermWrite|remora.PermExec) == remora.PermWrite:
		return plainly, nil
	}
	// Also where it may be both written and executed: on Linux only a write of a
	// debugger's kind makes the instruction cache see it.
	return forced, nil
}

// lookup finds the region of va. One that is plainly writable is asked for once,
// since the Space then judges the protection of each page by itself.
func (m *move) lookup(ctx context.Context, va remora.Addr) error {
	const plain = remora.PermRead | remora.PermWrite
	if m.region.Contains(va) && m.region.Perm&(plain|remora.PermExec) == plain {
		return nil
	}
	m.region = remora.Region{}
	for r, err := range m.mapper.Regions(ctx) {
		switch {
		case err != nil:
			return err
		case r.Contains(va):
			m.region = r
			return nil
		case r.Start > va:
			return remora.ErrUnmapped
		}
	}
	return remora.ErrUnmapped
}

// probe faults the page of va for reading.
func (m *move) probe(ctx context.Context, va remora.Addr) error {
	var b [1]byte
	_, err := m.transfer(ctx, remora.Read, va, b[:])
	return err
}

func (m *move) transfer(ctx context.Context, op remora.Op, va remora.Addr, p []byte) (int, error) {
	m.segs[0] = remora.Seg{Addr: va, Buf: p}
	_, err := m.space.Transfer(ctx, op, m.segs[:])
	return m.segs[0].N, err
}

// fault is the *Error of a page of the process.
func (m *move) fault(va remora.Addr, err error) error {
	return &Error{Errno: number(err), Op: m.u.op(), Space: m.space.Info().Name, Addr: va, Err: err}
}
