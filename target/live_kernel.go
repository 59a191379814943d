// SPDX-License-Identifier: Apache-2.0

package target

import (
	"context"
	"strings"
	"sync/atomic"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/kernel"
	"github.com/remora-go/remora/paging"
	"github.com/remora-go/remora/vmcore"
)

// liveName is the kernel that this program runs on.
const liveName = "kernel"

// openLive opens "kernel", and what is behind an @ of it.
func openLive(ctx context.Context, spec string, o *Options) (remora.Target, error) {
	name, view, at := strings.Cut(spec, "@")
	switch {
	case name != liveName:
		return nil, errNotThis
	case at && view != viewPhys && !allDigits(view):
		return nil, &SpecError{Spec: spec, Why: "behind the @ of a kernel is the number of a process, or phys"}
	}
	given, err := vmcoreinfo(o.VMCoreInfo)
	if err != nil {
		return nil, err
	}
	process := allDigits(view)
	img, err := vmcore.OpenKcore(&vmcore.KcoreOptions{Write: o.Write && !process})
	if err != nil {
		return nil, err
	}
	m := imageMachine(img, liveName, given, o)
	m.hints.BTF = "/sys/kernel/btf/vmlinux"
	t, err := m.view(ctx, view, o)
	if err != nil {
		return nil, err
	}
	switch t := t.(type) {
	case *Kernel:
		t.showTables(img)
	case *Process:
		t.Kernel.showTables(img)
		if o.Write {
			return writeThroughProc(t, o)
		}
	}
	return t, nil
}

// showTables has the memory of the running system know of the kernel's page tables, as soon
// as they are found.
func (k *Kernel) showTables(img *vmcore.Image) {
	img.SetTables(func(plain remora.Space) remora.Translator { return &ownTables{k: k.Kernel, plain: plain} })
}

// ownTables are the page tables of a kernel, read from another view of its memory.
type ownTables struct {
	k     *kernel.Kernel
	plain remora.Space
	made  atomic.Pointer[paging.Tables]
}

// Translate takes everything to be mapped until the tables are found.
func (t *ownTables) Translate(ctx context.Context, va remora.Addr) remora.Extent {
	tables := t.made.Load()
	if tables == nil {
		found := t.k.Found()
		if found == nil || found.Linear {
			return remora.Extent{Virt: va, Size: 1, Perm: remora.PermRead}
		}
		tables = paging.NewTables(t.plain, found.Format, found.Root, nil)
		t.made.Store(tables)
	}
	return tables.Translate(ctx, va)
}
