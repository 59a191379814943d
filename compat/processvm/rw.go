// SPDX-License-Identifier: Apache-2.0

package processvm

import (
	"context"
	"encoding/binary"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/compat/errno"
)

// fastIOV is how many elements the kernel has room for without allocating (UIO_FASTIOV, R15).
const fastIOV = 8

// call is one call on its way, with the scratch that it needs.
type call struct {
	sys    *System
	ctx    context.Context
	caller *Process
	write  bool
	op     remora.Op // what is done to the remote memory

	iter   iterator // over the local memory
	local  side
	remote side
	byPage bool  // the two sides may be one memory
	failed *side // where it failed last

	localVec, remoteVec []Iovec // those read from the caller's memory
	array               []byte  // the arrays as they are there
	buffer              []byte  // what is on its way
	seg                 [1]remora.Seg
}

func newCall(s *System) *call { return &call{sys: s} }

// reset forgets what belongs to the caller.
func (c *call) reset() {
	c.ctx, c.caller, c.iter, c.local, c.remote, c.failed = nil, nil, iterator{}, side{}, side{}, nil
	c.seg[0] = remora.Seg{}
}

// vector is an argument: elements at hand, or an address in the caller's memory.
type vector struct {
	vec      []Iovec
	inMemory bool
	compat   bool // elements of 8 bytes
	addr     uint64
	count    uint64
}

func (v *vector) len() uint64 {
	if v.inMemory {
		return v.count
	}
	return uint64(len(v.vec))
}

// elementSize is that of an element in memory.
func (v *vector) elementSize() uint64 {
	if v.compat {
		return 8
	}
	return 16
}

// rw is process_vm_rw: it checks the vectors, in this order, before anything else (R19).
func (c *call) rw(pid int32, local, remote vector, flags uint64) (int, errno.Errno) {
	if flags != 0 {
		return 0, errno.EINVAL // R2
	}
	c.op = operation(c.write)
	c.local = side{mem: c.caller.Memory}
	vec, e := c.imported(&c.localVec, local)
	if e != 0 {
		return 0, e
	}
	if e := c.iterate(vec); e != 0 {
		return 0, e
	}
	if c.iter.left == 0 {
		return 0, 0 // R5, R12: the remote vector is not looked at
	}
	vec, e = c.imported(&c.remoteVec, remote)
	if e != 0 {
		return 0, e
	}
	return c.core(pid, vec)
}

// imported is iovec_from_user: the elements of a vector, all read before any is used (R6).
func (c *call) imported(into *[]Iovec, v vector) ([]Iovec, errno.Errno) {
	n := v.len()
	switch {
	case n == 0:
		return nil, 0
	case n > IOVMax:
		return nil, errno.EINVAL // R4
	case n > fastIOV && !c.allocate(n*16):
		return nil, errno.ENOMEM // R15
	case v.inMemory:
		return c.fetched(into, v)
	}
	for i := range v.vec {
		if v.vec[i].Len > ssizeMax {
			return nil, errno.EINVAL // R7
		}
	}
	return v.vec, 0
}

const ssizeMax = 1<<63 - 1

// fetched reads a vector from the caller's memory. Entries are looked at in order: one that
// cannot be read and one with a bad length are told apart by which comes first (R7), which
// is so since copy_iovec_from_user of Linux 6.4.
func (c *call) fetched(into *[]Iovec, v vector) ([]Iovec, errno.Errno) {
	size := v.count * v.elementSize()
	if !c.inRange(v.addr, size) || c.caller.Memory == nil {
		return nil, errno.EFAULT
	}
	if c.array == nil {
		c.array = make([]byte, IOVMax*16)
	}
	if *into == nil {
		*into = make([]Iovec, IOVMax)
	}
	got, _ := c.transfer(&c.local, remora.Read, v.addr, c.array[:size])
	var order binary.ByteOrder = binary.LittleEndian
	if c.caller.Memory.Info().BigEndian {
		order = binary.BigEndian
	}
	if c.sys.opt.ArrayFirst && uint64(got) < size {
		return nil, errno.EFAULT
	}
	vec := (*into)[:v.count]
	for i := range vec {
		at, end := uint64(i)*v.elementSize(), uint64(i+1)*v.elementSize()
		if uint64(got) < end {
			return nil, errno.EFAULT
		}
		if !vec[i].decode(order, c.array[at:end]) {
			return nil, errno.EINVAL
		}
	}
	return vec, 0
}

// decode takes an element as it is in memory, and says whether its length is not negative.
func (v *Iovec) decode(order binary.ByteOrder, b []byte) bool {
	if len(b) == 8 {
		v.Base, v.Len = uint64(order.Uint32(b)), uint64(order.Uint32(b[4:]))
		return v.Len <= 1<<31-1
	}
	v.Base, v.Len = order.Uint64(b), order.Uint64(b[8:])
	return v.Len <= ssizeMax
}

// iterate is what import_iovec does beyond iovec_from_user: addresses are checked, unmapped or
// not, and the sum is capped.
func (c *call) iterate(vec []Iovec) errno.Errno {
	most := c.maxRW()
	if len(vec) == 1 && !c.sys.opt.ArrayFirst { // import_ubuf, since Linux 6.4: capped first, then checked (R10)
		n := min(vec[0].Len, most)
		if !c.inRange(vec[0].Base, n) {
			return errno.EFAULT
		}
		c.iter = iterator{vec: vec, left: n}
		return 0
	}
	var sum uint64
	for i := range vec {
		if !c.inRange(vec[i].Base, vec[i].Len) {
			return errno.EFAULT // R8, R9
		}
		sum += min(vec[i].Len, most-sum) // R11
	}
	c.iter = iterator{vec: vec, left: sum}
	return 0
}

// maxRW is MAX_RW_COUNT: INT_MAX in whole pages.
func (c *call) maxRW() uint64 { return (1<<31 - 1) &^ (c.sys.opt.PageSize - 1) }

// inRange is access_ok: whether a caller may name these addresses at all.
func (c *call) inRange(a, size uint64) bool {
	return a+size >= a && a+size <= c.sys.opt.UserEnd
}

func (c *call) allocate(size uint64) bool {
	return c.sys.opt.Allocate == nil || c.sys.opt.Allocate(size)
}
