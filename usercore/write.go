// SPDX-License-Identifier: Apache-2.0

package usercore

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"

	"github.com/remora-go/remora"
)

// Contents is what there is to write a core of: a process of a 64-bit little-endian
// machine.
type Contents struct {
	Machine elf.Machine
	Memory  *remora.Memory
	Regions iter.Seq2[remora.Region, error] // in address order
	// Runs says, where it is known without reading, what of a region is worth it. Nil
	// has all of it read.
	Runs func(ctx context.Context, r remora.Region) iter.Seq2[Run, error]

	PageSize uint64
	Process  Process
	Threads  []ThreadRegs // the first one is where a debugger begins
	Auxv     []byte       // as the kernel has it
}

// Run is a run of addresses of one kind.
type Run struct {
	remora.Range
	Zero bool  // never touched: zeros
	Err  error // why it cannot be read
	None bool  // with it nothing of the process's own is missing
}

// ThreadRegs is a thread to be written. Registers that it does not have are zero.
type ThreadRegs struct {
	ID     int64
	Signal int
	Regs   map[string]uint64 // by the names of Thread.Regs
}

// Written is what became of a core. The amounts are in bytes.
type Written struct {
	Size    int64  // of the file
	Saved   uint64 // memory that is in it, zeros among it
	Zeros   uint64 // of it, as holes in the file
	Left    uint64 // not in it, and not missing: of files, or in mappings of which nothing was touched
	Missing uint64 // that could not be read: not in it
	Gaps    []Gap  // what is missing, the first ones
}

// Gap is memory that is missing from a core.
type Gap struct {
	remora.Range
	Err error
}

const (
	maxGaps     = 1000
	writeChunk  = 256 << 10
	mostHeaders = 1 << 20
	headerSize  = 64
	progSize    = 56
	dataStart   = 4096
)

// Write writes a core that gdb opens, as the kernel would have written it (fs/binfmt_elf.c),
// but for where things are: memory first, then notes, then the program headers. w must be
// empty. Pages of zeros are left out of the file, whose size the caller sets to
// Written.Size.
func Write(ctx context.Context, w io.WriterAt, c *Contents) (*Written, error) {
	cw := &coreWriter{ctx: ctx, w: w, c: c, at: int64(max(dataStart, c.PageSize)), buf: make([]byte, writeChunk)}
	switch c.Machine {
	case elf.EM_X86_64, elf.EM_AARCH64, elf.EM_RISCV:
	default:
		return nil, fmt.Errorf("a core of a process on %v: %w", c.Machine, errors.ErrUnsupported)
	}
	if c.PageSize == 0 || c.PageSize&(c.PageSize-1) != 0 || c.PageSize > writeChunk {
		return nil, fmt.Errorf("a core with pages of %d bytes: %w", c.PageSize, errors.ErrUnsupported)
	}
	for r, err := range c.Regions {
		if err == nil {
			err = cw.region(r)
		}
		if err != nil {
			return nil, err
		}
	}
	if err := cw.finish(); err != nil {
		return nil, err
	}
	return &cw.done, nil
}

// segment is a PT_LOAD to be.
type segment struct {
	remora.Range
	off  int64
	file uint64 // bytes of it in the file
	perm remora.Perm
}

// coreWriter is one core.
type coreWriter struct {
	ctx   context.Context
	w     io.WriterAt
	c     *Contents
	at    int64 // where in the file the next bytes go
	buf   []byte
	segs  []segment
	files []remora.Region
	notes []byte
	done  Written
}

