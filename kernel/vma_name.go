// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"strings"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/paging"
)

// name gives a mapping the name that it has in /proc/PID/maps, in the order of
// get_vma_name in fs/proc/task_mmu.c: that of its file is there already.
func (l *vmaLister) name(v *VMA, b []byte) error {
	f := l.f
	anon := remora.Addr(0)
	if f.name.has() || f.anonName.has() {
		anon = remora.Addr(f.anonName.in(b))
	}
	switch {
	case v.file != nil && anon != 0 && f.anonName.off != f.shared.off && v.file.magic == magicTmpfs:
		return l.anonName(v, anon, "[anon_shmem:")
	case v.file != nil:
		return nil
	}
	if private := remora.Addr(f.private.in(b)); v.ops != 0 && private != 0 {
		if name := l.special(v.ops, private); name != "" {
			v.Name = name
			return nil
		}
	}
	start, end := uint64(v.Start), uint64(v.Start)+v.Size
	switch {
	case l.heap(start, end):
		v.Name = "[heap]"
	case start <= l.stack && end >= l.stack:
		v.Name = "[stack]"
	case anon != 0:
		return l.anonName(v, anon, "[anon:")
	}
	return nil
}

// heap says whether addresses are those that brk(2) gave. Before 6.6 what lies beside them
// is called so, too.
func (l *vmaLister) heap(start, end uint64) bool {
	if l.k.before(6, 6) {
		return start <= l.brk && end >= l.startBrk
	}
	return start < l.brk && end > l.startBrk
}

// before says whether the kernel is known to be older than a version.
func (k *Kernel) before(major, minor int) bool {
	v := versionOf(k.release())
	return v != (paging.Version{}) && (v.Major < major || v.Major == major && v.Minor < minor)
}

// anonName names a mapping as PR_SET_VMA_ANON_NAME did.
func (l *vmaLister) anonName(v *VMA, at remora.Addr, prefix string) error {
	const most = 80 // ANON_VMA_NAME_MAX_LEN
	text, err := l.text(at+remora.Addr(l.f.name.off), most)
	if err != nil {
		return err
	}
	v.Name = prefix + text + "]"
	return nil
}

// special gives the name of a special mapping, such as "[vdso]": what the name function
// of its operations takes from the struct vm_special_mapping behind vm_private_data. It is
// "" where there is no such thing.
func (l *vmaLister) special(ops, private remora.Addr) string {
	f := l.f
	if !f.opsName.has() || !f.specialName.has() {
		return ""
	}
	named, known := l.names[ops]
	if !known {
		p := peekInto(l.ctx, l.space)
		named = p.uint(ops, f.opsName) != 0
		p.done()
		l.names[ops] = named
	}
	if !named {
		return ""
	}
	p := peekInto(l.ctx, l.space)
	at := remora.Addr(p.uint(private, f.specialName))
	p.done()
	if at == 0 {
		return ""
	}
	const most = 64
	text, err := l.text(at, most)
	if err != nil || !strings.HasPrefix(text, "[") || !strings.HasSuffix(text, "]") {
		return ""
	}
	return text
}

