// SPDX-License-Identifier: Apache-2.0

package vmcore

import (
	"debug/elf"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/elfcore"
)

// The most of what the sub header points to that is read.
const (
	kdumpMostInfo  = 1 << 20 // bytes; the kernel has a page for it
	kdumpMostNotes = 16 << 20
)

// arm32 says that the first bit of the bitmap is the page at the physical base: makedumpfile
// and QEMU do so for 32-bit ARM.
func (h *kdumpHead) arm32() bool {
	m := h.uname[4]
	return !h.wide && h.version >= 1 && strings.HasPrefix(m, "arm") && !strings.HasPrefix(m, "arm64")
}

// machine gives the machine by its name in utsname.
func (h *kdumpHead) machine() elf.Machine {
	m := h.uname[4]
	switch {
	case m == "x86_64":
		return elf.EM_X86_64
	case m == "aarch64" || m == "arm64" || m == "aarch64_be":
		return elf.EM_AARCH64
	case m == "riscv64" || m == "riscv32":
		return elf.EM_RISCV
	case m == "s390x" || m == "s390":
		return elf.EM_S390
	case m == "ppc64" || m == "ppc64le":
		return elf.EM_PPC64
	case m == "ppc":
		return elf.EM_PPC
	case len(m) == 4 && m[0] == 'i' && m[2:] == "86":
		return elf.EM_386
	case strings.HasPrefix(m, "arm"):
		return elf.EM_ARM
	case strings.HasPrefix(m, "mips"):
		return elf.EM_MIPS
	case strings.HasPrefix(m, "loongarch"):
		return elf.EM_LOONGARCH
	}
	return elf.EM_NONE
}

// readBlobs reads the notes and VMCOREINFO of the first file that has them. What is
// wrong with them is kept as a problem: the pages are there without them.
func (k *kdump) readBlobs(parts []*kdumpPart) {
	for _, p := range parts {
		var bad []error
		if k.info == nil {
			var err error
			if k.info, err = p.blob(&p.head.sub.info, kdumpMostInfo); err != nil {
				bad = append(bad, err)
			}
		}
		if k.notes == nil {
			raw, err := p.blob(&p.head.sub.notes, kdumpMostNotes)
			if err == nil {
				k.notes, err = notesIn(p.src, int64(p.head.sub.notes.off), raw, p.head.order)
			}
			if err != nil {
				bad = append(bad, err)
			}
		}
		k.problems = append(k.problems, bad...)
	}
	if k.info == nil {
		for _, n := range k.notes {
			if n.Owner == "VMCOREINFO" {
				k.info = n.Desc
				break
			}
		}
	}
}

// judge says whether what a header points to is in the file.
func (b *kdumpBlob) judge(src *source, block, most int64) error {
	size := uint64(src.size)
	switch {
	case b.size == 0:
		return nil
	case b.off < uint64(block):
		return src.bad(b.field, remora.ErrCorrupt, b.name+" behind the header", fmt.Sprintf("offset 0x%x", b.off))
	case b.size > uint64(most):
		return src.bad(b.field, remora.ErrCorrupt, fmt.Sprintf("%s of at most %d bytes", b.name, most), fmt.Sprintf("%d bytes", b.size))
	case b.off > size || b.size > size-b.off:
		return src.bad(b.field, remora.ErrTruncated, b.name+" within "+src.end(), fmt.Sprintf("0x%x bytes at 0x%x", b.size, b.off))
	}
	return nil
}

// blob reads what a header points to, nil if it points nowhere.
func (p *kdumpPart) blob(b *kdumpBlob, most int64) ([]byte, error) {
	if b.size == 0 {
		return nil, nil
	}
	if err := b.judge(p.src, p.head.block, most); err != nil {
		return nil, err
	}
	raw := make([]byte, b.size)
	if err := p.src.fill(raw, int64(b.off), b.name); err != nil {
		return nil, err
	}
	return raw, nil
}

// notesIn gives the notes in raw, which lies at off of src, up to the first that is damaged
// or all zeros, which is padding.
func notesIn(src *source, off int64, raw []byte, order binary.ByteOrder) ([]Note, error) {
	var all []Note
	for n, err := range elfcore.NotesIn(raw, off, order, src.name) {
		if err != nil {
			return all, src.placed(err)
		}
		if n == (elfcore.Note{Off: n.Off}) {
			break
		}
		desc := raw[min(n.Off-off, int64(len(raw))):] // the padding of a last name may be cut off
		all = append(all, Note{Owner: n.Owner, Type: n.Type, Offset: n.Off, Size: n.Size, Desc: desc[:n.Size:n.Size]})
	}
	return all, nil
}

