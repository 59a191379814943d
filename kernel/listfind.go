// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/remora-go/remora"
)

// imageWindows reads the image of the kernel in windows of at most a MiB that overlap by
// some bytes, until look gives true. What cannot be read is left out, and told by lost.
func (k *Kernel) imageWindows(ctx context.Context, overlap int, look func(at remora.Addr, b []byte) bool) (seen, lost uint64, why error) {
	l, err := k.Layout(ctx)
	if err != nil {
		return 0, 0, err
	}
	buf := make([]byte, scanWindow)
	for _, p := range l.Image {
		seen += p.Size
		for off := uint64(0); off < p.Size; {
			if ctx.Err() != nil {
				return seen, lost, ctx.Err()
			}
			at := p.Virt + remora.Addr(off)
			n, err := k.mem.ReadAt(ctx, buf[:min(scanWindow, p.Size-off)], at)
			if look(at, buf[:n]) {
				return seen, lost, nil
			}
			switch {
			case err != nil:
				next := min((off+uint64(n))&^0xfff+0x1000, p.Size)
				if why == nil {
					why = err
				}
				lost += next - off - uint64(n)
				off = next
			case off+uint64(n) == p.Size:
				off = p.Size
			default:
				off += uint64(n - overlap)
			}
		}
	}
	return seen, lost, why
}

// scanWindow is how much of the kernel's image is looked at in one piece.
const scanWindow = 1 << 20

// findList looks in the image of the kernel for the head of a list of which no symbol
// tells: two pointers, the first to an entry whose second one points back, and that looks
// right to check. link is the member by which the entries are on the list.
func (k *Kernel) findList(ctx context.Context, what string, link field, check func(entry remora.Addr) bool) (head remora.Addr, err error) {
	const pair = 16
	found := false
	seen, lost, why := k.imageWindows(ctx, pair, func(at remora.Addr, b []byte) bool {
		for i := int(-at & 7); i+pair <= len(b); i += 8 {
			next, prev := binary.LittleEndian.Uint64(b[i:]), binary.LittleEndian.Uint64(b[i+8:])
			self := uint64(at) + uint64(i)
			if next>>63 == 0 || prev>>63 == 0 || next&7 != 0 || prev&7 != 0 || next == self || prev == self {
				continue
			}
			r := k.reader(ctx)
			back := r.ptr(remora.Addr(next), field{off: 8, size: 8})
			if r.err != nil || uint64(back) != self || !check(remora.Addr(next)-remora.Addr(link.off)) {
				continue
			}
			head, found = remora.Addr(self), true
			return true
		}
		return false
	})
	switch {
	case found:
		return head, nil
	case ctx.Err() != nil:
		return 0, ctx.Err()
	case why != nil:
		return 0, fmt.Errorf("%s: nothing like it is in the %d KiB of the kernel's image, of which %d KiB could not be read: %w", what, seen>>10, lost>>10, why)
	}
	return 0, fmt.Errorf("%s: nothing like it is in the %d KiB of the kernel's image", what, seen>>10)
}
