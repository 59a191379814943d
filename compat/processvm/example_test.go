// SPDX-License-Identifier: Apache-2.0

package processvm_test

import (
	"context"
	"fmt"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/compat/processvm"
	"github.com/remora-go/remora/memtest"
)

// The memory of a process can be that of a core file, of a guest, of a live process: any Space.
// Here two are made up, and the page that would be the third of the second one is missing.
func ExampleSystem() {
	ctx := context.Background()
	readWrite := memtest.MapOptions{Perm: remora.PermRead | remora.PermWrite}
	a, b := memtest.NewSparse(nil), memtest.NewSparse(nil)
	_ = a.Map(remora.Range{Start: 0x1000, Size: 0x4000}, readWrite)
	_ = b.Map(remora.Range{Start: 0x8000, Size: 0x2000}, readWrite)
	caller := &processvm.Process{PID: 1, Memory: a.Memory()}
	s := processvm.NewSystem(nil)
	_ = s.Set(caller)
	_ = s.Set(&processvm.Process{PID: 2, Memory: b.Memory()})

	local := []processvm.Iovec{{Base: 0x1000, Len: 0x3000}}
	remote := []processvm.Iovec{{Base: 0x8010, Len: 0x3000}}
	n, errno := s.Readv(ctx, caller, 2, local, remote, 0)
	fmt.Println(n, errno.Name())
	fmt.Println(processvm.Outcome(false, 2, local, remote, n, errno))
	n, errno = s.Readv(ctx, caller, 3, local, remote, 0)
	fmt.Println(n, errno.Name())
	// Output:
	// 8176 0
	// read pid 2:0xa000: bad address
	// 0 ESRCH
}
