// SPDX-License-Identifier: Apache-2.0

package vmcore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/remora-go/remora"
)

// Content is what Write makes an image of.
type Content struct {
	// Space is the memory, at physical addresses.
	Space remora.Space

	// Runs gives what Space holds, and what it lacks and why, in address order and
	// without overlaps, each time that it is called. Holes need not be among it.
	Runs func(context.Context) iter.Seq2[Run, error]

	// Meta is what the image is to say of itself. Of it are used: Machine, WordSize,
	// BigEndian, PageSize, Level, Uname, Time, VMCoreInfo, Notes and CPUs.
	Meta Meta

	// PhysBase is where the kernel's image was loaded, for the header of a
	// kdump-compressed image of an x86 machine.
	PhysBase uint64

	// Direct says that the kernel has all of memory mapped in one piece, physical
	// address 0 at DirectBase, and Kernel where it has its own image besides. An ELF
	// image tells its readers so.
	Direct     bool
	DirectBase remora.Addr
	Kernel     []Mapped
}

// Content gives what Write needs of an Image, as far as the Image itself knows. With
// Options.ZeroExcluded what was left out is there, as zeros.
func (m *Image) Content() *Content {
	c := &Content{Space: m, Runs: m.Runs, Meta: m.meta}
	if m.zero {
		c.Runs = m.zeroRuns
	}
	return c
}

// zeroRuns are Runs of an image whose excluded pages are zeros.
func (m *Image) zeroRuns(ctx context.Context) iter.Seq2[Run, error] {
	return func(yield func(Run, error) bool) {
		for r, err := range m.Runs(ctx) {
			if errors.Is(r.Err, remora.ErrNotSaved) {
				r.Err, r.Zeros = nil, true
			}
			if !yield(r, err) {
				return
			}
		}
	}
}

// Mapped is a run of physical addresses, and where the kernel has it mapped.
type Mapped struct {
	remora.Range
	Virt remora.Addr
}

// WriteOptions say how Write writes. Nil is the same as the zero Options.
type WriteOptions struct {
	To    Format // ELF or Kdump; empty: ELF
	Codec Codec  // of the pages of a kdump-compressed image; empty: Zlib
	Level int    // of the codec: 1 to 9 for Zlib, 1 to 22 for Zstd; 0: its own default

	// Fresh says that the file was empty: pages of zeros are then passed over, and the
	// file has holes. If it has Truncate, as an *os.File does, it is emptied where Write
	// has to begin again.
	Fresh bool

	Workers  int                      // 0: as many as there are processors
	Progress func(done, total uint64) // bytes of memory; called now and then, in one goroutine
}

// Codec is a way to compress pages.
type Codec string

// The codecs that Write knows.
const (
	Zlib   Codec = "zlib"
	Zstd   Codec = "zstd"
	Snappy Codec = "snappy"
	None   Codec = "none"
)

// Written says what Write has done with memory. Amounts are in bytes.
type Written struct {
	Saved    uint64 // is in the new image
	Zeros    uint64 // of Saved: pages of zeros
	NotSaved uint64 // was left out of the source, and so here

	// Lost was lost in the source already, or was found damaged while it was read. A
	// kdump-compressed image says of these pages that they are lost; an ELF image can
	// only say that they are not saved.
	Lost uint64
	// Rest says that more is lost, and how much is not known: see Run. The new image is
	// marked as incomplete; an ELF image says the same of these addresses, and a
	// kdump-compressed one that no memory is there.
	Rest bool

	// Partial is memory that was there and is left out: parts of pages, of which a
	// kdump-compressed image has no notion.
	Partial uint64

	NotesLeft int // notes of the source that are too large to be kept in memory

	Size int64 // of the file
	Gaps []Gap // what was found damaged: the first MaxGaps of them
}

// MaxGaps is how many gaps are told one by one.
const MaxGaps = 1000

// Gap is memory that the source has, and that could not be read.
type Gap struct {
	remora.Range
	Err error
}

// Write writes an image of c into w from offset 0, by all processors, in the order of
// addresses. What a gap is made of is not invented: see Written. The memory that it
// takes does not depend on the size of c but for 40 bytes for each run of an ELF image.
// A file that was not Fresh and is longer stays as long.
func Write(ctx context.Context, w io.WriterAt, c *Content, o *WriteOptions) (*Written, error) {
	if o == nil {
		o = &WriteOptions{}
	}
	wr := &writing{c: c, o: *o, w: sink{w: w, fresh: o.Fresh}, page: uint64(c.Meta.PageSize)}
	if wr.page == 0 {
		wr.page = defaultPage
	}
	if wr.page < 512 || wr.page > 1<<20 || wr.page&(wr.page-1) != 0 {
		return nil, fmt.Errorf("pages of %d bytes: %w", wr.page, errors.ErrUnsupported)
	}
	var err error
	switch o.To {
	case ELF, "":
		err = wr.elf(ctx)
	case Kdump:
		err = wr.kdump(ctx)
	default:
		return nil, fmt.Errorf("write an image of format %q: %w", o.To, errors.ErrUnsupported)
	}
	if err != nil {
		return nil, err
	}
	wr.out.Size = wr.w.end
	return &wr.out, nil
}

// defaultPage is the size of a page where the source does not say.
const defaultPage = 4096

// writing is one run of Write.
type writing struct {
	c    *Content
	o    WriteOptions
	w    sink
	page uint64
	out  Written

	done, total uint64 // bytes of memory, for Progress
}

// progress counts n more bytes of memory.
func (wr *writing) progress(n uint64) {
	wr.done += n
	if wr.o.Progress != nil {
		wr.o.Progress(wr.done, wr.total)
	}
}

// gap takes down what could not be read. Of a source that is no image what was left out
// shows only then.
func (wr *writing) gap(g Gap) {
	if wr.o.To != Kdump && errors.Is(g.Err, remora.ErrNotSaved) {
		wr.out.NotSaved += g.Size
		return
	}
	wr.out.Lost += g.Size
	if n := len(wr.out.Gaps); n > 0 && wr.out.Gaps[n-1].Last()+1 == g.Start && wr.out.Gaps[n-1].Err == g.Err {
		wr.out.Gaps[n-1].Size += g.Size
		return
	}
	if len(wr.out.Gaps) < MaxGaps {
		wr.out.Gaps = append(wr.out.Gaps, g)
	}
}

// incomplete says whether memory is missing that should be there.
func (wr *writing) incomplete() bool { return wr.out.Lost > 0 || wr.out.Rest }
