// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"fmt"
	"sync"

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

// newTypes gives the types of a kernel in BTF.
func newTypes(k *Kernel, data *btf.Types, how string) *Types {
	return &Types{k: k, data: data, how: how, members: map[btf.ID][]btf.Member{}}
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
