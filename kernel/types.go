// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"errors"
)

// Types are the types of a kernel, out of its BTF.
type Types struct{}

// Types finds the types, once.
func (k *Kernel) Types(ctx context.Context) (*Types, error) {
	return nil, errors.ErrUnsupported
}

// field is a member of a structure, at an offset from the structure's start. A field that
// the kernel does not have has size 0.
type field struct {
	off    uint64
	size   uint32 // bytes; of an array: all of it
	bit    uint8  // of a bit field: the first bit, from the lowest of the bytes on
	bits   uint8  // 0: no bit field
	signed bool
}

// has says whether the kernel has the member.
func (f field) has() bool { return f.size != 0 }

// size gives the size of a structure in bytes.
func (t *Types) size(name string) (uint64, error) { return 0, errors.ErrUnsupported }

// field finds a member by a path like "mm_mt.ma_root", also within members that have no name
// themselves. Older names of it are tried as the table of alternatives says.
func (t *Types) field(structure, path string) (field, error) { return field{}, errors.ErrUnsupported }

// wanted is a field that a part of the kernel's knowledge asks for.
type wanted struct {
	into     *field
	member   string // "task_struct.pid"
	optional bool   // it may be missing: into stays empty
}

// fields finds many, and says of all that are missing in one error.
func (t *Types) fields(all ...wanted) error { return errors.ErrUnsupported }
