// SPDX-License-Identifier: Apache-2.0

package processvm

import (
	"reflect"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/compat/errno"
)

// fewPages is how many pages the kernel can pin without allocating (PVM_MAX_PP_ARRAY_COUNT).
const fewPages = 16

// core is process_vm_rw_core: it finds the process, asks for permission, and walks the
// remote elements while there is local memory left.
func (c *call) core(pid int32, remote []Iovec) (int, errno.Errno) {
	most := c.mostPages(remote)
	if most == 0 {
		return 0, 0 // R14: nobody is looked for
	}
	if most > fewPages && !c.allocate(min(8*most, 2*c.sys.opt.PageSize)) {
		return 0, errno.ENOMEM // R15
	}
	target, mem, e := c.sys.find(pid)
	if e != 0 {
		return 0, e // R16, R17
	}
	if !c.sys.permits(c.caller, target) {
		return 0, errno.EPERM // R18
	}
	c.prepare(mem)
	all := c.iter.left
	if e = c.stage(); e != 0 {
		return 0, e
	}
	for i := range remote {
		if e != 0 || c.iter.left == 0 {
			break
		}
		e = c.singleVec(remote[i].Base, remote[i].Len)
	}
	if moved := all - c.iter.left; moved > 0 {
		return int(moved), 0
	}
	return 0, e
}

// mostPages is how many pages the largest element touches. One that passes the last address
// touches very many, as in the kernel.
func (c *call) mostPages(remote []Iovec) uint64 {
	var most uint64
	for _, v := range remote {
		if v.Len > 0 {
			most = max(most, c.pagesOf(v.Base, v.Len))
		}
	}
	return most
}

func (c *call) pagesOf(a, size uint64) uint64 {
	return (a+size-1)/c.sys.opt.PageSize - a/c.sys.opt.PageSize + 1
}

// sameMemory says whether two Memories are of one Space, seen through what lets itself be seen through. A
// Space that is no pointer is nobody else's.
func sameMemory(a, b *remora.Memory) bool {
	if a == b || a == nil || b == nil {
		return a == b
	}
	x, y := innermost(a), innermost(b)
	t := reflect.TypeOf(x)
	return t.Kind() == reflect.Pointer && t == reflect.TypeOf(y) && x == y
}

func innermost(v any) any {
	for {
		u, ok := v.(interface{ Unwrap() any })
		if !ok {
			return v
		}
		v = u.Unwrap()
	}
}

// prepare looks at the two sides once.
func (c *call) prepare(mem *remora.Memory) {
	c.local, c.remote = newSide(c.caller.Memory), newSide(mem)
	c.byPage = sameMemory(mem, c.caller.Memory) || c.local.mem != nil && mem.Info().Live && c.local.mem.Info().Live
	if c.buffer == nil {
		c.buffer = make([]byte, max(bufferSize, c.sys.opt.PageSize))
	}
}
