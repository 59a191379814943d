// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/remora-go/remora"
)

// frame is what is read of a structure to have some of its members: few runs of bytes,
// so that one call reads a structure, or many.
type frame struct {
	name string         // of the structure
	runs []remora.Range // from the structure's start, in order and apart
	size int            // of all runs
}

const (
	frameGap   = 128      // bytes between two members that are read for nothing rather than apart
	frameLimit = 64 << 10 // bytes that a structure is believed to have at most
)

// frameOf gives the frame of the members that the kernel has.
func frameOf(name string, members ...field) (frame, error) {
	fr := frame{name: name}
	slices.SortFunc(members, func(a, b field) int { return cmp.Compare(a.off, b.off) })
	for _, f := range members {
		if f.off > frameLimit || f.size > frameLimit {
			return fr, fmt.Errorf("struct %s has a member of %d bytes at %d: %w", name, f.size, f.off, remora.ErrCorrupt)
		}
		if f.size == 0 {
			continue
		}
		end := f.off + uint64(f.size)
		if n := len(fr.runs); n > 0 && f.off <= uint64(fr.runs[n-1].Start)+fr.runs[n-1].Size+frameGap {
			last := &fr.runs[n-1]
			last.Size = max(last.Size, end-uint64(last.Start))
			continue
		}
		fr.runs = append(fr.runs, remora.Range{Start: remora.Addr(f.off), Size: uint64(f.size)})
	}
	for _, r := range fr.runs {
		fr.size += int(r.Size)
	}
	return fr, nil
}

// runOf gives the run that a member is in; -1 if it is in none.
func (fr *frame) runOf(f field) int {
	return slices.IndexFunc(fr.runs, func(r remora.Range) bool {
		return f.off >= uint64(r.Start) && f.off+uint64(f.size) <= uint64(r.Start)+r.Size
	})
}

// bytes gives a member out of what was read; nil if it is not a part of it.
func (fr *frame) bytes(read []byte, f field) []byte {
	at := uint64(0)
	for _, r := range fr.runs {
		if off := f.off - uint64(r.Start); f.off >= uint64(r.Start) && off+uint64(f.size) <= r.Size && at+r.Size <= uint64(len(read)) {
			return read[at+off : at+off+uint64(f.size)]
		}
		at += r.Size
	}
	return nil
}

// uint gives an integer member. One that the kernel lacks is 0.
func (fr *frame) uint(read []byte, f field) uint64 {
	b := fr.bytes(read, f)
	return f.value(b[:min(len(b), 8)], binary.LittleEndian)
}

// ptr gives a member that is a pointer.
func (fr *frame) ptr(read []byte, f field) remora.Addr { return remora.Addr(fr.uint(read, f)) }

// batch reads many structures by one call.
type batch struct {
	segs []remora.Seg
	room []byte
}

// part is one structure of a batch: what was read of it, once the batch was.
type part struct {
	first, n int // of the segments
	read     []byte
}

// add asks for the structure at a.
func (b *batch) add(a remora.Addr, fr *frame) part {
	if len(b.room) < fr.size {
		b.room = make([]byte, max(fr.size, 32<<10))
	}
	p := part{first: len(b.segs), n: len(fr.runs), read: b.room[:fr.size:fr.size]}
	b.room = b.room[fr.size:]
	at := uint64(0)
	for _, r := range fr.runs {
		b.segs = append(b.segs, remora.Seg{Addr: a + r.Start, Buf: p.read[at : at+r.Size]})
		at += r.Size
	}
	return p
}

// run reads all that was asked for. Only the end of the context is an error: what became
// of each structure fault tells.
func (b *batch) run(ctx context.Context, mem *remora.Memory) error {
	if len(b.segs) > 0 {
		_, _ = mem.ReadV(ctx, b.segs) // it is in the segments
	}
	return ctx.Err()
}

// fault says why a structure was not read.
func (b *batch) fault(ctx context.Context, mem *remora.Memory, p part) error {
	for i := range p.n {
		if err := remora.SegFault(ctx, mem, remora.Read, &b.segs[p.first+i]); err != nil {
			return err
		}
	}
	return nil
}

// lost gives the runs of a structure that were not read, each with why, and makes zeros of
// them.
func (b *batch) lost(ctx context.Context, mem *remora.Memory, p part) map[int]error {
	var lost map[int]error
	for i := range p.n {
		seg := &b.segs[p.first+i]
		if err := remora.SegFault(ctx, mem, remora.Read, seg); err != nil {
			if lost == nil {
				lost = map[int]error{}
			}
			clear(seg.Buf)
			lost[i] = err
		}
	}
	return lost
}

// one reads one structure.
func (fr *frame) one(ctx context.Context, mem *remora.Memory, a remora.Addr) ([]byte, error) {
	b := batch{room: make([]byte, fr.size)}
	p := b.add(a, fr)
	if err := b.run(ctx, mem); err != nil {
		return nil, err
	}
	if err := b.fault(ctx, mem, p); err != nil {
		return nil, fmt.Errorf("struct %s at %v: %w", fr.name, a, err)
	}
	return p.read, nil
}
