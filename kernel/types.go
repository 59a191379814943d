// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"fmt"

	"github.com/remora-go/remora/btf"
)

// Types are the types of a kernel, out of its BTF. They are read as they are asked for.
type Types struct {
	k    *Kernel
	data *btf.Types
	how  string
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
	return &Types{k: k, data: data, how: how}
}

// BTF gives the types as they are, by number and by name.
func (t *Types) BTF() *btf.Types { return t.data }

// How says where the types were found.
func (t *Types) How() string { return t.how }
