// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/remora-go/remora"
)

// VMA is one mapping of a process, as the kernel has it in its struct vm_area_struct. The
// Region is what a line of /proc/PID/maps says.
type VMA struct {
	remora.Region
	Addr  remora.Addr // of the structure
	Flags VMAFlags

	file *mappedFile // nil: none is mapped
	page uint64      // vm_pgoff, in pages
	ops  remora.Addr // vm_ops: who makes its pages
}

// Anonymous says whether what was never touched of the mapping is zeros
// (vma_is_anonymous): a private mapping of /dev/zero is so, too, and has a file.
func (v *VMA) Anonymous() bool { return v.ops == 0 && v.Flags&(vmIO|vmPFNMap) == 0 }

// VMAFlags are vm_flags.
type VMAFlags uint64

// The bits that mean something here (VM_* in include/linux/mm.h).
const (
	vmRead     VMAFlags = 1 << 0
	vmWrite    VMAFlags = 1 << 1
	vmExec     VMAFlags = 1 << 2
	vmMayShare VMAFlags = 1 << 7
	vmPFNMap   VMAFlags = 1 << 10
	vmIO       VMAFlags = 1 << 14
)

// mappedFile is what is known of a file that is mapped.
type mappedFile struct {
	name         string
	deleted      bool
	major, minor uint32
	inode        uint64
	magic        uint64      // of the file system
	shift        uint        // of its blocks
	mapping      remora.Addr // its struct address_space
	pages        remora.Addr // the xarray in that
	size         uint64      // bytes
	inHuge       bool        // the indices count huge pages: hugetlbfs before 6.7
	err          error       // why its pages cannot be looked for
}

// Magic numbers of file systems (include/uapi/linux/magic.h).
const (
	magicTmpfs = 0x01021994
	magicHuge  = 0x958458f6
)

// vmaFields is how the mappings of a process lie in memory.
type vmaFields struct {
	maple mapleFields

	tree, first                                    field // mm_struct
	startBrk, brk, startStack, context             field
	start, end, next, mm, flags, pgoff, file       field // vm_area_struct
	ops, private, anonName, shared                 field
	opsName, specialName, name                     field
	fileInode, fileMapping                         field // struct file
	ino, sb, isize, dev, magic, bits, host, ipages field
	sizeofVMA                                      int
}

// vmaFieldsOf finds the fields.
func (k *Kernel) vmaFieldsOf(ctx context.Context) (*vmaFields, error) {
	return k.processAnswers.vma.do(ctx, func(ctx context.Context) (*vmaFields, error) {
		t, err := k.Types(ctx)
		if err != nil {
			return nil, err
		}
		f := &vmaFields{}
		if err := t.fields(ctx, f.wanted()...); err != nil {
			return nil, fmt.Errorf("mappings of processes: %w", err)
		}
		if f.tree.has() {
			if err := t.fields(ctx, f.maple.wanted()...); err != nil {
				return nil, fmt.Errorf("mappings of processes: %w", err)
			}
		} else if !f.first.has() || !f.next.has() {
			return nil, fmt.Errorf("mappings of processes: mm_struct has neither mm_mt nor mmap: %w", errors.ErrUnsupported)
		}
		f.sizeofVMA = reach(f.start, f.end, f.next, f.mm, f.flags, f.pgoff, f.file, f.ops, f.private, f.anonName)
		return f, nil
	})
}

