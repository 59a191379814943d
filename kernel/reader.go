// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"iter"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/btf"
)

// reader reads values of structures. The first error stays, and what is read after it is
// zero, so that callers look once.
type reader struct {
	ctx   context.Context
	mem   *remora.Memory
	order binary.ByteOrder
	err   error
}

func (k *Kernel) reader(ctx context.Context) *reader {
	return &reader{ctx: ctx, mem: k.mem, order: binary.LittleEndian}
}

// bytes fills buf from a.
func (r *reader) bytes(a remora.Addr, buf []byte) {
	if r.err == nil {
		_, r.err = r.mem.ReadAt(r.ctx, buf, a)
	}
	if r.err != nil {
		clear(buf)
	}
}

// uint reads an integer member of the structure at a. A signed one is extended.
func (r *reader) uint(a remora.Addr, f field) uint64 {
	var b [8]byte
	n := int(min(f.size, 8))
	r.bytes(a+remora.Addr(f.off), b[:n])
	return f.value(b[:n], r.order)
}

// ptr reads a pointer member of the structure at a.
func (r *reader) ptr(a remora.Addr, f field) remora.Addr { return remora.Addr(r.uint(a, f)) }

// text reads a member that is an array of characters, up to its first zero.
func (r *reader) text(a remora.Addr, f field) string {
	b := make([]byte, min(f.size, 4096))
	r.bytes(a+remora.Addr(f.off), b)
	b, _, _ = bytes.Cut(b, []byte{0})
	return string(b)
}

// value decodes the bytes of an integer.
func (f field) value(b []byte, order binary.ByteOrder) uint64 {
	return btf.Integer(b, order, f.bit, f.bits, f.signed)
}

// maxList is the largest number of entries that a list is believed to have.
const maxList = 4 << 20

// list gives the structures on the list whose head is at head, each at the address of its
// member link less that member's offset. A list that does not come back to its head, that
// runs in a circle or cannot be read ends with an error.
func (r *reader) list(head remora.Addr, link field) iter.Seq[remora.Addr] {
	return func(yield func(remora.Addr) bool) {
		next := field{size: 8}
		seen := map[remora.Addr]bool{}
		for a := r.ptr(head, next); r.err == nil && a != head; a = r.ptr(a, next) {
			switch {
			case seen[a]:
				r.err = fmt.Errorf("the list at %v runs in a circle at %v: %w", head, a, remora.ErrCorrupt)
			case len(seen) >= maxList:
				r.err = fmt.Errorf("the list at %v has more than %d entries: %w", head, maxList, remora.ErrCorrupt)
			}
			if r.err != nil {
				return
			}
			seen[a] = true
			if !yield(a - remora.Addr(link.off)) {
				return
			}
		}
	}
}
