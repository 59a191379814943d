// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"fmt"
	"iter"

	"github.com/remora-go/remora"
)

// Module is a module of the kernel that is loaded (struct module in the kernel's
// include/linux/module.h).
type Module struct {
	Name   string
	State  ModuleState
	Base   remora.Addr // of its text
	Size   uint64      // bytes of all its memory, as /proc/modules has it
	Refs   int64       // how many users it has; -1 where the kernel does not count them
	UsedBy []string    // modules among the users
	Taints string      // letters of what it taints the kernel by, as "OE"
	Ranges []ModuleRange
	// Permanent says that it cannot be unloaded.
	Permanent bool

	at  remora.Addr // struct module
	raw []byte      // and what is in it
}

// ModuleRange is memory of a module.
type ModuleRange struct {
	remora.Range
	Kind string // "text", "data", "rodata", "ro_after_init" or one of "init_text", "init_data", "init_rodata"; "core" and "init" before 6.4
}

// ModuleState is what becomes of a module (enum module_state).
type ModuleState uint8

// The states, by the kernel's numbers.
const (
	ModuleLive ModuleState = iota
	ModuleLoading
	ModuleUnloading
	moduleUnformed // not set up: nobody is to see it
)

// String writes it as /proc/modules does.
func (s ModuleState) String() string {
	switch s {
	case ModuleLive:
		return "Live"
	case ModuleLoading:
		return "Loading"
	case ModuleUnloading:
		return "Unloading"
	}
	return fmt.Sprintf("state %d", uint8(s))
}

// moduleFields are the members that are read.
type moduleFields struct {
	size                                            uint64 // of struct module
	list, state, name, taints, refcnt, users        field
	init, exit                                      field
	mem, memBase, memSize                           field // since 6.4
	coreBase, coreSize, initBase, initSiz           field // before
	useList, useSource                              field
	kallsyms, symtab, count, strtab, typetab        field
	syms, numSyms                                   field
	exportSize                                      uint64 // of struct kernel_symbol
	exportRel, exportNameRel, exportAbs, exportName field
}

// findModuleFields finds them out.
func (k *Kernel) findModuleFields(ctx context.Context) (*moduleFields, error) {
	types, err := k.Types(ctx)
	if err != nil {
		return nil, err
	}
	f := &moduleFields{}
	if f.size, err = types.size(ctx, "module"); err != nil {
		return nil, err
	}
	err = types.fields(ctx,
		wanted{&f.list, "module.list", false}, wanted{&f.state, "module.state", false}, wanted{&f.name, "module.name", false},
		wanted{&f.taints, "module.taints", true}, wanted{&f.refcnt, "module.refcnt", true}, wanted{&f.users, "module.source_list", true},
		wanted{&f.init, "module.init", true}, wanted{&f.exit, "module.exit", true},
		wanted{&f.mem, "module.mem", true}, wanted{&f.memBase, "module_memory.base", true}, wanted{&f.memSize, "module_memory.size", true},
		wanted{&f.coreBase, "module.core_layout.base", true}, wanted{&f.coreSize, "module.core_layout.size", true},
		wanted{&f.initBase, "module.init_layout.base", true}, wanted{&f.initSiz, "module.init_layout.size", true},
		wanted{&f.useList, "module_use.source_list", true}, wanted{&f.useSource, "module_use.source", true},
		wanted{&f.kallsyms, "module.kallsyms", true}, wanted{&f.symtab, "mod_kallsyms.symtab", true}, wanted{&f.count, "mod_kallsyms.num_symtab", true},
		wanted{&f.strtab, "mod_kallsyms.strtab", true}, wanted{&f.typetab, "mod_kallsyms.typetab", true},
		wanted{&f.syms, "module.syms", true}, wanted{&f.numSyms, "module.num_syms", true},
		wanted{&f.exportRel, "kernel_symbol.value_offset", true}, wanted{&f.exportNameRel, "kernel_symbol.name_offset", true},
		wanted{&f.exportAbs, "kernel_symbol.value", true}, wanted{&f.exportName, "kernel_symbol.name", true})
	if err != nil {
		return nil, err
	}
	if f.exportRel.has() || f.exportAbs.has() {
		if f.exportSize, err = types.size(ctx, "kernel_symbol"); err != nil {
			return nil, err
		}
	}
	return f, f.check(k.info.Name)
}

// What is more than a structure has, in bytes.
const (
	maxModuleStruct = 1 << 16
	maxExport       = 256 // struct kernel_symbol
)

