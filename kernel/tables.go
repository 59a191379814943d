// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"fmt"
	"slices"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/paging"
)

// finder is one search.
type finder struct {
	ctx   context.Context
	phys  remora.Space
	h     *Hints
	use   *paging.Options // of all tables that are tried
	info  *VMCoreInfo     // that is tried
	from  string          // where it is from
	tried []string
	found *Found

	symbols   map[string]uint64 // virtual addresses by kallsyms, where that is tried
	release   string            // of the kernel by its banner, where it has no VMCOREINFO
	encrypted uint64            // the bit in page tables that marks encrypted memory, where it has none
}

func (f *finder) no(format string, args ...any) {
	const most = 1000
	s := fmt.Sprintf(format, args...)
	if len(f.tried) < most && !slices.Contains(f.tried, s) {
		f.tried = append(f.tried, s)
	}
}

// lacks says why keys of VMCOREINFO are not there.
func (f *finder) lacks() string {
	if f.info == nil {
		return "there is no VMCOREINFO"
	}
	return "VMCOREINFO lacks them"
}

// over says that the search has ended.
func (f *finder) over() bool { return f.found != nil || f.ctx.Err() != nil }

// attempt is a root to be tried, with tables of a format.
type attempt struct {
	format *paging.Format
	root   uint64
	from   string
	// base is what the kernel's image lies at in physical memory less its virtual
	// address; fixed says that it is known.
	base  uint64
	fixed bool
}

// landmarks are symbols of the kernel's image, in the order of their worth.
var landmarks = [...]string{"_stext", "swapper_pg_dir", "init_top_pgt", "linux_banner"}

// symbol gives the virtual address of a symbol, as VMCOREINFO or kallsyms have it.
func (f *finder) symbol(name string) (remora.Addr, bool) {
	if a, ok := f.info.Symbol(name); ok {
		return a, ok
	}
	a, ok := f.symbols[name]
	return remora.Addr(a), ok
}

// hasLandmark says whether there is a symbol that tables can be checked by.
func (f *finder) hasLandmark() bool {
	for _, l := range landmarks {
		if _, ok := f.symbol(l); ok {
			return true
		}
	}
	return false
}

// try looks whether the tables map the kernel's image where it is. Where the base is not
// known, all landmarks must agree on one.
func (f *finder) try(a attempt) bool {
	if f.over() {
		return true
	}
	name := fmt.Sprintf("root %s (%s; %v)", hex(a.root), a.from, a.format)
	tables := paging.NewTables(f.phys, a.format, remora.Addr(a.root), f.use)
	seen := ""
	for _, l := range landmarks {
		va, ok := f.symbol(l)
		if !ok {
			continue
		}
		e := tables.Translate(f.ctx, va)
		if e.Err != nil {
			f.no("%s: %s at %v: %v", name, l, va, tables.Explain(f.ctx, remora.Read, va, e.Err))
			return false
		}
		pa := uint64(e.Phys + (va - e.Virt))
		if base := pa - uint64(va); !a.fixed {
			a.base, a.fixed = base, true
		} else if base != a.base {
			f.no("%s: %s at %v lies at %s, not at %s", name, l, va, hex(pa), hex(uint64(va)+a.base))
			return false
		}
		if seen == "" {
			seen = fmt.Sprintf("%s at %v lies at %s", l, va, hex(pa))
		}
	}
	if seen == "" {
		f.no("%s: VMCOREINFO names no symbol to check it by", name)
		return false
	}
	text, why := f.says(a.base)
	if why != "" {
		f.no("%s: %s", name, why)
		return false
	}
	f.found = &Found{Format: a.format, Root: remora.Addr(a.root), How: a.from, Checked: append([]string{seen}, text...), Image: true, ImageBase: a.base}
	return true
}

// symbolRoots gives the symbol that the top table has.
func (f *finder) symbolRoots() (va uint64, name string, ok bool) {
	for _, name := range []string{"swapper_pg_dir", "init_top_pgt"} {
		if a, ok := f.symbol(name); ok {
			return uint64(a), name, true
		}
	}
	return 0, "", false
}

