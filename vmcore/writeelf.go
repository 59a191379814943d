// SPDX-License-Identifier: Apache-2.0

package vmcore

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/elfcore"
)

// The sizes of what an ELF64 file begins with.
const (
	elfHeader  = 64
	elfProg    = 56
	elfSection = 64
	elfXNum    = 0xffff // PN_XNUM: the count is in section 0
)

// outSegment is one PT_LOAD of the new image: saved bytes, and behind them those that
// are not.
type outSegment struct {
	start remora.Addr
	saved uint64
	size  uint64 // saved and not
	off   int64  // in the file
}

// spare is for how many gaps there is room among the program headers. When there are
// more, everything is written once again.
const spare = 256

// elfTries is how often that happens, with a source that changes.
const elfTries = 4

// elf writes an ELF image: the header, the program headers, section 0 if it holds their
// count, the notes, memory.
func (wr *writing) elf(ctx context.Context) error {
	segs, err := wr.segments(ctx)
	if err != nil {
		return err
	}
	notes, _, _, err := wr.notes()
	if err != nil {
		return err
	}
	known := wr.out
	for range elfTries {
		wr.out, wr.done = known, 0
		room := wr.headers(segs) + spare
		if room > elfcore.MaxProgs {
			return fmt.Errorf("an ELF image of %d pieces of memory, where %d are the most: %w", len(segs), elfcore.MaxProgs, errors.ErrUnsupported)
		}
		notesAt := int64(elfHeader + room*elfProg + elfSection)
		wr.place(segs, notesAt+int64(len(notes)))
		gaps, err := wr.elfMemory(ctx, segs)
		if err != nil {
			return err
		}
		segs = without(segs, gaps)
		if wr.headers(segs) > room {
			if err := wr.w.empty(); err != nil {
				return err
			}
			known = wr.out
			known.Saved, known.Zeros = 0, 0
			continue
		}
		if err := wr.w.put(notes, notesAt); err != nil {
			return err
		}
		if err := wr.elfHeaders(segs, notesAt, len(notes)); err != nil {
			return err
		}
		return wr.w.close()
	}
	return fmt.Errorf("the source lacks other memory each time that it is read: %w", remora.ErrCorrupt)
}

// segments makes segments of the runs.
func (wr *writing) segments(ctx context.Context) ([]outSegment, error) {
	var segs []outSegment
	for r, err := range wr.c.Runs(ctx) {
		if err != nil {
			return nil, err
		}
		if r.Rest {
			wr.out.Rest = true
			continue
		}
		if r.Size == 0 || errors.Is(r.Err, remora.ErrHole) {
			continue
		}
		var last *outSegment
		if n := len(segs); n > 0 && segs[n-1].start+remora.Addr(segs[n-1].size) == r.Start {
			last = &segs[n-1]
		}
		saved := r.Err == nil
		switch {
		case saved:
			wr.total += r.Size
		case errors.Is(r.Err, remora.ErrNotSaved):
			wr.out.NotSaved += r.Size
		default:
			wr.out.Lost += r.Size
		}
		switch {
		case last != nil && !saved:
			last.size += r.Size
		case last != nil && last.saved == last.size:
			last.size += r.Size
			last.saved = last.size
		case saved:
			segs = append(segs, outSegment{start: r.Start, saved: r.Size, size: r.Size})
		default:
			segs = append(segs, outSegment{start: r.Start, size: r.Size})
		}
		if len(segs) > elfcore.MaxProgs {
			return nil, fmt.Errorf("an ELF image of more than %d pieces of memory: %w", elfcore.MaxProgs, errors.ErrUnsupported)
		}
	}
	return segs, nil
}

// place gives each segment its place in the file behind end. It begins at the same
// offset in a page as in memory, so that it can be mapped.
func (wr *writing) place(segs []outSegment, end int64) {
	page := int64(wr.page)
	for i := range segs {
		s := &segs[i]
		if s.saved == 0 {
			s.off = end
			continue
		}
		s.off = (end+page-1)&^(page-1) + int64(uint64(s.start)%wr.page)
		end = s.off + int64(s.saved)
	}
}

