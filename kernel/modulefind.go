// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"debug/elf"
	"fmt"

	"github.com/remora-go/remora"
)

// moduleList gives the address of the list of modules: that of the symbol modules, or, of
// a kernel whose table has functions alone, where the links of a module in the memory of
// modules lead to. It is 0 of a kernel that is made without modules.
func (k *Kernel) moduleList(ctx context.Context, f *moduleFields) (remora.Addr, error) {
	head, err := k.symbol(ctx, "modules")
	if err == nil || !absent(err) {
		return head, err
	}
	if _, data := k.symbol(ctx, "init_task"); data == nil {
		return 0, nil
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

// moduleAreas gives where modules are loaded to: the area that there is for them, and what
// a branch reaches from the kernel's text, where arm64 puts them with
// RANDOMIZE_MODULE_REGION_FULL (module_alloc in its kernel/module.c).
func (k *Kernel) moduleAreas() (all []remora.Range) {
	const reach = 2 << 30
	info := k.VMCoreInfo()
	start, ok := info.Number("MODULES_VADDR")
	end, known := info.Number("MODULES_END")
	if ok && known && start < end {
		all = append(all, remora.Range{Start: remora.Addr(start), Size: end - start})
	}
	text, ok := info.Symbol("_stext")
	switch m := k.hints.machine(info); {
	case len(all) == 0 && m == elf.EM_X86_64: // Documentation/arch/x86/x86_64/mm.rst
		all = append(all, remora.Range{Start: 0xffffffffa0000000, Size: 0x5f000000})
	case ok && m == elf.EM_AARCH64 && text >= 1<<63+reach:
		all = append(all, remora.Range{Start: text - reach, Size: 2 * reach})
	}
	return all
}

// searchModules looks for a struct module in the memory of modules: each is in memory of
// its own module.
func (k *Kernel) searchModules(ctx context.Context, f *moduleFields) (remora.Addr, error) {
	if _, err := k.Tables(ctx); err != nil {
		return 0, err
	}
	s := &moduleSearch{k: k, f: f, buf: make([]byte, moduleScanSize+f.size)}
	for _, area := range k.moduleAreas() {
		if err := s.look(ctx, area); err != nil || s.head != 0 {
			return s.head, err
		}
	}
	return 0, fmt.Errorf("no module is in the %d KiB of memory where they are loaded to", s.seen>>10)
}

// moduleSearch is one search.
type moduleSearch struct {
	k    *Kernel
	f    *moduleFields
	buf  []byte
	seen uint64 // bytes
	head remora.Addr
}

// look searches what is mapped of an area.
func (s *moduleSearch) look(ctx context.Context, area remora.Range) error {
	for a := area.Start; area.Contains(a) && s.seen < maxModuleArea; {
		if err := ctx.Err(); err != nil {
			return err
		}
		e := s.k.Translate(ctx, a)
		size := e.Size - uint64(a-e.Virt)
		if e.Err == nil {
			size = min(size, moduleScanSize)
			n, _ := s.k.mem.ReadAt(ctx, s.buf[:size+s.f.size], a) // less where memory ends
			for at := uint64(0); at < size && at+s.f.size <= uint64(n); at += moduleAlign {
				if head, ok := s.k.listOf(ctx, s.f, a+remora.Addr(at), s.buf[at:at+s.f.size]); ok {
					s.head = head
					return nil
				}
			}
			s.seen += size
		}
		if a+remora.Addr(size) <= a {
			break
		}
		a += remora.Addr(size)
	}
	return nil
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