func (f *vmaFields) wanted() []wanted {
	return []wanted{
		{into: &f.tree, member: "mm_struct.mm_mt", optional: true},
		{into: &f.first, member: "mm_struct.mmap", optional: true},
		{into: &f.startBrk, member: "mm_struct.start_brk"},
		{into: &f.brk, member: "mm_struct.brk"},
		{into: &f.startStack, member: "mm_struct.start_stack"},
		{into: &f.context, member: "mm_struct.context.flags", optional: true},
		{into: &f.start, member: "vm_area_struct.vm_start"},
		{into: &f.end, member: "vm_area_struct.vm_end"},
		{into: &f.next, member: "vm_area_struct.vm_next", optional: true},
		{into: &f.mm, member: "vm_area_struct.vm_mm"},
		{into: &f.flags, member: "vm_area_struct.vm_flags"},
		{into: &f.pgoff, member: "vm_area_struct.vm_pgoff"},
		{into: &f.file, member: "vm_area_struct.vm_file"},
		{into: &f.ops, member: "vm_area_struct.vm_ops"},
		{into: &f.private, member: "vm_area_struct.vm_private_data"},
		{into: &f.anonName, member: "vm_area_struct.anon_name", optional: true},
		{into: &f.shared, member: "vm_area_struct.shared", optional: true},
		{into: &f.opsName, member: "vm_operations_struct.name", optional: true},
		{into: &f.specialName, member: "vm_special_mapping.name", optional: true},
		{into: &f.name, member: "anon_vma_name.name", optional: true},
		{into: &f.fileInode, member: "file.f_inode"},
		{into: &f.fileMapping, member: "file.f_mapping"},
		{into: &f.ino, member: "inode.i_ino"},
		{into: &f.sb, member: "inode.i_sb"},
		{into: &f.isize, member: "inode.i_size"},
		{into: &f.dev, member: "super_block.s_dev"},
		{into: &f.magic, member: "super_block.s_magic"},
		{into: &f.bits, member: "super_block.s_blocksize_bits"},
		{into: &f.host, member: "address_space.host"},
		{into: &f.ipages, member: "address_space.i_pages", optional: true}, // page_tree before 4.17
	}
}

// maxVMAs is the largest number of mappings that a process is believed to have.
const maxVMAs = 16 << 20

// vmas gives the mappings of an mm in the order of their addresses. With an error the
// list has those that were found before it.
func (k *Kernel) vmas(ctx context.Context, mm remora.Addr) ([]VMA, error) {
	f, err := k.vmaFieldsOf(ctx)
	if err != nil {
		return nil, err
	}
	l := &vmaLister{ctx: ctx, k: k, f: f, mm: mm, space: k, files: map[remora.Addr]*mappedFile{}, names: map[remora.Addr]bool{}}
	const tries = 10 // on a live machine, where a tree may be changed while it is read
	for try := 0; ; try++ {
		l.list = l.list[:0]
		err = l.find()
		if !k.info.Live || try == tries || !errors.Is(err, errDead) && !errors.Is(err, remora.ErrCorrupt) {
			break
		}
	}
	if err == nil {
		err = l.gate()
	}
	if err != nil {
		err = fmt.Errorf("mappings of the mm at %v: %w", mm, err)
		if errors.Is(err, errDead) {
			err = fmt.Errorf("%w: %w", err, remora.ErrCorrupt)
		}
	}
	return l.list, err
}

// vmaLister makes the list of one mm.
type vmaLister struct {
	ctx   context.Context
	k     *Kernel
	space remora.Space // the kernel's memory
	f     *vmaFields
	mm    remora.Addr
	files map[remora.Addr]*mappedFile
	names map[remora.Addr]bool // by vm_ops: whether they name their mappings
	list  []VMA

	startBrk, brk, stack uint64
}

// find fills the list.
func (l *vmaLister) find() error {
	p := peekInto(l.ctx, l.space)
	defer p.done()
	l.startBrk, l.brk, l.stack = p.uint(l.mm, l.f.startBrk), p.uint(l.mm, l.f.brk), p.uint(l.mm, l.f.startStack)
	if p.err != nil {
		return p.why()
	}
	if !l.f.tree.has() {
		return l.findList(p)
	}
	var at []remora.Addr
	err := l.f.maple.entries(l.ctx, l.space, l.mm+remora.Addr(l.f.tree.off), func(e mapleEntry) bool {
		at = append(at, remora.Addr(e.value))
		return len(at) < maxVMAs
	})
	return both(l.readAll(at), err)
}