// foresee finds what is cut off, as far as headers tell.
func (k *kdump) foresee(parts []*kdumpPart) {
	for _, p := range parts {
		if end := p.head.descOff(); p.src.size < end {
			k.problems = append(k.problems, p.src.cut(p.src.size, fmt.Sprintf("headers and bitmaps up to 0x%x", end)))
		} else if p.src.lost != nil {
			k.problems = append(k.problems, p.src.lost)
		} else if p.start < p.end {
			if err := k.cutOff(p); err != nil {
				k.ends = append(k.ends, err)
			}
		}
	}
	for _, gap := range k.gaps() {
		k.problems = append(k.problems, k.missingPart(gap))
	}
}

// statusNames are the bits of the status, in order.
func statusNames(status uint32) (codecs, flags []string) {
	for _, f := range []struct {
		bit   uint32
		name  string
		codec bool
	}{
		{kdumpZlib, "zlib", true}, {kdumpLZO, "lzo", true}, {kdumpSnappy, "snappy", true}, {kdumpIncomplete, "incomplete", false},
		{kdumpVmemmap, "unused vmemmap excluded", false}, {kdumpZstd, "zstd", true},
	} {
		if status&f.bit == 0 {
			continue
		}
		flags = append(flags, f.name)
		if f.codec {
			codecs = append(codecs, f.name)
		}
		status &^= f.bit
	}
	if status != 0 {
		flags = append(flags, fmt.Sprintf("0x%x", status))
	}
	return codecs, flags
}

// describe fills in what the headers say.
func (k *kdump) describe(m *Meta) {
	h := k.head
	m.Format, m.Reason = Kdump, fmt.Sprintf("it begins with %q", h.sig)
	m.Machine, m.WordSize, m.PageSize = h.machine(), h.wordSize(), int(h.block)
	if m.Machine == elf.EM_NONE {
		m.Machine = k.notesMachine()
	}
	m.BigEndian = h.order == binary.ByteOrder(binary.BigEndian)
	m.Version, m.Level = h.version, h.sub.level
	m.Uname, m.Time = h.uname, h.time()
	status := h.status
	for _, p := range append(slices.Clone(k.parts), k.empty...) {
		status |= p.head.status
		m.Parts = append(m.Parts, Part{
			File: p.src.name, Size: p.src.size, Flat: p.src.flat,
			Pages: remora.Range{Start: remora.Addr((k.base + p.start) << k.shift), Size: (p.end - p.start) << k.shift},
		})
	}
	m.Codecs, m.Flags = statusNames(status)
	m.Notes, m.Problems = k.notes, slices.Concat(k.problems, k.ends)
	m.CPUs = cpusOf(k.notes, h.order, m.Machine)
	m.PhysBase, m.HasBase = h.sub.physBase, h.version >= 1
	// VMCOREINFO knows better: QEMU names no release, takes blocks of 64 KiB on arm64
	// whatever the size of a page is, and writes a wrong physical base.
	m.takeInfo(k.info)
	m.Maker = k.maker()
}

// maker says who wrote the file. QEMU knows no names of the guest, but its machine at
// most; makedumpfile keeps QEMU's notes.
func (k *kdump) maker() string {
	if k.head.uname[2] != "" {
		return "makedumpfile"
	}
	if k.head.uname[4] != "" {
		return "QEMU"
	}
	return ""
}

// notesMachine tells the machine by the size of its NT_PRSTATUS: QEMU names only the
// machines it was built for first.
func (k *kdump) notesMachine() elf.Machine {
	if !k.head.wide || k.head.order != binary.ByteOrder(binary.LittleEndian) {
		return elf.EM_NONE
	}
	for _, n := range k.notes {
		if n.Owner != "CORE" || n.Type != ntPRStatus {
			continue
		}
		switch len(n.Desc) {
		case 336:
			return elf.EM_X86_64
		case 392:
			return elf.EM_AARCH64
		case 376:
			return elf.EM_RISCV
		}
	}
	return elf.EM_NONE
}
