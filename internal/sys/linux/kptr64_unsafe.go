// SPDX-License-Identifier: Apache-2.0

//go:build linux && !(386 || arm || mips || mipsle)

package linux

import "unsafe"

// kptr is a pointer inside a kernel structure, where it always has 64 bits. It is
// a pointer to the garbage collector too, so what it points at stays put.
type kptr struct{ p unsafe.Pointer }