// gate adds what every process of x86-64 has mapped in the kernel's half, the page
// [vsyscall], where the kernel has it (get_gate_vma in arch/x86/entry/vsyscall).
func (l *vmaLister) gate() error {
	const (
		none = 2      // enum of vsyscall_mode: EMULATE, XONLY, NONE
		has  = 1 << 1 // MM_CONTEXT_HAS_VSYSCALL: no process of 32 bits
	)
	if l.k.Machine() != elf.EM_X86_64 {
		return nil
	}
	mode, err := l.k.symbol(l.ctx, "vsyscall_mode")
	if err != nil {
		return l.ctx.Err() // a kernel without
	}
	gate, err := l.k.symbol(l.ctx, "gate_vma")
	if err != nil {
		return l.ctx.Err()
	}
	p := peekInto(l.ctx, l.space)
	defer p.done()
	if p.uint(mode, field{size: 4}) == none || l.f.context.has() && p.uint(l.mm, l.f.context)&has == 0 || p.err != nil {
		return p.why()
	}
	v := VMA{Addr: gate, Flags: VMAFlags(p.uint(gate, l.f.flags)), ops: remora.Addr(p.uint(gate, l.f.ops))}
	start, end := p.uint(gate, l.f.start), p.uint(gate, l.f.end)
	if p.err != nil || start < middleOfSpace || start >= end || len(l.list) > 0 && l.list[len(l.list)-1].Last() >= remora.Addr(start) {
		return p.why()
	}
	v.Range, v.Name = remora.Range{Start: remora.Addr(start), Size: end - start}, "[vsyscall]"
	v.setPerm()
	l.list = append(l.list, v)
	return nil
}

// text reads a string that ends with a zero. What can be read of it counts, as it may lie
// at the end of a page.
func (l *vmaLister) text(a remora.Addr, most int) (string, error) {
	var buf [256]byte
	b := buf[:min(most, len(buf))]
	seg := [1]remora.Seg{{Addr: a, Buf: b}}
	_, _ = l.space.Transfer(l.ctx, remora.Read, seg[:]) // it is in the segment
	got := b[:seg[0].N]
	if i := bytes.IndexByte(got, 0); i >= 0 {
		return string(got[:i]), nil
	}
	if seg[0].Err != nil {
		return "", remora.SegFault(l.ctx, l.space, remora.Read, &seg[0])
	}
	return string(got), nil
}

// mappedFile finds out about a struct file. What cannot be read of it is told in its name:
// the mapping, and the others, are right without.
func (l *vmaLister) mappedFile(file remora.Addr) (*mappedFile, error) {
	if m := l.files[file]; m != nil {
		return m, nil
	}
	f, m := l.f, &mappedFile{}
	p := peekInto(l.ctx, l.space)
	defer p.done()
	inode := remora.Addr(p.uint(file, f.fileInode))
	m.mapping = remora.Addr(p.uint(file, f.fileMapping))
	sb := remora.Addr(p.uint(inode, f.sb))
	m.inode = p.uint(inode, f.ino)
	dev := p.uint(sb, f.dev)
	m.major, m.minor = uint32(dev>>20), uint32(dev&(1<<20-1)) // MAJOR and MINOR of a dev_t
	m.magic, m.shift = p.uint(sb, f.magic), uint(p.uint(sb, f.bits)&63)
	if p.ctx.Err() != nil {
		return nil, p.ctx.Err()
	}
	if p.err != nil {
		m = &mappedFile{name: unnamed(file, p.err), err: p.why()}
		l.files[file] = m
		return m, nil
	}
	host := remora.Addr(p.uint(m.mapping, f.host)) // the inode of a device, not that of its name
	m.size = p.uint(host, f.isize)
	m.inHuge = m.magic == magicHuge && l.k.before(6, 7)
	m.pages = m.mapping + remora.Addr(f.ipages.off)
	switch {
	case p.err != nil:
		m.err = p.err
	case !f.ipages.has():
		m.err = fmt.Errorf("address_space has no i_pages: %w", remora.ErrNotPresent)
	}
	name, err := l.k.path(l.ctx, file)
	if err != nil && l.ctx.Err() != nil {
		return nil, l.ctx.Err()
	}
	if err != nil && name == "" {
		name = unnamed(file, err)
	}
	m.name, m.deleted = strings.CutSuffix(name, " (deleted)")
	l.files[file] = m
	return m, nil
}

// unnamed stands for the name of a file that cannot be read.
func unnamed(file remora.Addr, err error) string {
	if c, ok := errors.AsType[remora.Cause](err); ok {
		err = c // without what was read where
	}
	return fmt.Sprintf("[file at %v: %v]", file, err)
}
