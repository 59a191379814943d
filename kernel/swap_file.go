// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/xfer"
)

// SwapFile is a copy of a swap area: of the device, or of the file. It must be of the same
// moment as the image, which nothing in it proves.
type SwapFile struct {
	Type int         // of the area, below 0: the one that it fits
	R    io.ReaderAt // safe for concurrent use
	Size int64       // bytes
	Name string      // for messages
}

// swapHeader is what mkswap(8) wrote (union swap_header in include/linux/swap.h).
type swapHeader struct {
	pages uint64 // of the area, the header among them
	uuid  [16]byte
	label [16]byte
}

const (
	swapMagic   = "SWAPSPACE2"
	swapInfoAt  = 1024 // version, last page, bad pages, uuid, label
	swapVersion = 1
)

// readSwapHeader reads the first page of an area. Both orders of bytes are known by the
// version; the kernel refuses the other one.
func readSwapHeader(f *SwapFile, page int) (*swapHeader, error) {
	b := make([]byte, page)
	if n, err := f.R.ReadAt(b, 0); n < page {
		if err == nil || errors.Is(err, io.EOF) {
			err = remora.ErrTruncated
		}
		return nil, fmt.Errorf("%s: %w", f.Name, err)
	}
	at := page - len(swapMagic)
	if got := string(b[at:]); got != swapMagic {
		return nil, &remora.FormatError{File: f.Name, Offset: int64(at), Want: swapMagic + ", as a swap area has it", Got: fmt.Sprintf("%q", got), Err: remora.ErrUnrecognized}
	}
	if v := binary.LittleEndian.Uint32(b[swapInfoAt:]); v != swapVersion {
		return nil, &remora.FormatError{File: f.Name, Offset: swapInfoAt, Want: "version 1", Got: fmt.Sprint(v), Err: remora.ErrUnrecognized}
	}
	h := &swapHeader{pages: uint64(binary.LittleEndian.Uint32(b[swapInfoAt+4:])) + 1}
	copy(h.uuid[:], b[swapInfoAt+12:])
	copy(h.label[:], b[swapInfoAt+28:])
	return h, nil
}

// swapSpaces gives a Space for each area that there is a file of.
func (k *Kernel) swapSpaces(ctx context.Context, files []SwapFile) (*[swapTypes]*swapSpace, error) {
	all := new([swapTypes]*swapSpace)
	if len(files) == 0 {
		return all, nil
	}
	areas, err := k.SwapAreas(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s: what was swapped out cannot be told from what memory knows better: %w", files[0].Name, err)
	}
	for i := range files {
		f := &files[i]
		h, err := readSwapHeader(f, 1<<k.pageShift())
		if err != nil {
			return nil, err
		}
		a, err := f.area(areas, h)
		if err != nil {
			return nil, err
		}
		if all[a.Type] != nil {
			return nil, fmt.Errorf("%s: swap area %d has a file already: %s", f.Name, a.Type, all[a.Type].file.Name)
		}
		all[a.Type] = &swapSpace{file: f, info: remora.Info{
			Name: f.Name, Ops: k.info.Ops, PtrSize: 8, Granule: 1 << k.pageShift(),
			Last: remora.Addr(max(f.Size, 1) - 1), Writable: k.info.Writable,
		}}
	}
	return all, nil
}

// area gives the area that a file is of.
func (f *SwapFile) area(areas []SwapArea, h *swapHeader) (*SwapArea, error) {
	var fits []*SwapArea
	for i := range areas {
		a := &areas[i]
		if f.Type >= 0 && a.Type != f.Type {
			continue
		}
		if a.Pages == h.pages {
			fits = append(fits, a)
		} else if f.Type >= 0 {
			return nil, fmt.Errorf("%s: it has %d pages, and swap area %d (%q) has %d: %w", f.Name, h.pages, a.Type, a.Path, a.Pages, remora.ErrUnrecognized)
		}
	}
	switch {
	case len(fits) == 1:
		return fits[0], nil
	case len(fits) > 1:
		return nil, fmt.Errorf("%s: %d swap areas have %d pages; say which: N=FILE: %w", f.Name, len(fits), h.pages, remora.ErrUnrecognized)
	case f.Type >= 0:
		return nil, fmt.Errorf("%s: the kernel has no swap area %d in use, but %v: %w", f.Name, f.Type, areas, remora.ErrUnrecognized)
	}
	return nil, fmt.Errorf("%s: it has %d pages, and the swap areas that are in use are %v: %w", f.Name, h.pages, areas, remora.ErrUnrecognized)
}

// String says what an area is in a message.
func (a SwapArea) String() string { return fmt.Sprintf("%d (%q, %d pages)", a.Type, a.Path, a.Pages) }

// swapSpace is a file as a Space. It is never written: the image is, and the file is
// another thing.
type swapSpace struct {
	file *SwapFile
	info remora.Info
}

var (
	_ remora.Space = (*swapSpace)(nil)
	_ xfer.Mover   = (*swapSpace)(nil)
)

func (s *swapSpace) Info() remora.Info { return s.info }

func (s *swapSpace) Transfer(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
	if err := xfer.Refusal(op, s.info.Ops, s.info.Writable, true); err != nil {
		return xfer.Refuse(segs, err)
	}
	return xfer.Each(ctx, op, segs, s)
}

// Move reads the file.
func (s *swapSpace) Move(_ context.Context, op remora.Op, a remora.Addr, buf []byte) (int, error) {
	switch {
	case op&remora.Write != 0:
		return 0, remora.ErrNotPresent
	case uint64(a) >= uint64(s.file.Size):
		return 0, remora.ErrTruncated
	}
	n, err := s.file.R.ReadAt(buf, int64(a))
	switch {
	case n == len(buf):
		return n, nil
	case err == nil || errors.Is(err, io.EOF):
		return n, remora.ErrTruncated
	}
	return n, remora.ErrIO
}
