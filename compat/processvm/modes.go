// SPDX-License-Identifier: Apache-2.0

package processvm

import (
	"github.com/remora-go/remora"
	"github.com/remora-go/remora/compat/errno"
)

// What the other granularities have of their own is in this file. Both want to know that all of a
// unit can be accessed before they move any of it. A Pinner says so, and so does a read. Whether memory
// can be written cannot be found out otherwise: there what was written of a unit
// before the fault stays, and is not counted.

// pinWhole is pin for units that are moved as a whole or not at all.
func (c *call) pinWhole(a, n uint64) (uint64, errno.Errno) {
	got, err := c.reach(&c.remote, c.op, a, n)
	if got < n {
		return 0, c.number(&c.remote, err)
	}
	return n, 0
}

// reach says how many of n bytes can be accessed, as far as that can be known without
// writing.
func (c *call) reach(s *side, op remora.Op, a, n uint64) (uint64, error) {
	if s.pinner != nil && (s == &c.remote || op != remora.Read) { // what the processor can load is known from trying
		return s.pin(c.ctx, op, a, n)
	}
	if op != remora.Read {
		return n, nil
	}
	var got uint64
	for got < n {
		m, err := c.transfer(s, op, a+got, c.buffer[:min(n-got, uint64(len(c.buffer)))])
		if got += uint64(m); err != nil {
			return got, err
		}
	}
	return got, nil
}

// stage looks at all of the caller's memory before the first byte is moved, as the
// manual says that the system does.
func (c *call) stage() errno.Errno {
	if c.sys.opt.Granularity != Element {
		return 0
	}
	op := remora.Write - c.op // the other one
	for it := c.iter; it.left > 0; {
		a, n := it.piece(it.left)
		got, err := c.reach(&c.local, op, a, n)
		if got < n {
			return c.number(&c.local, err)
		}
		it.advance(n)
	}
	return 0
}

// undone says whether what was moved of a unit before it failed is not to be counted.
func (c *call) undone() bool {
	switch c.sys.opt.Granularity {
	case Element:
		return true
	case Batch:
		return c.failed == &c.remote
	}
	return false
}