// findList goes through the list that there was before the tree.
func (l *vmaLister) findList(p *peek) error {
	var at []remora.Addr
	var last uint64
	var err error
	for a := remora.Addr(p.uint(l.mm, l.f.first)); a != 0 && p.err == nil && len(at) < maxVMAs; {
		if err = l.ctx.Err(); err != nil {
			break
		}
		start := p.uint(a, l.f.start)
		if len(at) > 0 && start <= last && p.err == nil { // so it ends, too
			err = damaged("the list of mappings goes back from 0x%x to 0x%x at %v", last, start, a)
			break
		}
		at, last = append(at, a), start
		a = remora.Addr(p.uint(a, l.f.next))
	}
	return both(both(l.readAll(at), p.why()), err)
}

// vmaBatch is how many structures are read at a time.
const vmaBatch = 128

// readAll reads the structures, up to the first that makes no sense. Those that cannot be
// read are passed over; the error is that of the first.
func (l *vmaLister) readAll(at []remora.Addr) (lost error) {
	size := l.f.sizeofVMA
	l.list = slices.Grow(l.list, min(len(at), 1<<16)) // a VMA is believed once it was read
	segs := make([]remora.Seg, min(len(at), vmaBatch))
	buf := make([]byte, len(segs)*size)
	for len(at) > 0 {
		n := min(len(at), vmaBatch)
		for i := range n {
			segs[i] = remora.Seg{Addr: at[i], Buf: buf[i*size : (i+1)*size]}
		}
		_, _ = l.space.Transfer(l.ctx, remora.Read, segs[:n]) // it is in the segments
		for i := range n {
			if segs[i].Err != nil || segs[i].N < size {
				if l.ctx.Err() != nil {
					return l.ctx.Err()
				}
				if lost == nil {
					lost = remora.SegFault(l.ctx, l.space, remora.Read, &segs[i])
				}
				continue
			}
			if err := l.add(at[i], segs[i].Buf); err != nil {
				return err
			}
		}
		at = at[n:]
	}
	return lost
}

// add adds the mapping whose structure at a is b.
func (l *vmaLister) add(a remora.Addr, b []byte) error {
	f := l.f
	start, end := f.start.in(b), f.end.in(b)
	if mm := remora.Addr(f.mm.in(b)); mm != l.mm {
		return damaged("the mapping at %v is of another mm: %v", a, mm)
	}
	if start >= end || len(l.list) > 0 && remora.Addr(start) <= l.list[len(l.list)-1].Last() {
		return damaged("the mapping at %v is from 0x%x to 0x%x", a, start, end)
	}
	v := VMA{Addr: a, Flags: VMAFlags(f.flags.in(b)), page: f.pgoff.in(b)}
	v.Range = remora.Range{Start: remora.Addr(start), Size: end - start}
	v.Shared = v.Flags&vmMayShare != 0
	v.ops = remora.Addr(f.ops.in(b))
	v.setPerm()
	if file := remora.Addr(f.file.in(b)); file != 0 {
		m, err := l.mappedFile(file)
		if err != nil {
			return err
		}
		v.file = m
		v.Name, v.Deleted, v.Major, v.Minor, v.Inode = m.name, m.deleted, m.major, m.minor, m.inode
		v.Offset = v.page << l.k.pageShift()
	}
	if err := l.name(&v, b); err != nil {
		return err
	}
	l.list = append(l.list, v)
	return l.ctx.Err()
}

// setPerm sets the permissions by the flags.
func (v *VMA) setPerm() {
	for i, bit := range [...]VMAFlags{vmRead, vmWrite, vmExec} {
		if v.Flags&bit != 0 {
			v.Perm |= remora.Perm(1) << i
		}
	}
}
