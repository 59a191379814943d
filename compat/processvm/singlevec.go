// SPDX-License-Identifier: Apache-2.0

package processvm

import "github.com/remora-go/remora/compat/errno"

// singleVec is process_vm_rw_single_vec: it pins one remote element batch by batch, and has what is
// pinned copied, until either side ends or faults.
func (c *call) singleVec(a, size uint64) errno.Errno {
	room := -a // up to the last address; 0 is all of them
	past := a != 0 && size > room
	if past {
		size = room
	}
	for size > 0 && c.iter.left > 0 {
		n := min(size, c.batch(a))
		if c.sys.opt.Granularity == Element {
			n = min(size, c.iter.left)
		}
		n, e := c.pin(a, n)
		if n == 0 {
			return e // R23, R31
		}
		before := c.iter
		if e := c.pages(a, n); e != 0 {
			if c.undone() {
				c.iter = before
			}
			return e
		}
		a, size = a+n, size-n
	}
	if past && c.iter.left > 0 {
		return errno.EFAULT // R46
	}
	return 0
}

// batch is how many bytes from a on are pinned at a time: PVM_MAX_USER_PAGES pages, as many as
// two pages hold pointers to (R28).
func (c *call) batch(a uint64) uint64 {
	page := c.sys.opt.PageSize
	return 2*page/8*page - a%page
}

// pin brings the pages of the next n bytes into memory, all of them, however little local
// memory there is left (R28), and says how many of these bytes can be accessed. Where the Space is no
// Pinner that is not known, and copying finds out.
func (c *call) pin(a, n uint64) (uint64, errno.Errno) {
	if c.sys.opt.Granularity != Page {
		return c.pinWhole(a, n)
	}
	if c.remote.pinner == nil {
		return n, 0
	}
	got, err := c.remote.pin(c.ctx, c.op, a, n)
	if got == 0 {
		return 0, c.number(&c.remote, err)
	}
	return got, 0
}
