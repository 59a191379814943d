// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/btf"
)

// moduleBTF are the fields of struct btf_module and struct btf (kernel/bpf/btf.c).
type moduleBTF struct {
	list, btf, data, size, name field
}

// Modules gives the types that modules add to those of the kernel, which are their base,
// in the order in which the modules were loaded. They are named as the modules are.
func (t *Types) Modules(ctx context.Context) iter.Seq2[*btf.Types, error] {
	return func(yield func(*btf.Types, error) bool) {
		var f moduleBTF
		if err := t.fields(ctx, wanted{&f.list, "btf_module.list", false}, wanted{&f.btf, "btf_module.btf", false},
			wanted{&f.data, "btf.data", false}, wanted{&f.size, "btf.data_size", false}, wanted{&f.name, "btf.name", false}); err != nil {
			yield(nil, err)
			return
		}
		head, err := t.moduleList(ctx, &f)
		if err != nil {
			yield(nil, err)
			return
		}
		r := t.k.reader(ctx)
		for m := range r.list(head, f.list) {
			data, err := t.moduleAt(r, r.ptr(m, f.btf), &f)
			if !yield(data, err) {
				return
			}
		}
		if r.err != nil {
			yield(nil, r.err)
		}
	}
}

// moduleList gives the head of the list btf_modules: by its symbol, and where the kernel's
// table of symbols has those of functions alone, by what it looks like.
func (t *Types) moduleList(ctx context.Context, f *moduleBTF) (remora.Addr, error) {
	head, err := t.k.symbol(ctx, "btf_modules")
	if err == nil || ctx.Err() != nil {
		return head, err
	}
	head, why := t.k.findList(ctx, "head of btf_modules", f.list, func(entry remora.Addr) bool {
		r := t.k.reader(ctx)
		data := r.uint(r.ptr(r.ptr(entry, f.btf), f.data), field{size: 4})
		return r.err == nil && data == uint64(binary.LittleEndian.Uint32([]byte(magicOfBTF)))
	})
	if why != nil {
		return 0, fmt.Errorf("%w; %w", err, why)
	}
	return head, nil
}

// moduleAt opens the types of the struct btf at a. What a module's own BTF lacks is told
// without ending the list.
func (t *Types) moduleAt(r *reader, a remora.Addr, f *moduleBTF) (*btf.Types, error) {
	data, size, name := r.ptr(a, f.data), r.uint(a, f.size), r.text(a, f.name)
	if r.err != nil {
		return nil, r.err
	}
	b, err := btf.Open(r.ctx, name, size, t.k.readBTF(data), t.data)
	if err != nil {
		return nil, fmt.Errorf("the BTF of module %s at %v: %w", name, data, err)
	}
	return b, nil
}

// Module gives the types that a module adds. The error Is errors.ErrUnsupported where it
// has none.
func (t *Types) Module(ctx context.Context, name string) (*btf.Types, error) {
	for b, err := range t.Modules(ctx) {
		if err != nil {
			return nil, err
		}
		if b.Name() == name {
			return b, nil
		}
	}
	return nil, fmt.Errorf("there are no types of a module %s: %w", name, errors.ErrUnsupported)
}
