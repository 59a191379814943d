// SPDX-License-Identifier: Apache-2.0

package vmcore

import (
	"context"
	"encoding/binary"
	"sync"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/xfer"
)

// Flags in /proc/kpageflags (include/uapi/linux/kernel-page-flags.h).
const (
	kpfHWPoison = 1 << 19
	kpfNoPage   = 1 << 20
	kpfOffline  = 1 << 23
)

// pageFlags is room for the flags of the pages of one Move, which may begin within one.
type pageFlags [(xfer.ChunkBytes/kcorePage + 1) * 8]byte

var pageFlagsPool = sync.Pool{New: func() any { return new(pageFlags) }}

// present gives how many of the bytes that were read at a, xfer.ChunkBytes at most, are
// those of memory, and why not more. The kernel reads as zeros a page that is offline, that
// the hardware found bad, that is gone, or that it has not mapped itself, so pages of zeros
// are asked for. No other page can be one of these.
func (k *kcore) present(ctx context.Context, a remora.Addr, buf []byte) (int, error) {
	first, end := k.zeroPages(a, buf)
	if first == end {
		return len(buf), nil
	}
	there, why := k.online(a, buf, first, end)
	if there > first {
		if n, none := k.mapped(ctx, a, buf, first, min(there, end)); n < there && none != nil {
			return n, none
		}
	}
	return there, why
}

// mapped looks for a page of zeros from first to end that the kernel has not mapped, as it
// does with memory of memfd_secret(2) and with what it is about to give away.
func (k *kcore) mapped(ctx context.Context, a remora.Addr, buf []byte, first, end int) (int, error) {
	tables := k.tables.Load()
	if tables == nil {
		return end, nil
	}
	var e remora.Extent
	for at := first; at < end; {
		n := k.inPage(a, buf, at)
		p, h := k.lookup(a + remora.Addr(at))
		if p == nil {
			return at, remora.ErrHole
		}
		g := h.segs[p.from]
		va := remora.Addr(g.Vaddr+(uint64(a)-g.Paddr)) + remora.Addr(at)
		if va < e.Virt || uint64(va-e.Virt) >= e.Size {
			e = (*tables).Translate(ctx, va)
		}
		switch none := e.Err != nil || e.Perm&remora.PermRead == 0; {
		case ctx.Err() != nil:
			return at, ctx.Err()
		case none && allZeros(buf[at:at+n]):
			return at, remora.ErrFault
		}
		at += n
	}
	return end, nil
}

// online looks for a page from first to end that the kernel knows to be none that can be
// read.
func (k *kcore) online(a remora.Addr, buf []byte, first, end int) (int, error) {
	if k.pages == nil {
		return len(buf), nil
	}
	room := pageFlagsPool.Get().(*pageFlags)
	defer pageFlagsPool.Put(room)
	size := uint64(k.pageSize)
	frame := (uint64(a) + uint64(first)) / size
	list := room[:((uint64(a)+uint64(end)-1)/size-frame+1)*8]
	got, err := k.pages.flags(list, int64(frame)*8)
	if err != nil {
		return len(buf), nil // what cannot be known
	}
	for at := first; at < end; {
		n := k.inPage(a, buf, at)
		why := remora.ErrHole // the kernel knows of no page frame so high
		if i := ((uint64(a)+uint64(at))/size - frame) * 8; i+8 <= uint64(got) {
			why = absence(binary.NativeEndian.Uint64(list[i:]))
		}
		if why != 0 && allZeros(buf[at:at+n]) {
			return at, why
		}
		at += n
	}
	return len(buf), nil
}

// zeroPages gives the part of buf, read at a, from the first page to the last one that may
// be zeros: the words that are looked at are.
func (k *kcore) zeroPages(a remora.Addr, buf []byte) (first, end int) {
	for at := 0; at < len(buf); {
		n := k.inPage(a, buf, at)
		if maybeZeros(buf[at : at+n]) {
			if end == 0 {
				first = at
			}
			end = at + n
		}
		at += n
	}
	return first, end
}

// maybeZeros looks at a few bytes: to ask the kernel of a page in vain costs less than to
// look at all of them.
func maybeZeros(b []byte) bool {
	const few, step = 16, 512
	if !allZeros(b[:min(len(b), few)]) {
		return false
	}
	for at := step; at < len(b); at += step {
		if b[at] != 0 {
			return false
		}
	}
	return true
}

// inPage gives how many bytes of buf, read at a, are in the page of the one at at.
func (k *kcore) inPage(a remora.Addr, buf []byte, at int) int {
	return min(len(buf)-at, k.pageSize-int((uint64(a)+uint64(at))%uint64(k.pageSize)))
}

// absence says why a page with these flags reads as zeros whatever it holds; 0: it does not.
func absence(flags uint64) remora.Cause {
	switch {
	case flags&kpfHWPoison != 0:
		return remora.ErrPoisoned
	case flags&(kpfNoPage|kpfOffline) != 0:
		return remora.ErrHole
	}
	return 0
}
