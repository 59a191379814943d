// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/remora-go/remora"
)

// windows is what was looked at of memory, in windows.
type windows struct {
	seen, lost uint64 // bytes; those of them that could not be read
	why        error  // of the first that could not be read
}

// over reads a range in windows of at most a MiB that overlap by some bytes, until look
// gives true. What cannot be read is left out.
func (w *windows) over(ctx context.Context, mem *remora.Memory, r remora.Range, overlap int, look func(at remora.Addr, b []byte) bool) bool {
	buf := make([]byte, min(scanWindow, r.Size))
	w.seen += r.Size
	for off := uint64(0); off < r.Size && ctx.Err() == nil; {
		at := r.Start + remora.Addr(off)
		n, err := mem.ReadAt(ctx, buf[:min(scanWindow, r.Size-off)], at)
		if look(at, buf[:n]) {
			return true
		}
		switch {
		case err != nil:
			next := min(uint64((at+remora.Addr(n))&^0xfff+0x1000-r.Start), r.Size)
			if w.why == nil {
				w.why = err
			}
			w.lost += next - off - uint64(n)
			off = next
		case off+uint64(n) == r.Size:
			return false
		default:
			off += uint64(n - overlap)
		}
	}
	return false
}

// overImage does it with the image of the kernel. The error says that there was nothing
// to look at, that the context has ended, or that it was not found.
func (k *Kernel) overImage(ctx context.Context, what string, overlap int, look func(at remora.Addr, b []byte) bool) error {
	stext, err := k.noted(ctx, "_stext")
	if err != nil {
		return fmt.Errorf("without _stext the kernel's image is not searched for %s: %w", what, err)
	}
	var w windows
	for _, p := range k.imageAt(ctx, stext) {
		if w.over(ctx, k.mem, remora.Range{Start: p.Virt, Size: p.Size}, overlap, look) {
			return nil
		}
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case w.why != nil:
		return fmt.Errorf("no %s is in the %d KiB of the kernel's image, of which %d KiB could not be read: %w", what, w.seen>>10, w.lost>>10, w.why)
	}
	return fmt.Errorf("no %s is in the %d KiB of the kernel's image", what, w.seen>>10)
}

// scanWindow is how much of the kernel's image is looked at in one piece.
const scanWindow = 1 << 20

// findList looks in the image of the kernel for the head of a list of which no symbol
// tells: two pointers, the first to an entry whose second one points back, and that looks
// right to check. link is the member by which the entries are on the list.
func (k *Kernel) findList(ctx context.Context, what string, link field, check func(entry remora.Addr) bool) (head remora.Addr, err error) {
	const pair = 16
	err = k.overImage(ctx, what, pair-1, func(at remora.Addr, b []byte) bool {
		for i := int(-at & 7); i+pair <= len(b); i += 8 {
			next, prev := binary.LittleEndian.Uint64(b[i:]), binary.LittleEndian.Uint64(b[i+8:])
			self := uint64(at) + uint64(i)
			if next>>63 == 0 || prev>>63 == 0 || next&7 != 0 || prev&7 != 0 || next == self || prev == self {
				continue
			}
			r := k.reader(ctx)
			back := r.ptr(remora.Addr(next), field{off: 8, size: 8})
			if r.err == nil && uint64(back) == self && check(remora.Addr(next)-remora.Addr(link.off)) {
				head = remora.Addr(self)
				return true
			}
		}
		return false
	})
	return head, err
}
