// SPDX-License-Identifier: Apache-2.0

package vmcore

import (
	"debug/elf"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/elfcore"
)

// incompleteFlag in e_flags is set by makedumpfile when it could not write all.
const incompleteFlag = 1

// elfImage is an image in ELF form: /proc/vmcore, makedumpfile -E, QEMU.
//
// Where segments overlap, an address is read from the largest one that has its byte, and
// written there; the other copies in the file stay as they are.
type elfImage struct {
	linear
	file     *elfcore.File
	segs     []segment // that have physical memory, in the order of the file
	notes    notes
	problems problems
}

// segment is a PT_LOAD with a physical address.
type segment struct {
	prog  *elfcore.Prog
	mem   uint64 // p_memsz, cut off at the last address
	saved uint64 // bytes of it that the file holds
	meant uint64 // bytes of it that the file should hold
}

// openELF opens an ELF image. Without o.Format, what is no kernel image is refused.
func openELF(s *source, o *Options) (format, error) {
	file, err := elfcore.Read(s.r, s.size, s.name)
	if err != nil {
		return nil, s.placed(err)
	}
	if file.Type != elf.ET_CORE {
		return nil, s.bad(16, remora.ErrUnrecognized, anImage+" (ET_CORE)", otherELF(file.Type))
	}
	e := &elfImage{linear: linear{src: s}, file: file}
	if err := e.notes.ofELF(s, file); err != nil {
		return nil, err
	}
	for i := range file.Progs {
		e.take(&file.Progs[i])
	}
	if got := e.other(o.Format == ELF); got != "" {
		return nil, s.bad(0, remora.ErrUnrecognized, anImage, got)
	}
	e.missing()
	if len(e.segs) == 0 && e.lost == "" {
		return nil, s.bad(file.ProgOff, remora.ErrCorrupt, "segments with physical memory", "none")
	}
	e.table = settle(e.claims())
	e.judge(e.problems.add)
	if by := e.hypervisor(); by != "" {
		e.problems.add(s.bad(0, errors.ErrUnsupported, "an image by QEMU or a Linux kernel",
			"notes of "+by+", which are not read: addresses may be those of the host and not of the guest"))
	}
	return e, nil
}

// hypervisor names one whose notes are not known here.
func (e *elfImage) hypervisor() string {
	switch {
	case e.notes.has("VBCORE"):
		return "VirtualBox"
	case e.notes.xen():
		return "Xen"
	}
	return ""
}

// otherELF names an ELF file that is no core.
func otherELF(t elf.Type) string {
	switch t {
	case elf.ET_EXEC, elf.ET_DYN:
		return "an executable or a library (" + t.String() + "), perhaps the vmlinux of a kernel: it holds code and no memory"
	case elf.ET_REL:
		return "an object file (ET_REL), perhaps a kernel module"
	}
	return t.String()
}

// noPhys says that a segment has no physical memory: its address is all ones, or it has no
// byte and its offset is, which is how QEMU writes what the guest had mapped and is no RAM.
func (e *elfImage) noPhys(p *elfcore.Prog) bool {
	ones := uint64(e.file.Last())
	return p.Paddr == ones || p.Filesz == 0 && p.Off == ones
}

// take adds the segment of a program header, if it has physical memory.
func (e *elfImage) take(p *elfcore.Prog) {
	if p.Type != elf.PT_LOAD || e.noPhys(p) {
		return
	}
	g := segment{prog: p, mem: p.Memsz}
	if room := uint64(remora.MaxAddr) - p.Paddr; g.mem > 0 && g.mem-1 > room {
		g.mem = room + 1
	}
	if g.mem == 0 {
		return
	}
	g.meant = min(p.Filesz, g.mem)
	g.saved = min(e.file.Saved(p), g.mem)
	e.segs = append(e.segs, g)
}

// missing finds out whether memory may be missing that no header names: an incomplete
// image has headers of zeros.
func (e *elfImage) missing() {
	empty := e.file.ProgCount - len(e.file.Progs)
	if e.file.Flags&incompleteFlag == 0 {
		return
	}
	if empty == 0 && len(e.segs) > 0 {
		return
	}
	for i := range e.segs {
		g := &e.segs[i]
		if end := g.prog.Paddr + g.mem; end < g.prog.Paddr {
			e.lostFrom = remora.MaxAddr
		} else {
			e.lostFrom = max(e.lostFrom, remora.Addr(end))
		}
	}
	e.lost = fmt.Sprintf("the image is incomplete: %d of its %d program headers were not written", empty, e.file.ProgCount)
}

// claims gives what each segment says of its addresses.
func (e *elfImage) claims() []claim {
	all := make([]claim, 0, len(e.segs)+len(e.segs)/4)
	for i := range e.segs {
		g := &e.segs[i]
		at := uint64(0)
		part := func(end uint64, cause remora.Cause) {
			if end <= at {
				return
			}
			c := claim{size: g.mem, piece: piece{cause: cause, from: int32(i),
				first: remora.Addr(g.prog.Paddr + at), last: remora.Addr(g.prog.Paddr + end - 1)}}
			if cause == 0 {
				c.off = int64(g.prog.Off + at)
			}
			all = append(all, c)
			at = end
		}
		part(g.saved, 0)
		part(g.meant, remora.ErrTruncated)
		part(g.mem, remora.ErrNotSaved)
	}
	return all
}

