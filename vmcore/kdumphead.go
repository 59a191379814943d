// SPDX-License-Identifier: Apache-2.0

package vmcore

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"github.com/remora-go/remora"
)

// The limits of a header that is believed.
const (
	kdumpVersions  = 6       // the newest
	kdumpMinBlock  = 4 << 10 // bytes
	kdumpMaxBlock  = 64 << 10
	kdumpMaxSub    = 64      // blocks of the sub header
	kdumpMaxPFN    = 1 << 40 // pages: a bitmap of 128 GiB
	kdumpHeadBytes = 512     // of the main header, without the task pointers behind it
	kdumpUnameLen  = 65      // bytes of each name
	kdumpDescSize  = 24      // bytes of a page descriptor
	kdumpMaxData   = 1 << 56 // bytes: where no file has data any more
)

// The bits of the status and of the flags of a page. Some are of the status only.
const (
	kdumpZlib       = 0x1
	kdumpLZO        = 0x2
	kdumpSnappy     = 0x4
	kdumpIncomplete = 0x8  // status only
	kdumpVmemmap    = 0x10 // status only: the unused vmemmap is left out
	kdumpZstd       = 0x20
	kdumpCodecs     = kdumpZlib | kdumpLZO | kdumpSnappy | kdumpZstd
)

// kdumpHead is the main header (struct disk_dump_header of makedumpfile) and, from
// sub on, the sub header (struct kdump_sub_header).
type kdumpHead struct {
	sig       string
	order     binary.ByteOrder
	wide      bool // 64-bit
	version   int
	uname     [6]string
	sec, usec uint64
	status    uint32
	block     int64  // bytes
	subBlocks int64  // of the sub header
	bitmaps   int64  // blocks of one or two bitmaps
	maxPFN    uint64 // the first page frame number behind all
	layout    kdumpLayout
	sub       kdumpSub
}

// kdumpLayout holds where the fields of the main header lie that depend on the size
// of a long.
type kdumpLayout struct {
	time, status, block, sub, bitmaps, maxPFN int
}

func kdumpLayoutOf(wide bool) kdumpLayout {
	if wide {
		return kdumpLayout{time: 408, status: 424, block: 428, sub: 432, bitmaps: 436, maxPFN: 440}
	}
	return kdumpLayout{time: 404, status: 412, block: 416, sub: 420, bitmaps: 424, maxPFN: 428}
}

// isKdump says whether a file that begins with b is kdump-compressed.
func isKdump(b []byte) bool {
	return bytes.HasPrefix(b, []byte("KDUMP   ")) || bytes.HasPrefix(b, []byte("DISKDUMP"))
}

// readKdumpHead reads both headers of src. The byte order and the size of a long are
// those of the four that fit; where none does, the error is that of the best.
func readKdumpHead(src *source) (*kdumpHead, error) {
	var b [kdumpHeadBytes]byte
	n, err := src.readSome(b[:], 0, anImage)
	if err != nil {
		return nil, err
	}
	if !isKdump(b[:n]) {
		return nil, src.bad(0, remora.ErrUnrecognized, `"KDUMP   " or "DISKDUMP"`, fmt.Sprintf("%q", b[:min(n, 8)]))
	}
	if n < len(b) {
		return nil, src.cut(int64(n), "a header of 512 bytes")
	}
	var best error
	bestScore := -1
	for _, wide := range []bool{true, false} {
		for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
			h := parseKdumpHead(b[:], order, wide)
			score, err := h.judge(src)
			if err == nil {
				return h, h.readSub(src)
			}
			if score > bestScore {
				best, bestScore = err, score
			}
		}
	}
	return nil, best
}