// check wants every member to be in struct module.
func (f *moduleFields) check(name string) error {
	if f.size > maxModuleStruct {
		return fmt.Errorf("%s: a struct module of %d bytes: %w", name, f.size, remora.ErrCorrupt)
	}
	const links = 16 // a struct list_head
	for _, m := range []field{{off: f.list.off, size: links}, f.state, f.name, f.taints, f.refcnt, f.users, f.init, f.exit, f.mem, f.coreBase, f.coreSize,
		f.initBase, f.initSiz, f.kallsyms, f.syms, f.numSyms} {
		if m.off+uint64(m.size) > f.size {
			return fmt.Errorf("%s: a member of struct module is at %d, behind the end of %d bytes: %w", name, m.off, f.size, remora.ErrCorrupt)
		}
	}
	if m := f.mem; m.elem != 0 && (f.memBase.off+uint64(f.memBase.size) > uint64(m.elem) || f.memSize.off+uint64(f.memSize.size) > uint64(m.elem)) {
		return fmt.Errorf("%s: a struct module_memory of %d bytes: %w", name, m.elem, remora.ErrCorrupt)
	}
	if f.exportSize > maxExport {
		return fmt.Errorf("%s: a struct kernel_symbol of %d bytes: %w", name, f.exportSize, remora.ErrCorrupt)
	}
	for _, m := range []field{f.exportRel, f.exportNameRel, f.exportAbs, f.exportName} {
		if f.exportSize != 0 && m.off+uint64(m.size) > f.exportSize {
			return fmt.Errorf("%s: a member of struct kernel_symbol is at %d, behind the end of %d bytes: %w", name, m.off, f.exportSize, remora.ErrCorrupt)
		}
	}
	return nil
}

// Modules gives the modules in the order of /proc/modules: the one that was loaded last
// comes first.
func (k *Kernel) Modules(ctx context.Context) iter.Seq2[*Module, error] {
	return func(yield func(*Module, error) bool) {
		f, err := k.modules.do(ctx, k.findModuleFields)
		if err != nil {
			yield(nil, fmt.Errorf("the modules of the kernel: %w", err))
			return
		}
		head, err := k.moduleList(ctx, f)
		if err != nil {
			yield(nil, fmt.Errorf("the list of modules: %w", err))
			return
		}
		if head == 0 {
			return
		}
		if k.info.Live {
			k.liveModules(ctx, f, head, yield)
			return
		}
		k.listModules(ctx, f, head, yield)
	}
}

// listModules follows the list once. It gives false where an error ended it.
func (k *Kernel) listModules(ctx context.Context, f *moduleFields, head remora.Addr, yield func(*Module, error) bool) bool {
	r := k.reader(ctx)
	for at := range r.list(head, f.list) {
		m := k.module(r, f, at)
		if r.err != nil {
			break
		}
		if m.State != moduleUnformed && !yield(m, nil) {
			return true
		}
	}
	if r.err != nil {
		yield(nil, fmt.Errorf("the list of modules: %w", r.err))
	}
	return r.err == nil
}

// liveModules follows the list until it did not change meanwhile.
func (k *Kernel) liveModules(ctx context.Context, f *moduleFields, head remora.Addr, yield func(*Module, error) bool) {
	var all []*Module
	var trouble error
	for range maxTries {
		all, trouble = nil, nil
		if k.listModules(ctx, f, head, func(m *Module, err error) bool {
			if trouble = err; err == nil {
				all = append(all, m)
			}
			return true
		}) || ctx.Err() != nil {
			break
		}
	}
	for _, m := range all {
		if !yield(m, nil) {
			return
		}
	}
	if trouble != nil {
		yield(nil, trouble)
	}
}

// module reads a struct module.
func (k *Kernel) module(r *reader, f *moduleFields, at remora.Addr) *Module {
	m := &Module{at: at, raw: make([]byte, f.size), Refs: -1}
	if r.bytes(at, m.raw); r.err != nil {
		return m
	}
	m.Name = cString(m.raw[f.name.off:][:f.name.size])
	m.State = ModuleState(min(at64(m.raw, f.state), 255))
	m.Taints = Taint(at64(m.raw, f.taints)).Letters()
	m.Permanent = f.init.has() && f.exit.has() && at64(m.raw, f.init) != 0 && at64(m.raw, f.exit) == 0
	if f.refcnt.has() {
		const base = 1 // MODULE_REF_BASE
		m.Refs = int64(int32(at64(m.raw, f.refcnt))) - base
	}
	m.memory(f)
	if f.users.has() && f.useList.has() && f.useSource.has() {
		for use := range r.list(at+remora.Addr(f.users.off), f.useList) {
			m.UsedBy = append(m.UsedBy, r.text(r.ptr(use, f.useSource), f.name))
		}
	}
	return m
}

// moduleKinds are the names of memory by the kernel's numbers (enum mod_mem_type).
var moduleKinds = [...]string{"text", "data", "rodata", "ro_after_init", "init_text", "init_data", "init_rodata"}

// memory takes the ranges out of the structure. Those of initialization have been freed
// when they are empty.
func (m *Module) memory(f *moduleFields) {
	add := func(base, size uint64, kind string) {
		if kind == moduleKinds[0] || kind == "core" {
			m.Base = remora.Addr(base)
		}
		m.Size += size
		if size != 0 {
			m.Ranges = append(m.Ranges, ModuleRange{remora.Range{Start: remora.Addr(base), Size: size}, kind})
		}
	}
	if f.mem.has() && f.mem.elem != 0 {
		for i := 0; i < len(moduleKinds) && uint32(i+1)*f.mem.elem <= f.mem.size; i++ {
			b := m.raw[f.mem.off+uint64(i)*uint64(f.mem.elem):]
			add(at64(b, f.memBase), at64(b, f.memSize), moduleKinds[i])
		}
		return
	}
	if f.coreBase.has() {
		add(at64(m.raw, f.coreBase), at64(m.raw, f.coreSize), "core")
		add(at64(m.raw, f.initBase), at64(m.raw, f.initSiz), "init")
	}
}
