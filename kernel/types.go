// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"fmt"
	"sync"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/btf"
)

// Types are the types of a kernel, out of its BTF. They are read as they are asked for.
type Types struct {
	k    *Kernel
	data *btf.Types
	how  string

	mu      sync.Mutex
	members map[btf.ID][]btf.Member // of structures that were looked into
}

// NoTypesError says that no types of the kernel were found.
type NoTypesError struct{ Why error }

func (e *NoTypesError) Error() string {
	return fmt.Sprintf("the types of the kernel (BTF) were not found: %v; without them what its structures hold cannot be read: tasks, processes, modules and files; symbols, the memory of the kernel and physical memory can", e.Why)
}

func (e *NoTypesError) Unwrap() error { return e.Why }

// Types finds the types, once. Where there are none the error is a *NoTypesError.
func (k *Kernel) Types(ctx context.Context) (*Types, error) {
	return k.types.do(ctx, k.findTypes)
}

// findTypes finds the BTF that the kernel keeps of itself.
func (k *Kernel) findTypes(ctx context.Context) (*Types, error) {
	start, err := k.symbol(ctx, "__start_BTF")
	if err != nil {
		return nil, &NoTypesError{err}
	}
	stop, err := k.symbol(ctx, "__stop_BTF")
	if err != nil {
		return nil, &NoTypesError{err}
	}
	return k.typesAt(ctx, remora.Range{Start: start, Size: uint64(stop - start)}, "from __start_BTF to __stop_BTF")
}

// typesAt gives the types whose BTF is in a range of the kernel's memory.
func (k *Kernel) typesAt(ctx context.Context, r remora.Range, how string) (*Types, error) {
	data, err := btf.Open(ctx, "the kernel's BTF", r.Size, k.readBTF(r.Start), nil)
	if err != nil {
		return nil, &NoTypesError{err}
	}
	return &Types{k: k, data: data, how: how, members: map[btf.ID][]btf.Member{}}, nil
}

// readBTF gives what reads the BTF at a.
func (k *Kernel) readBTF(a remora.Addr) btf.Read {
	return func(ctx context.Context, p []byte, off uint32) error {
		_, err := k.mem.ReadAt(ctx, p, a+remora.Addr(off))
		return err
	}
}

// BTF gives the types as they are, by number and by name.
func (t *Types) BTF() *btf.Types { return t.data }

// How says where the types were found.
func (t *Types) How() string { return t.how }

// membersOf gives the members of a structure.
func (t *Types) membersOf(ctx context.Context, d btf.Type) ([]btf.Member, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if all, ok := t.members[d.ID]; ok {
		return all, nil
	}
	all, err := t.data.Members(ctx, d)
	if err == nil {
		t.members[d.ID] = all
	}
	return all, err
}
