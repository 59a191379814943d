// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"

	"github.com/remora-go/remora"
)

// moduleList gives the address of the list of modules: that of the symbol modules, or, of
// a kernel whose table has functions alone, where the links of a module in the memory of
// modules lead to.
func (k *Kernel) moduleList(ctx context.Context, f *moduleFields) (remora.Addr, error) {
	head, err := k.symbol(ctx, "modules")
	if err == nil || !absent(err) {
		return head, err
	}
	found, why := k.searchModules(ctx, f)
	if why != nil && ctx.Err() == nil {
		return 0, fmt.Errorf("%w; %w", err, why)
	}
	return found, why
}

// What is searched for modules at most, in bytes, and how its structures are aligned.
const (
	maxModuleArea  = 256 << 20
	moduleAlign    = 32
	moduleScanSize = 64 << 10
)

// moduleArea gives where modules are loaded to.
func (k *Kernel) moduleArea() (remora.Range, bool) {
	start, ok := k.VMCoreInfo().Number("MODULES_VADDR")
	end, known := k.VMCoreInfo().Number("MODULES_END")
	if ok && known && start < end {
		return remora.Range{Start: remora.Addr(start), Size: end - start}, true
	}
	if k.hints.machine(k.VMCoreInfo()) == elf.EM_X86_64 { // Documentation/arch/x86/x86_64/mm.rst
		return remora.Range{Start: 0xffffffffa0000000, Size: 0x5f000000}, true
	}
	return remora.Range{}, false
}

// searchModules looks for a struct module in the memory of modules: each is in memory of
// its own module.
func (k *Kernel) searchModules(ctx context.Context, f *moduleFields) (remora.Addr, error) {
	area, ok := k.moduleArea()
	if !ok {
		return 0, errors.New("where modules are loaded to is not known either")
	}
	if _, err := k.Tables(ctx); err != nil {
		return 0, err
	}
	buf := make([]byte, moduleScanSize+f.size)
	seen := uint64(0)
	for a := area.Start; area.Contains(a) && seen < maxModuleArea; {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		e := k.Translate(ctx, a)
		size := uint64(e.Virt-a) + e.Size
		if e.Err == nil {
			size = min(size, moduleScanSize)
			n, _ := k.mem.ReadAt(ctx, buf[:size+f.size], a) // less where memory ends
			for at := uint64(0); at < size && at+f.size <= uint64(n); at += moduleAlign {
				if head, ok := k.listOf(ctx, f, a+remora.Addr(at), buf[at:at+f.size]); ok {
					return head, nil
				}
			}
			seen += size
		}
		if a+remora.Addr(size) <= a {
			break
		}
		a += remora.Addr(size)
	}
	return 0, fmt.Errorf("no module is in %d KiB of memory from %v on", seen>>10, area.Start)
}

// listOf takes raw at a for a struct module, and gives the head of its list.
func (k *Kernel) listOf(ctx context.Context, f *moduleFields, a remora.Addr, raw []byte) (head remora.Addr, ok bool) {
	if !f.isModule(a, raw) {
		return 0, false
	}
	r := k.reader(ctx)
	next := make([]byte, f.size)
	for at := range r.list(a+remora.Addr(f.list.off), f.list) {
		// The head is in the kernel's image: what is around it makes no module.
		if _, err := k.mem.ReadAt(ctx, next, at); err != nil || !f.isModule(at, next) {
			return at + remora.Addr(f.list.off), ctx.Err() == nil
		}
	}
	return 0, false
}

// isModule says whether raw at a looks like a struct module: it has a state and a name, it
// is on a list, and it is in the memory that it has.
func (f *moduleFields) isModule(a remora.Addr, raw []byte) bool {
	link := raw[f.list.off:]
	next, prev := at64(link, field{size: 8}), at64(link, field{off: 8, size: 8})
	if next < 1<<63 || prev < 1<<63 || next%8 != 0 || prev%8 != 0 || at64(raw, f.state) > uint64(moduleUnformed) {
		return false
	}
	name := cString(raw[f.name.off:][:f.name.size])
	if name == "" || len(name) == int(f.name.size) {
		return false
	}
	for _, c := range []byte(name) {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	m := &Module{raw: raw}
	m.memory(f)
	for _, r := range m.Ranges {
		if r.Contains(a) && r.Size <= maxModuleArea {
			return true
		}
	}
	return false
}
