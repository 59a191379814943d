// SPDX-License-Identifier: Apache-2.0

package remora_test

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/memtest"
)

// example gives a Space of one page at 0x1000 that begins with data.
func example(data string) *memtest.Sparse {
	s := memtest.NewSparse(&memtest.SparseOptions{Name: "example"})
	r := remora.Range{Start: 0x1000, Size: 0x1000}
	if err := errors.Join(s.Map(r, memtest.MapOptions{Perm: rw, Name: "[heap]"}), s.Poke([]byte(data), r.Start)); err != nil {
		panic(err)
	}
	return s
}

// Many ranges in one call. Each comes back with the bytes that were moved and the
// reason why there are no more.
func ExampleMemory_ReadV() {
	ctx := context.Background()
	m := example("hello, remote").Memory()
	segs := []remora.Seg{
		{Addr: 0x1000, Buf: make([]byte, 5)},
		{Addr: 0x1ffc, Buf: make([]byte, 100)},
		{Addr: 0x1007, Buf: make([]byte, 6)},
	}
	n, err := m.ReadV(ctx, segs)
	fmt.Println(n, err)
	for _, s := range segs {
		fmt.Printf("%v: %d of %d bytes, %v\n", s.Addr, s.N, len(s.Buf), s.Err)
	}
	fmt.Println(remora.FirstFault(ctx, m, remora.Read, segs))
	// Output:
	// 15 not mapped
	// 0x1000: 5 of 5 bytes, <nil>
	// 0x1ffc: 4 of 100 bytes, not mapped
	// 0x1007: 6 of 6 bytes, <nil>
	// read example:0x2000: not mapped
}

func ExampleMemory_ReadAt() {
	m := example("").Memory()
	n, err := m.ReadAt(context.Background(), make([]byte, 64), 0x1ff0)
	fmt.Println(n, err)

	var fault *remora.Fault
	if errors.As(err, &fault) {
		fmt.Println(fault.Addr, errors.Is(err, remora.ErrUnmapped), errors.Is(err, remora.ErrFault))
	}
	// Output:
	// 16 read example:0x2000: not mapped
	// 0x2000 true true
}

func ExampleMemory_Uint32() {
	m := example("\x78\x56\x34\x12").Memory()
	v, err := m.Uint32(context.Background(), 0x1000)
	fmt.Printf("0x%x %v\n", v, err)
	// Output: 0x12345678 <nil>
}

func ExampleMemory_CString() {
	m := example("hello\x00 and more").Memory()
	fmt.Println(m.CString(context.Background(), 0x1000, 100))
	// Output: hello <nil>
}

// A Section is what package io and all that builds on it can use.
func ExampleMemory_Section() {
	m := example("bytes of a process").Memory()
	sec := m.Section(context.Background(), remora.Range{Start: 0x1009, Size: 9})
	b, err := io.ReadAll(sec)
	fmt.Printf("%q %v\n", b, err)
	// Output: "a process" <nil>
}

func ExampleAs() {
	var target remora.Target = example("")
	if mapper, ok := remora.As[remora.Mapper](target); ok {
		for r, err := range mapper.Regions(context.Background()) {
			fmt.Println(r.Range, r.Perm, r.Name, err)
		}
	}
	_, ok := remora.As[remora.Pauser](target)
	fmt.Println("can be paused:", ok)
	// Output:
	// 0x1000+0x1000 rw- [heap] <nil>
	// can be paused: false
}
