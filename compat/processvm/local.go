// SPDX-License-Identifier: Apache-2.0

package processvm

import "github.com/remora-go/remora"

// iterator is a place in the local memory. What it has left is capped, the elements are not.
type iterator struct {
	vec  []Iovec
	off  uint64 // in vec[0]
	left uint64 // bytes
}

// piece gives the next run of at most n bytes. There must be some left.
func (it *iterator) piece(n uint64) (a, size uint64) {
	for it.vec[0].Len == 0 {
		it.vec = it.vec[1:]
	}
	return it.vec[0].Base + it.off, min(n, it.left, it.vec[0].Len-it.off)
}

// advance goes on by n bytes, which are there.
func (it *iterator) advance(n uint64) {
	it.left -= n
	for n += it.off; n > 0 && n >= it.vec[0].Len; it.vec = it.vec[1:] {
		n -= it.vec[0].Len
	}
	it.off = n
}

// load goes on with a read of the caller's own memory, of which n bytes are done and the
// next one is protected. The processor does not know memory that can be written and not read, nor, on
// some machines, memory that can only be executed (R38).
func (c *call) load(n int, a uint64, b []byte) (int, error) {
	mem := c.local.mem
	m, ok := remora.As[remora.Mapper](mem)
	if !ok || mem.Info().Ops&remora.Force == 0 {
		return n, remora.ErrProtected
	}
	for n < len(b) {
		r, found := regionAt(c, m, remora.Addr(a+uint64(n)))
		if !found || !c.loadable(r.Perm) {
			return n, remora.ErrProtected
		}
		end := min(uint64(len(b)), uint64(n)+uint64(r.Last()-remora.Addr(a+uint64(n)))+1)
		seg := &c.seg[0]
		seg.Addr, seg.Buf = remora.Addr(a+uint64(n)), b[n:end]
		mem.Transfer(c.ctx, remora.Force, c.seg[:])
		n += seg.N
		if seg.Buf = nil; seg.Err != nil {
			return n, seg.Err
		}
	}
	return n, nil
}

// loadable says whether a load can succeed.
func (c *call) loadable(p remora.Perm) bool {
	return p&(remora.PermRead|remora.PermWrite) != 0 || p&remora.PermExec != 0 && !c.sys.opt.ExecuteOnly
}

func regionAt(c *call, m remora.Mapper, a remora.Addr) (remora.Region, bool) {
	for r, err := range m.Regions(c.ctx) {
		if err != nil {
			break
		}
		if r.Contains(a) {
			return r, true
		}
	}
	return remora.Region{}, false
}
