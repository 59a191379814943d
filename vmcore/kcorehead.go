// SPDX-License-Identifier: Apache-2.0

package vmcore

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"math"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/elfcore"
)

// What is read of the headers of /proc/kcore: as a rule a few KiB, and one program header
// for each run of memory and one more for its struct pages.
const (
	kcoreHeadSize = 64 << 10
	kcoreHeadMost = 16 << 20
)

// kcoreHead is the headers of /proc/kcore, as one read gave them, and what is there by them.
type kcoreHead struct {
	linear // its pieces are physical memory; their place is that in the file
	file   *elfcore.File
	all    []byte          // the headers and the notes
	progs  []byte          // of all: what changes with memory
	segs   []*elfcore.Prog // that have physical memory, in the order of the file
}

// errKcoreEmpty says that a file in the place of /proc/kcore has nothing in it.
var errKcoreEmpty = errors.New("it is empty")

// readHead reads the headers. The kernel makes them anew for each read: only those of one
// read fit together.
func (k *kcore) readHead() (*kcoreHead, error) {
	for size := kcoreHeadSize; ; size *= 4 {
		b := make([]byte, size)
		n, err := k.file.read(b, 0)
		if n == 0 {
			if err == nil {
				err = errKcoreEmpty
			}
			return nil, fmt.Errorf("%s: %w", k.name, err)
		}
		h, err := parseKcore(b[:n], k.name)
		if errors.Is(err, remora.ErrTruncated) && n == size && size < kcoreHeadMost {
			continue
		}
		return h, err
	}
}

// parseKcore makes sense of headers.
func parseKcore(b []byte, name string) (*kcoreHead, error) {
	f, err := elfcore.Read(bytes.NewReader(b), int64(len(b)), name)
	if err != nil {
		return nil, err
	}
	h := &kcoreHead{file: f, all: b, linear: linear{src: &source{name: name, size: math.MaxInt64}}}
	bad := func(off int64, cause error, want, got string) error {
		return &remora.FormatError{File: name, Offset: off, Want: want, Got: got, Err: cause}
	}
	if f.Type != elf.ET_CORE {
		return nil, bad(16, remora.ErrUnrecognized, "the memory of the running kernel (ET_CORE)", f.Type.String())
	}
	last := 0
	for i := range f.Progs {
		p := &f.Progs[i]
		last = max(last, p.Index+1)
		if p.Type == elf.PT_NOTE && p.Off+p.Filesz > uint64(len(b)) {
			return nil, bad(f.ProgOffset(p), remora.ErrTruncated, fmt.Sprintf("0x%x bytes of notes at 0x%x", p.Filesz, p.Off), fmt.Sprintf("the end of the headers at 0x%x", len(b)))
		}
	}
	h.progs = b[:f.ProgOffset(&elfcore.Prog{Index: last})]
	if h.segs, err = physicalSegments(f, bad); err != nil {
		return nil, err
	}
	if len(h.segs) == 0 {
		return nil, fmt.Errorf("%s: it does not say where memory is, as kernels before Linux 4.11 do not (p_paddr): %w", name, errors.ErrUnsupported)
	}
	h.table = settle(kcoreClaims(h.segs))
	return h, nil
}

// physicalSegments gives the segments with a physical address: those of RAM and of the
// kernel's image. Others have all ones there, or 0 before Linux 4.11, which knew of none.
// Memory at the physical address 0 is told from these by the others' ones: every kernel
// has some.
func physicalSegments(f *elfcore.File, bad func(int64, error, string, string) error) (segs []*elfcore.Prog, err error) {
	none := uint64(f.Last())
	tells := false
	for i := range f.Progs {
		tells = tells || f.Progs[i].Type == elf.PT_LOAD && f.Progs[i].Paddr == none
	}
	for i := range f.Progs {
		p := &f.Progs[i]
		switch {
		case p.Type != elf.PT_LOAD || p.Filesz == 0 || p.Paddr == none || p.Paddr == 0 && !tells:
			continue
		case p.Filesz-1 > none-p.Paddr || p.Off > math.MaxInt64-min(p.Filesz, math.MaxInt64) || p.Filesz > math.MaxInt64:
			return nil, bad(f.ProgOffset(p), remora.ErrCorrupt, "a segment of memory that ends below the last address",
				fmt.Sprintf("0x%x bytes for 0x%x at 0x%x", p.Filesz, p.Paddr, p.Off))
		}
		segs = append(segs, p)
	}
	return segs, nil
}

// kcoreClaims gives what segments say of their addresses. The direct map is believed before
// the image of the kernel, of which parts are given back and no longer mapped there: it is
// what has most bytes with one distance between virtual and physical addresses.
func kcoreClaims(segs []*elfcore.Prog) []claim {
	sums := map[uint64]uint64{}
	var direct, most uint64
	for _, p := range segs {
		d := p.Vaddr - p.Paddr
		if sums[d] += p.Filesz; sums[d] > most {
			direct, most = d, sums[d]
		}
	}
	all := make([]claim, len(segs))
	for i, p := range segs {
		all[i] = claim{size: p.Filesz / 2, piece: piece{from: int32(i), off: int64(p.Off),
			first: remora.Addr(p.Paddr), last: remora.Addr(p.Paddr + p.Filesz - 1)}}
		if p.Vaddr-p.Paddr == direct {
			all[i].size += 1 << 63
		}
	}
	return all
}