// elfMemory writes memory, and gives what could not be read.
func (wr *writing) elfMemory(ctx context.Context, segs []outSegment) ([]remora.Range, error) {
	var gaps []remora.Range
	p := &pipe{space: wr.c.Space, page: wr.page, n: wr.o.Workers}
	p.put = func(j *job) error {
		for _, g := range j.gaps {
			wr.gap(g)
			gaps = append(gaps, g.Range)
			clear(j.buf[g.Start-j.Start:][:g.Size])
		}
		wr.count(j)
		wr.progress(j.Size)
		return wr.w.sparse(j.buf, j.off)
	}
	err := p.run(ctx, jobsOf(segs))
	return gaps, err
}

// count counts what was saved, and the pages of zeros of it.
func (wr *writing) count(j *job) {
	gaps := j.gaps
	for at := uint64(0); at < j.Size; {
		a := j.Start + remora.Addr(at)
		n := min(wr.page-uint64(a)%wr.page, j.Size-at)
		for len(gaps) > 0 && gaps[0].Last() < a {
			gaps = gaps[1:]
		}
		if len(gaps) > 0 {
			n -= gaps[0].Intersect(remora.Range{Start: a, Size: n}).Size
		}
		wr.out.Saved += n
		if n > 0 && allZeros(j.buf[at:at+n]) {
			wr.out.Zeros += n
		}
		at += min(wr.page-uint64(a)%wr.page, j.Size-at)
	}
}

// jobsOf cuts what segments have saved into jobs, at multiples of jobBytes.
func jobsOf(segs []outSegment) iter.Seq2[job, error] {
	return func(yield func(job, error) bool) {
		for _, s := range segs {
			for at := uint64(0); at < s.saved; {
				a := s.start + remora.Addr(at)
				n := min(s.saved-at, jobBytes-uint64(a)%jobBytes)
				if !yield(job{Range: remora.Range{Start: a, Size: n}, off: s.off + int64(at)}, nil) {
					return
				}
				at += n
			}
		}
	}
}

// without takes gaps, in order, out of what segs have saved.
func without(segs []outSegment, gaps []remora.Range) []outSegment {
	if len(gaps) == 0 {
		return segs
	}
	var all []outSegment
	for _, s := range segs {
		for len(gaps) > 0 && s.saved > 0 && gaps[0].Start-s.start < remora.Addr(s.saved) {
			first, past := uint64(gaps[0].Start-s.start), uint64(gaps[0].Start-s.start)+gaps[0].Size
			gaps = gaps[1:]
			if past == s.saved {
				s.saved = first
				break
			}
			if n := len(all); first == 0 && n > 0 && all[n-1].start+remora.Addr(all[n-1].size) == s.start {
				all[n-1].size += past
			} else {
				all = append(all, outSegment{start: s.start, saved: first, size: past, off: s.off})
			}
			s.start, s.off = s.start+remora.Addr(past), s.off+int64(past)
			s.saved, s.size = s.saved-past, s.size-past
		}
		all = append(all, s)
	}
	return all
}

// headers counts program headers: one is of the notes, and where there may have been more
// memory than the source names there is one of zeros, as makedumpfile leaves them.
func (wr *writing) headers(segs []outSegment) int {
	n := 1 + len(segs) + wr.kernelSegments(segs)
	if wr.out.Rest {
		n++
	}
	return n
}

// kernelSegments counts the segments that tell where the kernel's image is mapped.
func (wr *writing) kernelSegments(segs []outSegment) int {
	n := 0
	for range wr.kernelImage(segs) {
		n++
	}
	return n
}