// region writes a mapping: the runs of it that are there, each as a segment; what cannot
// be read, and a mapping of which nothing was ever touched, as segments without bytes.
func (c *coreWriter) region(r remora.Region) error {
	if r.Name != "" && r.Name[0] == '/' {
		c.files = append(c.files, r)
	}
	runs, touched := []Run{{Range: r.Range}}, true
	if c.c.Runs != nil {
		runs, touched = nil, false
		for run, err := range c.c.Runs(c.ctx, r) {
			if err != nil {
				return err
			}
			touched = touched || !run.Zero && run.Err == nil
			if n := len(runs); n > 0 && runs[n-1].Zero == run.Zero && runs[n-1].Err == run.Err && runs[n-1].None == run.None {
				runs[n-1].Size += run.Size
			} else {
				runs = append(runs, run)
			}
		}
	}
	var open *segment // that what comes next is a part of
	for _, run := range runs {
		var err error
		switch {
		case run.None:
			c.done.Left += run.Size
			open, err = nil, c.empty(run.Range, r.Perm)
		case run.Err != nil:
			c.missing(run.Range, run.Err)
			open, err = nil, c.empty(run.Range, r.Perm)
		case run.Zero && !touched:
			c.done.Left += run.Size
			open, err = nil, c.empty(run.Range, r.Perm)
		case run.Zero:
			if open, err = c.opened(open, run.Start, r.Perm); err == nil {
				c.grow(open, run.Size)
				c.done.Zeros += run.Size
			}
		default:
			open, err = c.read(open, run.Range, r.Perm)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// missing notes what could not be read.
func (c *coreWriter) missing(r remora.Range, err error) {
	c.done.Missing += r.Size
	if n := len(c.done.Gaps); n > 0 && c.done.Gaps[n-1].Start+remora.Addr(c.done.Gaps[n-1].Size) == r.Start && c.done.Gaps[n-1].Err == err {
		c.done.Gaps[n-1].Size += r.Size
	} else if n < maxGaps {
		c.done.Gaps = append(c.done.Gaps, Gap{r, err})
	}
}

// empty adds a segment that has no bytes, or makes the one before it longer.
func (c *coreWriter) empty(r remora.Range, perm remora.Perm) error {
	if n := len(c.segs); n > 0 {
		if s := &c.segs[n-1]; s.file == 0 && s.perm == perm && s.Start+remora.Addr(s.Size) == r.Start {
			s.Size += r.Size
			return nil
		}
	}
	_, err := c.add(segment{Range: r, perm: perm})
	return err
}

func (c *coreWriter) add(s segment) (*segment, error) {
	if len(c.segs) >= mostHeaders {
		return nil, fmt.Errorf("a core of more than %d segments: %w", mostHeaders, errors.ErrUnsupported)
	}
	s.off = c.at
	c.segs = append(c.segs, s)
	return &c.segs[len(c.segs)-1], nil
}

// opened gives the segment that the bytes at a are to be a part of.
func (c *coreWriter) opened(open *segment, a remora.Addr, perm remora.Perm) (*segment, error) {
	if open != nil {
		return open, nil
	}
	return c.add(segment{Range: remora.Range{Start: a}, perm: perm})
}

// grow makes a segment longer by bytes that are in the file, or holes in it.
func (c *coreWriter) grow(s *segment, n uint64) {
	s.Size, s.file = s.Size+n, s.file+n
	c.at += int64(n)
	c.done.Saved += n
}

// read reads a run page by page where it must, and writes what it gets.
func (c *coreWriter) read(open *segment, r remora.Range, perm remora.Perm) (*segment, error) {
	for r.Size > 0 {
		b := c.buf[:min(uint64(len(c.buf)), r.Size)]
		n, err := c.c.Memory.ReadAt(c.ctx, b, r.Start)
		if err != nil && !errors.Is(err, remora.ErrFault) {
			return nil, err
		}
		if n &= -int(c.c.PageSize); err == nil {
			n = len(b)
		}
		if n > 0 {
			if open, err = c.opened(open, r.Start, perm); err == nil {
				err = c.put(open, b[:n])
			}
			if err != nil {
				return nil, err
			}
		} else {
			n = int(min(c.c.PageSize, r.Size))
			gap := remora.Range{Start: r.Start, Size: uint64(n)}
			c.missing(gap, causeOf(err))
			if open, err = nil, c.empty(gap, perm); err != nil {
				return nil, err
			}
		}
		r.Start, r.Size = r.Start+remora.Addr(n), r.Size-uint64(n)
	}
	return open, nil
}

// put writes bytes of a segment, but for pages of zeros.
func (c *coreWriter) put(s *segment, b []byte) error {
	page := int(c.c.PageSize)
	for at := 0; at < len(b); {
		end := at
		for end < len(b) && !allZero(b[end:min(end+page, len(b))]) {
			end = min(end+page, len(b))
		}
		if end > at {
			if _, err := c.w.WriteAt(b[at:end], c.at+int64(at)); err != nil {
				return err
			}
			at = end
			continue
		}
		next := min(at+page, len(b))
		c.done.Zeros += uint64(next - at)
		at = next
	}
	if c.at > math.MaxInt64-int64(len(b)) {
		return fmt.Errorf("a core of more than %d bytes: %w", int64(math.MaxInt64), errors.ErrUnsupported)
	}
	c.grow(s, uint64(len(b)))
	return nil
}

func allZero(b []byte) bool {
	for _, v := range b {
		if v != 0 {
			return false
		}
	}
	return true
}

// causeOf gives the cause in an error, for a list in which equal ones are joined.
func causeOf(err error) error {
	if c, ok := errors.AsType[remora.Cause](err); ok {
		return c
	}
	return err
}
