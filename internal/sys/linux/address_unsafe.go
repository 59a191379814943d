// SPDX-License-Identifier: Apache-2.0

//go:build linux

package linux

import "unsafe"

// AddressOf gives the address of the first byte of b, 0 if there is none. Who uses it keeps b
// alive, and has it escape to the heap, where nothing moves.
func AddressOf(b []byte) uint64 {
	if len(b) == 0 {
		return 0
	}
	return uint64(uintptr(unsafe.Pointer(unsafe.SliceData(b)))) // a number; see above for what keeps it true
}
