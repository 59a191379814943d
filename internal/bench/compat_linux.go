// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/compat/processvm"
	"github.com/remora-go/remora/internal/sys/linux"
	"github.com/remora-go/remora/memtest"
)

// compatRows are those of the interfaces.
func (b *bench) compatRows() ([]row, error) {
	engine, err := b.engine()
	if err != nil {
		return nil, err
	}
	return []row{
		b.call("processvm.Readv, 16 MiB", "at most 1.03", bulk),
		b.call("processvm.Readv, 4 KiB", "C + 250 ns", 4<<10),
		engine,
	}, nil
}

// call is a row that makes the system call as compat/processvm does.
func (b *bench) call(name, limit string, size int) row {
	buf := make([]byte, size)
	for i := range buf {
		buf[i] = 1
	}
	local := []processvm.Iovec{{Base: linux.AddressOf(buf), Len: uint64(size)}}
	remote := []processvm.Iovec{{Base: uint64(b.private.Start), Len: uint64(size)}}
	return row{
		name: name, limit: limit, bytes: size,
		here: func(n int) error {
			for range n {
				if got, e := processvm.Readv(b.pid, local, remote, 0); got != len(buf) {
					return fmt.Errorf("%d bytes: %w", got, e)
				}
			}
			return nil
		},
		there: func(_ *twin, n int) string {
			return fmt.Sprintf("one %d %x %d %d", b.pid, uint64(b.private.Start), size, n)
		},
	}
}

// engine is a row that moves bytes between two Spaces. Its twin copies as many.
func (b *bench) engine() (row, error) {
	const start = 0x100000
	s := processvm.NewSystem(nil)
	caller, target := &processvm.Process{PID: 1}, &processvm.Process{PID: 2}
	data := make([]byte, bulk)
	for _, p := range []*processvm.Process{caller, target} {
		space := memtest.NewSparse(nil)
		r := remora.Range{Start: start, Size: bulk}
		if err := space.Map(r, memtest.MapOptions{Perm: remora.PermRead | remora.PermWrite}); err != nil {
			return row{}, err
		}
		if err := space.Poke(data, start); err != nil {
			return row{}, err
		}
		p.Memory = space.Memory()
		if err := s.Set(p); err != nil {
			return row{}, err
		}
	}
	vec := []processvm.Iovec{{Base: start, Len: bulk}}
	return row{
		name: "the engine, 16 MiB, by memcpy", limit: "at most 2.00", bytes: bulk,
		here: func(n int) error {
			for range n {
				if got, e := s.Readv(context.Background(), caller, target.PID, vec, vec, 0); got != bulk {
					return fmt.Errorf("%d bytes: %w", got, e)
				}
			}
			return nil
		},
		there: func(_ *twin, n int) string { return fmt.Sprintf("copy %d %d", bulk, n) },
	}, nil
}
