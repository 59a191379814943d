// SPDX-License-Identifier: Apache-2.0

package kernel

import "github.com/remora-go/remora"

// xarrayFields is how an xarray lies in memory (include/linux/xarray.h).
type xarrayFields struct {
	head  field // xarray.xa_head
	shift field // xa_node.shift
	slots field // xa_node.slots
}

func (x *xarrayFields) wanted() []wanted {
	return []wanted{
		{into: &x.head, member: "xarray.xa_head"},
		{into: &x.shift, member: "xa_node.shift"},
		{into: &x.slots, member: "xa_node.slots"},
	}
}

// xarrayInternal is the end of the internal entries that are no nodes.
const xarrayInternal = 4096

// find gives the entry that the xarray at a has for an index: 0 for none, a pointer, or a
// value (bit 0 set). first is the first index of the entry, which may have several. What
// does not hang together is remora.ErrCorrupt in p.
func (x *xarrayFields) find(p *peek, a remora.Addr, index uint64) (entry, first uint64) {
	entry = p.uint(a, x.head)
	slots := uint64(x.slots.size / 8)
	if slots == 0 || slots&(slots-1) != 0 {
		p.err = remora.ErrCorrupt
		return 0, 0
	}
	above := uint64(64) // shift of the node above; nodes must go down
	for first = 0; p.err == nil; {
		if entry&3 != 2 { // no node
			if above == 64 && index != 0 {
				return 0, index // one entry, for index 0
			}
			return entry, first
		}
		if entry < xarrayInternal {
			return 0, index // XA_ZERO_ENTRY, XA_RETRY_ENTRY
		}
		node := remora.Addr(entry &^ 3)
		shift := p.uint(node, x.shift)
		switch {
		case p.err != nil:
			return 0, 0
		case shift >= above || shift > 60:
			p.err = remora.ErrCorrupt
			return 0, 0
		case above == 64 && shift < 60 && index>>shift >= slots:
			return 0, index // beyond what the array has room for
		}
		above = shift
		i := index >> shift & (slots - 1)
		entry = x.slot(p, node, i)
		if entry&3 == 2 && entry < 4*slots { // a sibling: the entry is in another slot
			own := i
			i = entry >> 2
			if entry = x.slot(p, node, i); entry&3 == 2 || i > own {
				p.err = remora.ErrCorrupt
				return 0, 0
			}
		}
		first = (index>>shift&^(slots-1) | i) << shift
	}
	return 0, 0
}

func (x *xarrayFields) slot(p *peek, node remora.Addr, i uint64) uint64 {
	return p.word(node + remora.Addr(x.slots.off+8*i))
}
