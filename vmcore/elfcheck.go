// SPDX-License-Identifier: Apache-2.0

package vmcore

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/elfcore"
)

func (e *elfImage) check(ctx context.Context, report func(*remora.FormatError)) error {
	c := checker{reporter: reporter{report: report}, ctx: ctx, src: e.src}
	e.judge(c.found)
	e.notes.check(e.src, c.found)
	e.checkOverlaps(&c)
	return c.readAll(e.table)
}

// judge reports what is wrong with the program headers.
func (e *elfImage) judge(found func(*remora.FormatError)) {
	f := e.file
	if lost, ok := errors.AsType[*remora.FormatError](e.src.lost); ok {
		found(lost)
	}
	if f.Flags&incompleteFlag != 0 {
		got := "the flag of an incomplete image"
		if empty := f.ProgCount - len(f.Progs); empty > 0 {
			got += fmt.Sprintf(", and %d of %d program headers empty", empty, f.ProgCount)
		}
		found(e.src.bad(flagsOffset(f), remora.ErrTruncated, "a whole image", got))
	}
	for i := range f.Progs {
		p := &f.Progs[i]
		if p.Type != elf.PT_LOAD {
			continue
		}
		bad := func(cause error, want, got string) { found(e.src.bad(f.ProgOffset(p), cause, want, got)) }
		if p.Filesz > p.Memsz {
			bad(remora.ErrCorrupt, "a segment with p_filesz <= p_memsz", fmt.Sprintf("0x%x > 0x%x", p.Filesz, p.Memsz))
		}
		if !e.noPhys(p) && p.Memsz > 0 && p.Memsz-1 > uint64(f.Last())-p.Paddr {
			bad(remora.ErrCorrupt, "a segment within the address space", fmt.Sprintf("0x%x+0x%x", p.Paddr, p.Memsz))
		}
		if f.Saved(p) < p.Filesz {
			bad(remora.ErrTruncated, fmt.Sprintf("0x%x bytes at 0x%x of the file, for 0x%x", p.Filesz, p.Off, p.Paddr), e.src.end())
		}
	}
}

// flagsOffset is where e_flags lies.
func flagsOffset(f *elfcore.File) int64 {
	if f.Wide() {
		return 48
	}
	return 36
}

// checkOverlaps reports segments that hold other bytes than those which are read at the
// same addresses.
func (e *elfImage) checkOverlaps(c *checker) {
	for i := range e.segs {
		g := &e.segs[i]
		if g.saved == 0 {
			continue
		}
		last := remora.Addr(g.prog.Paddr + g.saved - 1)
		k, _ := e.find(remora.Addr(g.prog.Paddr))
		for ; k < len(e.table) && e.table[k].first <= last && c.ctx.Err() == nil; k++ {
			p := &e.table[k]
			if p.from == int32(i) || p.cause != 0 {
				continue
			}
			first := max(p.first, remora.Addr(g.prog.Paddr))
			read := p.off + int64(first-p.first)
			other := int64(g.prog.Off + uint64(first) - g.prog.Paddr)
			n, differs := c.differ(read, other, uint64(min(p.last, last)-first)+1)
			if !differs {
				continue
			}
			c.found(e.src.bad(other+n, remora.ErrCorrupt,
				fmt.Sprintf("the bytes at 0x%x of the file, which are read for %v too", e.src.at(read+n), first+remora.Addr(n)),
				"other bytes, in a segment that overlaps"))
			break
		}
	}
}
