// SPDX-License-Identifier: Apache-2.0

//go:build linux

package linux

import (
	"testing"
	"unsafe"
)

// The kernel takes the size from the request number and from the first field, so
// a wrong layout would be refused or, worse, half understood.
func TestKernelLayouts(t *testing.T) {
	if got := unsafe.Sizeof(MapQuery{}); got != 104 {
		t.Errorf("struct procmap_query has %d bytes, want 104", got)
	}
	if got := unsafe.Sizeof(pmScanArg{}); got != 96 {
		t.Errorf("struct pm_scan_arg has %d bytes, want 96", got)
	}
	if procmapQuery != 0xc0686611 || pagemapScan != 0xc0606610 {
		t.Errorf("request numbers %#x and %#x, want 0xc0686611 and 0xc0606610", procmapQuery, pagemapScan)
	}
}
