// SPDX-License-Identifier: Apache-2.0

package kvm

import (
	"cmp"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"slices"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/compose"
	"github.com/remora-go/remora/internal/elfcore"
	"github.com/remora-go/remora/internal/xfer"
)

// kcore is /proc/kcore: an ELF core whose segments are the memory of the running
// kernel (fs/proc/kcore.c). Both address spaces in it are views of one file.
type kcore struct {
	file  *kcoreFile
	layer *compose.Layer // nil unless writes are kept

	kernel, physical *remora.Memory
	noPhysical       error
}

// run is a segment: addresses and where they are in the file.
type run struct {
	remora.Range
	off  uint64
	phys remora.Addr // of Start; noPhys where it has none
}

const noPhys = remora.MaxAddr

// newKcore takes the file apart. With overlay, what is written to either view is
// kept in memory, and seen in both.
func newKcore(r io.ReaderAt, size int64, name string, overlay bool) (*kcore, error) {
	f, err := elfcore.Read(r, size, name)
	if err != nil {
		return nil, err
	}
	if f.Type != elf.ET_CORE {
		return nil, &remora.FormatError{File: name, Offset: 16, Want: "a core file (ET_CORE)", Got: f.Type.String(), Err: remora.ErrUnrecognized}
	}
	k := &kcore{file: &kcoreFile{r: r, info: remora.Info{
		Name:      name,
		Ops:       remora.StopAtFault | remora.Force | remora.Resident,
		PtrSize:   uint8(f.WordSize()),
		BigEndian: f.BigEndian,
		Granule:   granule(size),
		Last:      remora.MaxAddr,
		Live:      true,
	}}}
	var base remora.Space = k.file
	if overlay {
		k.layer = compose.Overlay(base)
		base = k.layer
	}
	runs, err := kcoreRuns(f)
	if err != nil {
		return nil, err
	}
	if k.kernel, err = kernelView(base, runs); err != nil {
		return nil, err
	}
	k.physical, err = physicalView(base, runs)
	if errors.Is(err, errors.ErrUnsupported) {
		k.noPhysical, err = err, nil
	}
	return k, err
}

// granule is the largest power of two, up to a page, that divides the size of the file.
func granule(size int64) uint32 {
	return 1 << bits.TrailingZeros64(uint64(size)|4096)
}

// kcoreRuns gives the segments that hold memory, by address.
func kcoreRuns(f *elfcore.File) ([]run, error) {
	var runs []run
	places := false
	for i := range f.Progs {
		p := &f.Progs[i]
		n := min(p.Memsz, p.Filesz)
		if p.Type != elf.PT_LOAD || n == 0 {
			continue
		}
		if n-1 > uint64(remora.MaxAddr)-max(p.Vaddr, p.Off) || p.Off > 1<<63-1 {
			return nil, &remora.FormatError{File: f.Name, Offset: f.ProgOffset(p), Want: "a segment within the address space",
				Got: fmt.Sprintf("0x%x+0x%x at 0x%x", p.Vaddr, n, p.Off), Err: remora.ErrCorrupt}
		}
		r := run{Range: remora.Range{Start: remora.Addr(p.Vaddr), Size: n}, off: p.Off, phys: remora.Addr(p.Paddr)}
		if last := uint64(f.Last()); p.Paddr == last || n-1 > last-p.Paddr {
			r.phys = noPhys
		}
		places = places || p.Paddr != 0
		runs = append(runs, r)
	}
	for i := range runs {
		if !places { // kernels before 4.19 leave the field at 0 in every segment
			runs[i].phys = noPhys
		}
	}
	slices.SortStableFunc(runs, func(a, b run) int { return cmp.Compare(a.Start, b.Start) })
	return apart(runs), nil
}

// apart takes away from each of the sorted runs what those before it hold.
func apart(runs []run) []run {
	out := runs[:0]
	for _, r := range runs {
		if len(out) > 0 && out[len(out)-1].Last() >= r.Start {
			over := uint64(out[len(out)-1].Last()-r.Start) + 1
			if over >= r.Size {
				continue
			}
			r.Start, r.Size, r.off = r.Start+remora.Addr(over), r.Size-over, r.off+over
			if r.phys != noPhys {
				r.phys += remora.Addr(over)
			}
		}
		out = append(out, r)
	}
	return out
}

