// SPDX-License-Identifier: Apache-2.0

package compose_test

import (
	"context"
	"fmt"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/compose"
	"github.com/remora-go/remora/memtest"
)

// target gives a target of one page, of which the first bytes are text.
func target(name, text string) remora.Target {
	s := memtest.NewSparse(&memtest.SparseOptions{Name: name})
	if err := s.Map(remora.Range{Size: 4096}, memtest.MapOptions{Perm: remora.PermRead | remora.PermWrite, Name: name}); err != nil {
		panic(err)
	}
	if err := s.Poke([]byte(text), 0); err != nil {
		panic(err)
	}
	return s
}

// Two halves of a memory that are kept in different places.
func ExampleSplice() {
	ctx := context.Background()
	low, high := target("low", "remote"), target("high", "memory")
	s, err := compose.Splice(&compose.SpliceOptions{Name: "both"},
		compose.Part{Range: remora.Range{Start: 0x1000, Size: 4}, Space: low.Memory(), At: 2},
		compose.Part{Range: remora.Range{Start: 0x1004, Size: 6}, Space: high.Memory()},
	)
	if err != nil {
		fmt.Println(err)
		return
	}
	buf := make([]byte, 12)
	n, err := remora.New(s).ReadAt(ctx, buf, 0x1000)
	fmt.Printf("%s\n%v\n", buf[:n], err)
	// Output:
	// motememory
	// read both:0x100a: not mapped
}

// Changes that are tried out, listed and thrown away.
func ExampleOverlay() {
	ctx := context.Background()
	t := target("file", "unchanged")
	layer := compose.Overlay(t.Memory())
	m := remora.New(layer)
	if _, err := m.WriteAt(ctx, []byte("overlaid"), 0x10); err != nil {
		fmt.Println(err)
	}
	if _, err := m.WriteAt(ctx, []byte("ex"), 0); err != nil {
		fmt.Println(err)
	}
	s, _ := m.CString(ctx, 0, 80)
	fmt.Println(s, layer.Changes())
	layer.Discard()
	s, _ = m.CString(ctx, 0, 80)
	fmt.Println(s, layer.Changes())
	// Output:
	// exchanged [0x0+0x2 0x10+0x8]
	// unchanged []
}

// A target that cannot be written, and still lists its mappings.
func ExampleSwap() {
	ctx := context.Background()
	t := target("page", "")
	t = compose.Swap(t, compose.ReadOnly(t.Memory()))
	defer t.Close()
	_, err := t.Memory().WriteAt(ctx, []byte{1}, 0)
	fmt.Println(err)
	if mapper, ok := remora.As[remora.Mapper](t); ok {
		for r, err := range mapper.Regions(ctx) {
			fmt.Println(r.Range, r.Perm, r.Name, err)
		}
	}
	// Output:
	// write page:0x0: opened read-only
	// 0x0+0x1000 rw- page <nil>
}

func ExampleTrace() {
	ctx := context.Background()
	s := compose.Trace(target("page", "text").Memory(), func(e compose.Event) {
		fmt.Println(e.Op, len(e.Segs), e.Moved, e.Err)
	})
	buf := make([]byte, 8)
	s.Transfer(ctx, remora.Read, []remora.Seg{{Addr: 0, Buf: buf[:4]}, {Addr: 4094, Buf: buf[4:]}})
	// Output:
	// read 2 6 not mapped
}
