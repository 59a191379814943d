// SPDX-License-Identifier: Apache-2.0

package usercore

import (
	"cmp"
	"context"
	"debug/elf"
	"iter"
	"slices"
	"strings"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/elfcore"
)

// region is a run of addresses with one program header and one entry of NT_FILE,
// either of which may be missing.
type region struct {
	remora.Region
	prog *elfcore.Prog
	file *mapping
}

// Regions gives the mappings that the core mentions, in address order: those with
// a program header, and those that NT_FILE names. Perm is that of the program
// header, and none where there is no header; gdb calls every mapping readable.
// Names are those of NT_FILE, and [stack], [vdso] and [vsyscall] where that can be
// told. Shared, the device and the inode are not in a core.
func (c *Core) Regions(ctx context.Context) iter.Seq2[remora.Region, error] {
	return func(yield func(remora.Region, error) bool) {
		for i := range c.regions {
			if i%1024 == 0 && ctx.Err() != nil {
				yield(remora.Region{}, ctx.Err())
				return
			}
			if !yield(c.regions[i].Region, nil) {
				return
			}
		}
	}
}

// makeRegions cuts the address space at every border of a header or a mapping,
// and joins what belongs together. loads and c.files are sorted; where two of one
// kind overlap the earlier holds.
func (c *Core) makeRegions(loads []*elfcore.Prog) []region {
	cuts := make([]remora.Addr, 0, 2*(len(loads)+len(c.files)))
	cut := func(first, last remora.Addr) {
		if cuts = append(cuts, first); last != remora.MaxAddr {
			cuts = append(cuts, last+1)
		}
	}
	for _, p := range loads {
		cut(span(p).Start, span(p).Last())
	}
	for i := range c.files {
		cut(c.files[i].Start, c.files[i].Last())
	}
	slices.Sort(cuts)
	cuts = slices.Compact(cuts)

	var list []region
	files := c.files
	for i, a := range cuts {
		var r region
		for len(loads) > 0 && span(loads[0]).Last() < a {
			loads = loads[1:]
		}
		if len(loads) > 0 && span(loads[0]).Start <= a {
			r.prog = loads[0]
		}
		for len(files) > 0 && files[0].Last() < a {
			files = files[1:]
		}
		if len(files) > 0 && files[0].Start <= a {
			r.file = &files[0]
		}
		if r.prog == nil && r.file == nil {
			continue
		}
		end := remora.Addr(0) // of the space
		if i+1 < len(cuts) {
			end = cuts[i+1]
		}
		r.Range = remora.Range{Start: a, Size: uint64(end - a)}
		if n := len(list); n > 0 && list[n-1].prog == r.prog && list[n-1].file == r.file {
			list[n-1].Size += r.Size
			continue
		}
		c.describe(&r)
		list = append(list, r)
	}
	return list
}

// span is the memory of a segment.
func span(p *elfcore.Prog) remora.Range {
	return remora.Range{Start: remora.Addr(p.Vaddr), Size: p.Memsz}
}

// describe fills in what r's header and mapping say of it.
func (c *Core) describe(r *region) {
	if r.prog != nil {
		for _, f := range [...]struct {
			flag elf.ProgFlag
			perm remora.Perm
		}{{elf.PF_R, remora.PermRead}, {elf.PF_W, remora.PermWrite}, {elf.PF_X, remora.PermExec}} {
			if r.prog.Flags&f.flag != 0 {
				r.Perm |= f.perm
			}
		}
	}
	if r.file != nil {
		r.Name, r.Deleted = strings.CutSuffix(r.file.name, " (deleted)")
		r.Offset = r.file.offset + uint64(r.Start-r.file.Start)
		return
	}
	const vsyscall = 0xffffffffff600000 // VSYSCALL_ADDR of x86-64
	switch {
	case r.holds(c.auxValue(auxVDSO)):
		r.Name = "[vdso]"
	case r.holds(c.auxValue(auxRandom)):
		r.Name = "[stack]"
	case c.file.Machine == elf.EM_X86_64 && r.Start == vsyscall:
		r.Name = "[vsyscall]"
	}
}

// holds says whether the address a, which is 0 when it is not known, lies in r.
func (r *region) holds(a uint64) bool { return a != 0 && r.Contains(remora.Addr(a)) }

// regionAt gives the region that holds a, or nil.
func (c *Core) regionAt(a remora.Addr) *region {
	i, _ := slices.BinarySearchFunc(c.regions, a, func(r region, a remora.Addr) int { return cmp.Compare(r.Last(), a) })
	if i == len(c.regions) || a < c.regions[i].Start {
		return nil
	}
	return &c.regions[i]
}