func parseKdumpHead(b []byte, order binary.ByteOrder, wide bool) *kdumpHead {
	l := kdumpLayoutOf(wide)
	h := &kdumpHead{sig: string(b[:8]), order: order, wide: wide, layout: l}
	h.version = int(int32(order.Uint32(b[8:])))
	for i := range h.uname {
		name := b[12+i*kdumpUnameLen:][:kdumpUnameLen]
		if end := bytes.IndexByte(name, 0); end >= 0 {
			name = name[:end]
		}
		h.uname[i] = strings.ToValidUTF8(string(name), "?")
	}
	if wide {
		h.sec, h.usec = order.Uint64(b[l.time:]), order.Uint64(b[l.time+8:])
	} else {
		h.sec, h.usec = uint64(order.Uint32(b[l.time:])), uint64(order.Uint32(b[l.time+4:]))
	}
	h.status = order.Uint32(b[l.status:])
	h.block = int64(order.Uint32(b[l.block:]))
	h.subBlocks = int64(order.Uint32(b[l.sub:]))
	h.bitmaps = int64(order.Uint32(b[l.bitmaps:]))
	h.maxPFN = uint64(order.Uint32(b[l.maxPFN:]))
	return h
}

// judge says whether the main header can be one, and how much of it can be. It bounds
// all that is multiplied later: no offset made from these fields overflows.
func (h *kdumpHead) judge(src *source) (int, error) {
	l := h.layout
	switch {
	case h.block < kdumpMinBlock || h.block > kdumpMaxBlock || h.block&(h.block-1) != 0:
		return 0, src.bad(int64(l.block), remora.ErrCorrupt, "a block size that is a power of two from 4096 to 65536", fmt.Sprint(h.block))
	case h.version < 0 || h.version > kdumpVersions:
		return 1, src.bad(8, remora.ErrCorrupt, fmt.Sprintf("a version from 0 to %d", kdumpVersions), fmt.Sprint(h.version))
	case h.subBlocks < 1 || h.subBlocks > kdumpMaxSub:
		return 2, src.bad(int64(l.sub), remora.ErrCorrupt, fmt.Sprintf("a sub header of 1 to %d blocks", kdumpMaxSub), fmt.Sprint(h.subBlocks))
	case h.bitmaps == 0 || h.bitmaps*h.block*8 > 2*kdumpMaxPFN+2*8*kdumpMaxBlock:
		return 3, src.bad(int64(l.bitmaps), remora.ErrCorrupt, "bitmaps for 1 to 2^40 pages each", fmt.Sprintf("%d blocks", h.bitmaps))
	case h.version < 6 && (h.maxPFN == 0 || h.maxPFN > h.bits()):
		return 4, src.bad(int64(l.maxPFN), remora.ErrCorrupt,
			fmt.Sprintf("max_mapnr from 1 to the %d bits of the bitmap", h.bits()), fmt.Sprint(h.maxPFN))
	}
	return 5, nil
}

// bits is how many pages one bitmap can have at most.
func (h *kdumpHead) bits() uint64 { return uint64(h.bitmaps*h.block) * 8 }

// twoBitmaps says whether there are two bitmaps: all but the oldest files have them.
func (h *kdumpHead) twoBitmaps() bool {
	perBlock := uint64(h.block) * 8
	return uint64(h.bitmaps) >= 2*((h.maxPFN+perBlock-1)/perBlock)
}

// half is the length in bytes of one bitmap in the file.
func (h *kdumpHead) half() int64 {
	if h.twoBitmaps() {
		return h.bitmaps * h.block / 2
	}
	return h.bitmaps * h.block
}

func (h *kdumpHead) bitmapOff() int64 { return (1 + h.subBlocks) * h.block }
func (h *kdumpHead) descOff() int64   { return (1 + h.subBlocks + h.bitmaps) * h.block }

// time gives the time of the dump, zero where there is none.
func (h *kdumpHead) time() time.Time {
	if h.sec == 0 && h.usec == 0 || h.sec > 1<<40 || h.usec >= 1e6 {
		return time.Time{}
	}
	return time.Unix(int64(h.sec), int64(h.usec)*1000).UTC()
}

// wordSize is the size of a long of the machine.
func (h *kdumpHead) wordSize() int {
	if h.wide {
		return 8
	}
	return 4
}
