// SPDX-License-Identifier: Apache-2.0

package memfault_test

import (
	"context"
	"fmt"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/memfault"
	"github.com/remora-go/remora/memtest"
)

func ExampleNew() {
	space := memtest.NewSparse(nil)
	space.Map(remora.Range{Start: 0x1000, Size: 0x2000}, memtest.MapOptions{Perm: remora.PermRead})

	faulty, err := memfault.New(space, `
		read 0x1800-0x1fff not-saved   # a hole in the dump
		gone after 2
	`)
	if err != nil {
		fmt.Println(err)
		return
	}
	mem := remora.New(faulty)
	for range 3 {
		n, err := mem.ReadAt(context.Background(), make([]byte, 4096), 0x1000)
		fmt.Println(n, err)
	}

	_, err = memfault.New(space, "read 0x1000 missing")
	fmt.Println(err)
	// Output:
	// 2048 read sparse:0x1800: injected by "read 0x1800-0x1fff not-saved": not saved in this dump
	// 2048 read sparse:0x1800: injected by "read 0x1800-0x1fff not-saved": not saved in this dump
	// 0 read sparse:0x1000: the target is gone
	// memfault: line 1: "read 0x1000 missing": want a cause (beyond-eof, busy, corrupt, device, fault, gone, guard, hole, io, no-table, not-present, not-saved, poisoned, protected, truncated, unmapped), found "missing"
}
