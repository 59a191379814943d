// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/sym"
)

// absent says whether an error is that there is no such symbol or member: the kernel does
// without.
func absent(err error) bool {
	var missing *MissingError
	return errors.Is(err, fs.ErrNotExist) || errors.As(err, &missing)
}

// listed walks the list at a symbol of the kernel. A kernel without one has none.
func (k *Kernel) listed(r *reader, head string, link field, each func(remora.Addr) bool) error {
	at, err := k.symbol(r.ctx, head)
	if err != nil {
		if absent(err) {
			return nil
		}
		return err
	}
	for a := range r.list(at, link) {
		if !each(a) {
			break
		}
	}
	if r.err != nil {
		return fmt.Errorf("%s: %w", head, r.err)
	}
	return nil
}

// membersOrNone finds fields. It is false where the kernel does not have them.
func (k *Kernel) membersOrNone(ctx context.Context, all ...wanted) (bool, error) {
	types, err := k.Types(ctx)
	if err == nil {
		err = types.fields(ctx, all...)
	}
	if err != nil && absent(err) {
		return false, nil
	}
	return err == nil, err
}

// bpfSymbols gives the programs of BPF that are translated (bpf_get_kallsym in the
// kernel's kernel/bpf/core.c).
func (k *Kernel) bpfSymbols(ctx context.Context, yield func(sym.Symbol) bool) error {
	var link, start, end, name field
	ok, err := k.membersOrNone(ctx, wanted{&link, "bpf_ksym.lnode", false}, wanted{&start, "bpf_ksym.start", false},
		wanted{&end, "bpf_ksym.end", false}, wanted{&name, "bpf_ksym.name", false})
	if !ok {
		return err
	}
	r := k.reader(ctx)
	return k.listed(r, "bpf_kallsyms", link, func(a remora.Addr) bool {
		s := sym.Symbol{Addr: r.ptr(a, start), Name: r.text(a, name), Type: 't', Module: "bpf"}
		s.Size = uint64(r.ptr(a, end) - s.Addr)
		return r.err == nil && yield(s)
	})
}

// ftraceModuleSymbols gives the functions for initialization of modules that were traced
// and have been freed (ftrace_mod_get_kallsym in the kernel's kernel/trace/ftrace.c).
func (k *Kernel) ftraceModuleSymbols(ctx context.Context, yield func(sym.Symbol) bool) error {
	var link, mod, funcs, next, name, ip, size, modName field
	ok, err := k.membersOrNone(ctx, wanted{&link, "ftrace_mod_map.list", false}, wanted{&mod, "ftrace_mod_map.mod", false},
		wanted{&funcs, "ftrace_mod_map.funcs", false}, wanted{&next, "ftrace_mod_func.list", false}, wanted{&name, "ftrace_mod_func.name", false},
		wanted{&ip, "ftrace_mod_func.ip", false}, wanted{&size, "ftrace_mod_func.size", false}, wanted{&modName, "module.name", false})
	if !ok {
		return err
	}
	r := k.reader(ctx)
	return k.listed(r, "ftrace_mod_maps", link, func(a remora.Addr) bool {
		module := r.text(r.ptr(a, mod), modName)
		for f := range r.list(a+remora.Addr(funcs.off), next) {
			s := sym.Symbol{Addr: r.ptr(f, ip), Size: r.uint(f, size), Name: k.textAt(r, r.ptr(f, name), maxKsymName), Type: 'T', Module: module}
			if r.err != nil || !yield(s) {
				return false
			}
		}
		return r.err == nil
	})
}

// ftraceSymbols gives the pages of code of ftrace (ftrace_get_trampoline_kallsym in the
// kernel's kernel/trace/ftrace.c).
func (k *Kernel) ftraceSymbols(ctx context.Context, yield func(sym.Symbol) bool) error {
	var link, at, size field
	ok, err := k.membersOrNone(ctx, wanted{&link, "ftrace_ops.list", false}, wanted{&at, "ftrace_ops.trampoline", false},
		wanted{&size, "ftrace_ops.trampoline_size", false})
	if !ok {
		return err
	}
	r := k.reader(ctx)
	return k.listed(r, "ftrace_ops_trampoline_list", link, func(a remora.Addr) bool {
		s := sym.Symbol{Addr: r.ptr(a, at), Size: r.uint(a, size), Name: "ftrace_trampoline", Type: 't', Module: "__builtin__ftrace"}
		return r.err == nil && yield(s)
	})
}

// kprobeSymbols gives the pages of code of kprobes (kprobe_cache_get_kallsym in the
// kernel's kernel/kprobes.c).
func (k *Kernel) kprobeSymbols(ctx context.Context, yield func(sym.Symbol) bool) error {
	var pages, name, link, insns field
	ok, err := k.membersOrNone(ctx, wanted{&pages, "kprobe_insn_cache.pages", false}, wanted{&name, "kprobe_insn_cache.sym", false},
		wanted{&link, "kprobe_insn_page.list", false}, wanted{&insns, "kprobe_insn_page.insns", false})
	if !ok {
		return err
	}
	for _, cache := range []string{"kprobe_insn_slots", "kprobe_optinsn_slots"} {
		at, err := k.symbol(ctx, cache)
		if err != nil {
			if absent(err) {
				continue
			}
			return err
		}
		r := k.reader(ctx)
		for a := range r.list(at+remora.Addr(pages.off), link) {
			s := sym.Symbol{Addr: r.ptr(a, insns), Name: k.textAt(r, r.ptr(at, name), maxKsymName), Type: 't', Module: "__builtin__kprobes"}
			if r.err != nil {
				break
			}
			if !yield(s) {
				return nil
			}
		}
		if r.err != nil {
			return fmt.Errorf("%s: %w", cache, r.err)
		}
	}
	return nil
}
