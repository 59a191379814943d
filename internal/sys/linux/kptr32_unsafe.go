// SPDX-License-Identifier: Apache-2.0

//go:build linux && (386 || arm || mipsle)

package linux

import "unsafe"

// kptr is a pointer inside a kernel structure, where it always has 64 bits. It is
// a pointer to the garbage collector too, so what it points at stays put.
type kptr struct {
	p unsafe.Pointer
	_ uint32 // the upper half, on a little-endian machine
}
