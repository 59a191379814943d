// SPDX-License-Identifier: Apache-2.0

// Package btf reads BTF, the types of a program as the Linux kernel keeps its own in
// memory (Documentation/bpf/btf.rst, include/uapi/linux/btf.h).
//
// # Reading
//
// Open looks at the header alone. The rest is read as it is asked for: types lie behind
// one another in the order of their numbers, each of its own length, so those before the
// one that is wanted are walked over once; names are looked for in the table of strings
// and compared by their place. The types of a kernel, 5 MB of them, need not be read
// whole to know where a member of a structure is.
//
// # Errors
//
// What a read says is passed on as it is, and another try reads again. What cannot be is
// a *remora.FormatError that Is remora.ErrCorrupt, and something that is not there is
// ErrNotFound. Nothing is believed before it is checked: counts, offsets and sizes are
// held against the size of the whole, chains of types against a length.
//
// # Concurrency
//
// Types may be used by many goroutines.
package btf
