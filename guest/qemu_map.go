// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"context"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/xfer"
)

// maxMappings bounds what is mapped of a guest. A mapping that QEMU no longer has is kept
// until the guest is closed, since a call may be using it.
const maxMappings = 1024

// mappings are parts of files that are guest memory, mapped here. Who reads the layout
// changes them.
type mappings struct{ list []*mapping }

// mapping is a mapping of QEMU's process, made here too, for reading. It is a Space whose
// addresses are those of the process.
type mapping struct {
	q    *QEMU
	of   remora.Region // of the process
	base uint64        // of it here
}

var (
	_ remora.Space    = (*mapping)(nil)
	_ xfer.Mover      = (*mapping)(nil)
	_ xfer.Mover      = (*nearMapping)(nil)
	_ xfer.Prefetcher = (*nearMapping)(nil)
)

// of gives the mapping of a region of QEMU's process, nil where it cannot be had.
func (t *mappings) of(q *QEMU, r *remora.Region) *mapping {
	for _, m := range t.list {
		if m.of == *r {
			return m.usable()
		}
	}
	if len(t.list) == maxMappings || r.Size > uint64(^uintptr(0)>>2) {
		return nil
	}
	m := &mapping{q: q, of: *r}
	m.base = mapRegion(q.pid, r)
	t.list = append(t.list, m)
	return m.usable()
}

func (m *mapping) usable() *mapping {
	if m.base == 0 {
		return nil
	}
	return m
}

// bytes is how much is mapped.
func (t *mappings) bytes() (n uint64) {
	for _, m := range t.list {
		if m.base != 0 {
			n += m.of.Size
		}
	}
	return n
}

func (t *mappings) close() {
	for _, m := range t.list {
		if m.base != 0 {
			unmap(m.base, m.of.Size)
		}
	}
	t.list = nil
}

// copy reads at an address of the process, as a part of a read of whole bytes. It gives false where the bytes are not to be
// had here: the file has been cut short, or there is no page to be had for it.
func (m *mapping) copy(dst []byte, a uint64, whole int) bool {
	return copyMapped(dst, m.base+(a-uint64(m.of.Start)), whole)
}

// Info gives the facts of the process.
func (m *mapping) Info() remora.Info { return m.q.process.Memory().Info() }

// Transfer reads segs.
func (m *mapping) Transfer(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
	whole := 0
	for i := range segs {
		whole += min(len(segs[i].Buf), near+1)
	}
	if whole <= near {
		return xfer.Each(ctx, op, segs, (*nearMapping)(m))
	}
	return xfer.Each(ctx, op, segs, m)
}

// nearMapping is a mapping of which little is read.
type nearMapping mapping

// Move is the mapping's.
func (m *nearMapping) Move(ctx context.Context, op remora.Op, a remora.Addr, buf []byte) (int, error) {
	return (*mapping)(m).move(ctx, op, a, buf, len(buf))
}

// Prefetch brings the beginnings of ranges into the caches.
func (m *nearMapping) Prefetch(segs []remora.Seg) {
	var places [xfer.PrefetchSegs]uint64
	for i := range segs {
		places[i] = m.base + uint64(segs[i].Addr-m.of.Start)
	}
	touchMapped(places[:len(segs)])
}

// Move reads from the mapping, and what that has not in the process.
func (m *mapping) Move(ctx context.Context, op remora.Op, a remora.Addr, buf []byte) (int, error) {
	return m.move(ctx, op, a, buf, near+1)
}

func (m *mapping) move(ctx context.Context, op remora.Op, a remora.Addr, buf []byte, whole int) (int, error) {
	if m.copy(buf, uint64(a), whole) {
		return len(buf), nil
	}
	segs := [1]remora.Seg{{Addr: a, Buf: buf}}
	_, err := m.q.process.Memory().Transfer(ctx, op, segs[:])
	return segs[0].N, err
}
