// SPDX-License-Identifier: Apache-2.0

//go:build peers

package play

import (
	"github.com/go-delve/delve/pkg/proc/native"
)

// Delve moves bytes as Delve does, through the packages that its debugger is made of. It has
// stopped the process and read its symbols before the time begins, and lets it go after each
// request: there is one tracer at a time. See ways for what it can be asked.
func Delve() map[string]Verb {
	return ways(func(pid int) (*way, error) {
		group, err := native.Attach(pid, nil, nil)
		if err != nil {
			return nil, err
		}
		m := group.Selected.Memory()
		return &way{
			read:   func(p []byte, a uint64) (int, error) { return m.ReadMemory(p, a) },
			write:  func(p []byte, a uint64) (int, error) { return m.WriteMemory(a, p) },
			close:  func() error { return group.Detach(false) },
			faults: func(error) bool { return true },
		}, nil
	})
}