// kernelImage gives segments that lie in others, at the addresses of the kernel's image.
func (wr *writing) kernelImage(segs []outSegment) iter.Seq2[outSegment, remora.Addr] {
	return func(yield func(outSegment, remora.Addr) bool) {
		for _, m := range wr.c.Kernel {
			i, _ := slices.BinarySearchFunc(segs, m.Start, func(s outSegment, a remora.Addr) int {
				if s.start+remora.Addr(s.size-1) < a {
					return -1
				}
				return 1
			})
			for ; i < len(segs); i++ {
				s := segs[i]
				part := m.Intersect(remora.Range{Start: s.start, Size: s.size})
				if part.Empty() {
					break
				}
				skip := uint64(part.Start - s.start)
				s = outSegment{start: part.Start, size: part.Size, saved: min(part.Size, s.saved-min(s.saved, skip)), off: s.off + int64(skip)}
				if s.saved > 0 && !yield(s, m.Virt+(part.Start-m.Start)) {
					return
				}
			}
		}
	}
}

// elfHeaders writes what the file begins with.
func (wr *writing) elfHeaders(segs []outSegment, notesAt int64, notes int) error {
	order, m := wr.order(), &wr.c.Meta
	count := wr.headers(segs)
	data := elf.ELFDATA2LSB
	if m.BigEndian {
		data = elf.ELFDATA2MSB
	}
	num, shoff, shnum, flags := uint16(min(count, elfXNum)), uint64(0), uint16(0), uint32(0)
	if count >= elfXNum {
		shoff, shnum = uint64(elfHeader+count*elfProg), 1
	}
	if wr.incomplete() {
		flags = incompleteFlag
	}
	b := append([]byte(elf.ELFMAG), byte(elf.ELFCLASS64), byte(data), byte(elf.EV_CURRENT), 0, 0, 0, 0, 0, 0, 0, 0, 0)
	b = order.AppendUint16(b, uint16(elf.ET_CORE))
	b = order.AppendUint16(b, uint16(m.Machine))
	b = order.AppendUint32(b, uint32(elf.EV_CURRENT))
	for _, v := range []uint64{0, elfHeader, shoff} { // entry, program headers, sections
		b = order.AppendUint64(b, v)
	}
	b = order.AppendUint32(b, flags)
	for _, v := range []uint16{elfHeader, elfProg, num, elfSection, shnum, 0} {
		b = order.AppendUint16(b, v)
	}
	t := &stream{s: &wr.w}
	if err := t.write(b); err != nil {
		return err
	}
	if err := t.write(wr.prog(elf.PT_NOTE, outSegment{off: notesAt, saved: uint64(notes), size: uint64(notes)}, 0)); err != nil {
		return err
	}
	for s, virt := range wr.kernelImage(segs) {
		if err := t.write(wr.prog(elf.PT_LOAD, s, virt)); err != nil {
			return err
		}
	}
	for _, s := range segs {
		virt := s.start // as QEMU has it
		if wr.c.Direct {
			virt += wr.c.DirectBase
		}
		if err := t.write(wr.prog(elf.PT_LOAD, s, virt)); err != nil {
			return err
		}
	}
	if wr.out.Rest {
		if err := t.write(make([]byte, elfProg)); err != nil {
			return err
		}
	}
	if shnum > 0 {
		b = make([]byte, elfSection)
		order.PutUint64(b[32:], uint64(shnum)) // sh_size: the count of sections
		order.PutUint32(b[44:], uint32(count)) // sh_info: of program headers
		if err := t.write(b); err != nil {
			return err
		}
	}
	return t.flush()
}

// prog gives one program header.
func (wr *writing) prog(typ elf.ProgType, s outSegment, virt remora.Addr) []byte {
	order := wr.order()
	flags := elf.PF_R | elf.PF_W | elf.PF_X
	if typ == elf.PT_NOTE {
		flags = 0
	}
	b := order.AppendUint32(make([]byte, 0, elfProg), uint32(typ))
	b = order.AppendUint32(b, uint32(flags))
	for _, v := range []uint64{uint64(s.off), uint64(virt), uint64(s.start), s.saved, s.size, 0} {
		b = order.AppendUint64(b, v)
	}
	return b
}
