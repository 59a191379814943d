// SPDX-License-Identifier: Apache-2.0

//go:build linux

package rwmem

import (
	"unsafe"

	"github.com/remora-go/remora"
)

// addrOf is where p lies in this process. It is not of Go's heap, and does not move.
func addrOf(p []byte) remora.Addr { return remora.Addr(uintptr(unsafe.Pointer(unsafe.SliceData(p)))) }
