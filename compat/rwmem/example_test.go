// SPDX-License-Identifier: Apache-2.0

package rwmem_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/compat/errno"
	"github.com/remora-go/remora/compat/rwmem"
	"github.com/remora-go/remora/memtest"
)

// A breakpoint goes into text that may not be written; a request that runs into a hole
// shows how far it came, and the simple form why it ended.
func Example() {
	space := memtest.NewSparse(nil)
	text := memtest.MapOptions{Perm: remora.PermRead | remora.PermExec, Object: memtest.NewObject(4096)}
	if err := space.Map(remora.Range{Start: 0x1000, Size: 4096}, text); err != nil {
		fmt.Println(err)
	}
	ctx := context.Background()
	p := rwmem.New(space, nil)
	if err := p.Hold(); err != nil {
		fmt.Println(err)
	}
	defer p.Release()

	fmt.Println(p.WriteMem(ctx, nil, []byte{0xcc}, 0x1234))

	u := &rwmem.Uio{Iov: []rwmem.Iovec{{Buf: make([]byte, 16)}, {Buf: make([]byte, 8192)}}, Offset: 0x1230, Resid: 8000}
	err := p.RWMem(ctx, u)
	fmt.Println(errors.Is(err, errno.EFAULT), u.Offset, u.Resid)
	fmt.Println(p.ReadMem(ctx, nil, make([]byte, 8), 0x2000))
	// Output:
	// 1 <nil>
	// true 0x2000 4464
	// -1 read sparse:0x2000: bad address: not mapped
}
