// SPDX-License-Identifier: Apache-2.0

package paging_test

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/memtest"
	"github.com/remora-go/remora/paging"
)

// physical gives a memory with the page tables of a process at 0x1000. They map a
// page at 0x400000, and another is swapped out.
func physical() remora.Space {
	s := memtest.NewSparse(&memtest.SparseOptions{Name: "physical"})
	if err := s.Map(remora.Range{Size: 0x10000}, memtest.MapOptions{Perm: remora.PermRead | remora.PermWrite}); err != nil {
		panic(err)
	}
	for a, entry := range map[remora.Addr]uint64{
		0x1000: 0x2067,             // PGD
		0x2000: 0x3067,             // PUD
		0x3010: 0x4067,             // PMD
		0x4000: 0x8067,             // PTE
		0x4008: 0x07fffffffffffc00, // swapped out
	} {
		if err := s.Poke(binary.LittleEndian.AppendUint64(nil, entry), a); err != nil {
			panic(err)
		}
	}
	if err := s.Poke([]byte("remote memory"), 0x8000); err != nil {
		panic(err)
	}
	return s
}

func Example() {
	ctx := context.Background()
	phys := physical()
	format, err := paging.X86(paging.X86Options{Levels: 4})
	if err != nil {
		fmt.Println(err)
		return
	}
	tables := paging.NewTables(phys, format, 0x1000, &paging.Options{Half: paging.Lower})
	m := remora.New(paging.New(phys, tables, &paging.ViewOptions{Name: "task"}))

	text, err := m.CString(ctx, 0x400000, 64)
	fmt.Println(text, err)
	_, err = m.Uint64(ctx, 0x401000)
	fmt.Println(err)
	for _, s := range tables.Walk(ctx, 0x400000) {
		fmt.Printf("%s at %v: 0x%x, %v\n", s.Name, s.At, s.Raw, s.Entry)
	}
	// Output:
	// remote memory <nil>
	// read task:0x401000: not present in memory: PTE at physical:0x4008 0x7fffffffffffc00: swap: type 0, offset 0x1
	// PGD at 0x1000: 0x2067, table at 0x2000
	// PUD at 0x2000: 0x3067, table at 0x3000
	// PMD at 0x3010: 0x4067, table at 0x4000
	// PTE at 0x4000: 0x8067, 0x8000 of rwxu
}
