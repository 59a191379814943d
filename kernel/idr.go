// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/remora-go/remora"
)

// idrFields are the members of a node of an XArray (include/linux/xarray.h).
type idrFields struct {
	xaShift, xaSlots field
}

func (f *idrFields) members() []wanted {
	return []wanted{
		{&f.xaShift, "xa_node.shift", true},
		{&f.xaSlots, "xa_node.slots", true},
	}
}

const (
	maxNodes = 1 << 17 // nodes of an XArray that are believed
	maxSlots = 64      // in each
)

// idr reads the XArray by which the kernel finds a struct pid (struct idr).
type idr struct {
	*idrFields
	ctx   context.Context
	mem   *remora.Memory
	node  frame
	nodes int
}

func newIDR(ctx context.Context, mem *remora.Memory, f *idrFields) (*idr, error) {
	if slots := f.xaSlots.size / 8; slots < 2 || slots > maxSlots || slots&(slots-1) != 0 || f.xaShift.size != 1 {
		return nil, fmt.Errorf("an XArray of %d slots a node: %w", slots, remora.ErrUnrecognized)
	}
	fr, err := frameOf("xa_node", f.xaShift, f.xaSlots)
	return &idr{idrFields: f, ctx: ctx, mem: mem, node: fr}, err
}

// Kinds of entries (xa_is_internal, xa_is_node): the low bits 10 are the XArray's own, and
// those above 4096 are nodes.
const (
	xaInternal    = 2
	xaKind        = 3
	xaFirstNode   = 4096
	xaMaxNodeBits = 64
)

func xaIsNode(entry uint64) bool { return entry&xaKind == xaInternal && entry > xaFirstNode }

// slots reads a node. above is the shift of the node that led to it.
func (x *idr) slots(entry uint64, above uint) (shift uint, slots []byte, err error) {
	at := remora.Addr(entry - xaInternal)
	if x.nodes++; x.nodes > maxNodes {
		return 0, nil, fmt.Errorf("an XArray has more than %d nodes at %v: %w", maxNodes, at, remora.ErrCorrupt)
	}
	read, err := x.node.one(x.ctx, x.mem, at)
	if err != nil {
		return 0, nil, err
	}
	shift = uint(x.node.uint(read, x.xaShift))
	if shift >= above {
		return 0, nil, fmt.Errorf("the node of an XArray at %v has the shift %d, below one of %d: %w", at, shift, above, remora.ErrCorrupt)
	}
	return shift, x.node.bytes(read, x.xaSlots), nil
}

// slot gives an entry of a node.
func (x *idr) slot(slots []byte, i int) uint64 {
	return field{size: 8}.value(slots[8*i:8*i+8], binary.LittleEndian)
}

// load gives the entry of a number; 0 if there is none.
func (x *idr) load(head, index uint64) (uint64, error) {
	entry, above := head, uint(xaMaxNodeBits)
	for first := true; xaIsNode(entry); first = false {
		shift, slots, err := x.slots(entry, above)
		if err != nil {
			return 0, err
		}
		i := index >> shift
		if n := uint64(len(slots) / 8); first && i >= n {
			return 0, nil
		} else {
			entry = x.slot(slots, int(i&(n-1)))
		}
		above = shift
	}
	if above == xaMaxNodeBits && index != 0 || entry&xaKind == xaInternal {
		return 0, nil
	}
	return entry, nil
}

// each gives all entries that are pointers. What of the array cannot be read goes to
// trouble.
func (x *idr) each(head uint64, visit func(index uint64, entry remora.Addr) bool, trouble func(error)) {
	x.under(head, 0, xaMaxNodeBits, visit, trouble)
}

func (x *idr) under(entry, base uint64, above uint, visit func(uint64, remora.Addr) bool, trouble func(error)) bool {
	if !xaIsNode(entry) {
		return entry == 0 || entry&xaKind != 0 || visit(base, remora.Addr(entry))
	}
	shift, slots, err := x.slots(entry, above)
	if err != nil {
		trouble(err)
		return x.ctx.Err() == nil && x.nodes <= maxNodes
	}
	for i := range len(slots) / 8 {
		if !x.under(x.slot(slots, i), base+uint64(i)<<shift, shift, visit, trouble) {
			return false
		}
	}
	return true
}