// number gives a number that VMCOREINFO has, with its name.
func (f *finder) number(name string) (Value, bool) {
	n, ok := f.info.Number(name)
	return Value{n, "NUMBER(" + name + ")"}, ok
}

// arm64 follows swapper_pg_dir, or where that is not known TTBR1 of each processor.
func (f *finder) arm64() {
	va, name, ok := f.symbolRoots()
	offset, known := f.number("kimage_voffset")
	if !ok || !known {
		f.no("SYMBOL(swapper_pg_dir) and NUMBER(kimage_voffset): %s", f.lacks())
		f.arm64TTBR()
		return
	}
	from := fmt.Sprintf("SYMBOL(%s) less NUMBER(kimage_voffset) %s", name, hex(offset.N))
	for _, format := range f.arm64Formats() {
		if f.try(attempt{format: format, root: va - offset.N, from: from, base: -offset.N, fixed: true}) {
			return
		}
	}
}

// arm64Formats gives what the tables may be. The size of addresses is that of run time,
// which TCR_EL1.T1SZ tells, but for pages of 64 KiB.
func (f *finder) arm64Formats() (all []*paging.Format) {
	shifts := []int{12, 16, 14}
	if n, ok := f.info.Value("PAGESIZE"); ok {
		for _, s := range shifts {
			if n == 1<<s {
				shifts = []int{s}
			}
		}
	}
	for _, shift := range shifts {
		var bits []Value
		if n, ok := f.number("TCR_EL1_T1SZ"); ok {
			bits = append(bits, Value{64 - n.N, n.From})
		}
		if n, ok := f.number("VA_BITS"); ok {
			bits = append(bits, n)
			if shift == 16 {
				bits[0], bits[len(bits)-1] = bits[len(bits)-1], bits[0]
			}
		}
		if len(bits) == 0 {
			bits = []Value{{48, "by default"}, {39, "by default"}}
		}
		for _, b := range bits {
			format, err := paging.ARM64(paging.ARM64Options{PageShift: shift, VABits: int(min(b.N, 1<<16)), LPA2: b.N == 52 && shift != 16, Kernel: f.version()})
			if err != nil {
				f.no("%s %d: %v", b.From, b.N, err)
				continue
			}
			all = append(all, format)
		}
	}
	return all
}

// riscv follows swapper_pg_dir, and then satp, which is that of one processor.
func (f *finder) riscv() {
	satp, hasSatp := f.number("satp")
	va, name, ok := f.symbolRoots()
	offset, known := f.number("va_kernel_pa_offset")
	if (!ok || !known) && !hasSatp {
		f.no("SYMBOL(swapper_pg_dir) and NUMBER(va_kernel_pa_offset), or NUMBER(satp): %s", f.lacks())
		return
	}
	for _, format := range f.riscvFormats() {
		if ok && known && f.try(attempt{format: format, root: va - offset.N,
			from: fmt.Sprintf("SYMBOL(%s) less NUMBER(va_kernel_pa_offset) %s", name, hex(offset.N)), base: -offset.N, fixed: true}) {
			return
		}
		if hasSatp && f.try(attempt{format: format, root: satp.N & (1<<44 - 1) << 12, from: "NUMBER(satp)", base: -offset.N, fixed: known}) {
			return
		}
	}
}

// riscvFormats gives what the tables may be.
func (f *finder) riscvFormats() (all []*paging.Format) {
	var bits []Value
	satp, hasSatp := f.number("satp")
	if n, ok := f.number("VA_BITS"); ok {
		bits = append(bits, n)
	} else if mode := satp.N >> 60; hasSatp && mode >= 8 && mode <= 10 {
		bits = append(bits, Value{39 + 9*(mode-8), satp.From})
	} else {
		bits = []Value{{48, "by default"}, {39, "by default"}, {57, "by default"}}
	}
	for _, b := range bits {
		format, err := paging.RISCV(paging.RISCVOptions{VABits: int(min(b.N, 1<<16)), Kernel: f.version()})
		if err != nil {
			f.no("%s %d: %v", b.From, b.N, err)
			continue
		}
		all = append(all, format)
	}
	return all
}