func kernelView(base remora.Space, runs []run) (*remora.Memory, error) {
	s, err := splice(base, "kernel", runs)
	if err != nil {
		return nil, err
	}
	return remora.New(&kernelSpace{Space: s, runs: runs}), nil
}

// physicalView gives the same bytes by their physical addresses. The kernel's text
// is there twice, as text and as memory.
func physicalView(base remora.Space, runs []run) (*remora.Memory, error) {
	var at []run
	for _, r := range runs {
		if r.phys != noPhys {
			r.Start = r.phys
			at = append(at, r)
		}
	}
	if len(at) == 0 {
		return nil, fmt.Errorf("%s has no physical addresses: %w", base.Info().Name, errors.ErrUnsupported)
	}
	slices.SortStableFunc(at, func(a, b run) int { return cmp.Compare(a.Start, b.Start) })
	s, err := splice(base, "physical", apart(at))
	if err != nil {
		return nil, err
	}
	return remora.New(s), nil
}

func splice(base remora.Space, name string, runs []run) (remora.Space, error) {
	parts := make([]compose.Part, len(runs))
	for i, r := range runs {
		parts[i] = compose.Part{Range: r.Range, Space: base, At: remora.Addr(r.off)}
	}
	return compose.Splice(&compose.SpliceOptions{Name: name}, parts...)
}

// kernelSpace is the kernel's address space. It knows the physical addresses of what
// has a fixed one.
type kernelSpace struct {
	remora.Space
	runs []run // by address
}

var (
	_ remora.Space      = (*kernelSpace)(nil)
	_ remora.Translator = (*kernelSpace)(nil)
	_ remora.Explainer  = (*kernelSpace)(nil)
)

// Translate gives the physical address of memory that the kernel has mapped for good.
func (k *kernelSpace) Translate(_ context.Context, a remora.Addr) remora.Extent {
	i, _ := slices.BinarySearchFunc(k.runs, a, func(r run, a remora.Addr) int { return cmp.Compare(r.Last(), a) })
	switch {
	case i == len(k.runs) || a < k.runs[i].Start:
		return remora.Extent{Virt: a, Size: 1, Err: remora.ErrUnmapped}
	case k.runs[i].phys == noPhys:
		return remora.Extent{Virt: a, Size: 1, Err: errNoPlace}
	}
	r := &k.runs[i]
	return remora.Extent{Virt: a, Phys: r.phys + (a - r.Start), Size: 1}
}

var errNoPlace = errors.New("its physical address is in the page tables, which are not looked at here")

// Explain says why the kernel cannot be written.
func (k *kernelSpace) Explain(ctx context.Context, op remora.Op, a remora.Addr, c error) error {
	if errors.Is(c, remora.ErrReadOnly) {
		return fmt.Errorf("%w: /proc/kcore cannot be written", c)
	}
	if x, ok := remora.As[remora.Explainer](k.Space); ok {
		return x.Explain(ctx, op, a, c)
	}
	return c
}

// kcoreFile is the file by its own offsets.
type kcoreFile struct {
	gate xfer.Gate
	r    io.ReaderAt
	info remora.Info
}

var (
	_ remora.Space = (*kcoreFile)(nil)
	_ xfer.Mover   = (*kcoreFile)(nil)
)

func (f *kcoreFile) Info() remora.Info { return f.info }

func (f *kcoreFile) Transfer(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
	if err := f.gate.Admit(op, f.info.Ops, false); err != nil {
		return xfer.Refuse(segs, err)
	}
	defer f.gate.Leave()
	return xfer.Each(ctx, op, segs, f)
}

// Move reads a prefix of buf. The kernel gives an error for what a guest's hypervisor
// has taken away, and zeros for most of what is not there.
func (f *kcoreFile) Move(_ context.Context, _ remora.Op, a remora.Addr, buf []byte) (int, error) {
	if a > 1<<63-1 {
		return 0, remora.ErrTruncated
	}
	n, err := f.r.ReadAt(buf, int64(a))
	switch {
	case n == len(buf):
		return n, nil
	case err == nil, err == io.EOF:
		return n, remora.ErrTruncated
	}
	return n, remora.ErrIO
}

// close ends all views. The reader is its owner's.
func (k *kcore) close() {
	k.file.gate.Close()
	if k.layer != nil {
		k.layer.Close()
	}
}