// other names an ELF core that is no kernel image, or one that is not read here.
func (e *elfImage) other(forced bool) string {
	n := &e.notes
	switch {
	case n.has("CORE", ntTaskStruct) && e.kernelHalf():
		return "the memory of the running kernel (/proc/kcore): it is live, and no image; on this machine it is the target kernel"
	case e.hypervisor() != "" && len(e.segs) == 0:
		return "the memory of a guest as " + e.hypervisor() + " writes it, without segments: that is not read here"
	case forced || e.hypervisor() != "" || n.has("VMCOREINFO") || n.has("QEMU") || n.has("ERASEINFO") || n.has("LINUX", ntDeviceDump):
		return ""
	case n.has("CORE", ntAuxv) || n.has("CORE", ntFile) || n.has("CORE", ntPRPSInfo) || n.has("GDB") || n.has("Delve Header"):
		return "the core of a user process"
	}
	for i := range e.segs {
		if p := e.segs[i].prog; p.Paddr != 0 || p.Vaddr == 0 {
			return ""
		}
	}
	if len(e.segs) == 0 {
		return ""
	}
	return "a core without physical addresses, as of a user process"
}

// kernelHalf says that no segment is at an address of a process, as /proc/kcore has it.
func (e *elfImage) kernelHalf() bool {
	for i := range e.file.Progs {
		if p := &e.file.Progs[i]; p.Type == elf.PT_LOAD && e.file.Wide() && p.Vaddr < 1<<63 {
			return false
		}
	}
	return true
}

// identity says that no segment has a virtual address of its own, as QEMU writes them.
func (e *elfImage) identity() bool {
	return !slices.ContainsFunc(e.segs, func(g segment) bool { return g.prog.Vaddr != g.prog.Paddr && g.prog.Vaddr != 0 })
}

// maker guesses who made the image, by its form. makedumpfile keeps the notes of QEMU,
// which itself has segments without a byte in the file where there is no memory.
func (e *elfImage) maker() string {
	n := &e.notes
	partial := slices.ContainsFunc(e.segs, func(g segment) bool { return g.prog.Filesz < g.prog.Memsz && (g.prog.Filesz > 0 || !n.has("QEMU")) })
	switch {
	case n.has("ERASEINFO") || e.file.Flags&incompleteFlag != 0 || n.has("VMCOREINFO") && partial:
		return "makedumpfile"
	case n.has("QEMU") || n.has("CORE", ntPRStatus) && e.identity():
		return "QEMU"
	case n.has("VMCOREINFO") && n.has("CORE", ntPRStatus):
		return "the kernel (/proc/vmcore)"
	}
	return ""
}

// describe fills in what the file header, the segments and the notes say.
func (e *elfImage) describe(m *Meta) {
	f := e.file
	m.Maker, m.Machine, m.BigEndian = e.maker(), f.Machine, f.BigEndian
	m.WordSize = wordSize(f.Machine, f.Wide())
	if f.Flags&incompleteFlag != 0 {
		m.Flags = append(m.Flags, "incomplete")
	}
	m.Notes, m.CPUs = e.notes.all, e.notes.cpus
	m.takeInfo(e.notes.info)
	for i := range e.segs {
		m.takeBase(f, e.segs[i].prog)
	}
	for _, bad := range e.notes.damage {
		m.Problems = append(m.Problems, bad)
	}
	m.Problems = append(m.Problems, e.problems.all...)
	m.Parts = []Part{{File: e.src.name, Size: e.src.size, Flat: e.src.flat, Pages: e.bounds()}}
}

// takeBase finds out where the image of an x86-64 kernel was loaded, if p is it.
func (m *Meta) takeBase(f *elfcore.File, p *elfcore.Prog) {
	if f.Machine == elf.EM_X86_64 && !m.HasBase && p.Vaddr >= kernelText && p.Vaddr != p.Paddr {
		m.PhysBase, m.HasBase = p.Paddr-(p.Vaddr-kernelText), true
	}
}

// kernelText is where x86-64 maps the text of the kernel (__START_KERNEL_map).
const kernelText = 0xffffffff80000000

// wordSize gives the bytes in a word of the machine. Kernels of 32 bits with memory
// above 4 GiB are written in 64-bit files.
func wordSize(m elf.Machine, wide bool) int {
	switch m {
	case elf.EM_386, elf.EM_ARM, elf.EM_PPC:
		return 4
	}
	if wide {
		return 8
	}
	return 4
}

func (e *elfImage) explain(a remora.Addr, cause error) error {
	i, ok := e.find(a)
	if !ok {
		if errors.Is(cause, remora.ErrHole) && e.notes.has("QEMU") && !e.identity() {
			return fmt.Errorf("%w, or none that the guest had mapped: QEMU made this image with paging", cause)
		}
		return e.explainGap(cause)
	}
	g := &e.segs[e.table[i].from]
	into := uint64(a) - g.prog.Paddr
	var b strings.Builder
	fmt.Fprintf(&b, "in segment 0x%x+0x%x", g.prog.Paddr, g.prog.Memsz)
	switch {
	case errors.Is(cause, remora.ErrNotSaved):
		fmt.Fprintf(&b, ", of which 0x%x bytes are in the file: the maker of the image left the rest out as zeros or as not wanted, and does not say which", g.prog.Filesz)
	case errors.Is(cause, remora.ErrTruncated) && e.table[i].cause != 0:
		fmt.Fprintf(&b, ": would be at 0x%x of %s, beyond %s", g.prog.Off+into, e.src.name, e.src.end())
	default:
		b.WriteString(e.explainLost(e.table[i].off + int64(a-e.table[i].first)))
	}
	return fmt.Errorf("%w: %s", cause, b.String())
}
