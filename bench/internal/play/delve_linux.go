// SPDX-License-Identifier: Apache-2.0

//go:build peers

package play

import (
	"errors"
	"fmt"

	"github.com/go-delve/delve/pkg/proc/native"
)

// Delve reads as Delve does, through the packages that its debugger is made of. It has
// stopped the process and read its symbols before the time begins, and lets it go after each
// request: there is one tracer at a time.
//
//	read PID ADDR SIZE
func Delve() map[string]Verb { return map[string]Verb{"read": delveRead} }

func delveRead(args []string) (*Work, error) {
	v, err := parse(args)
	if err != nil || len(v) != 3 {
		return nil, errors.Join(fmt.Errorf("not PID ADDR SIZE: %q", args), err)
	}
	group, err := native.Attach(int(v[0]), nil, nil)
	if err != nil {
		return nil, err
	}
	m, buf := group.Selected.Memory(), used(v[2])
	return &Work{
		Do: func() error {
			if n, err := m.ReadMemory(buf, v[1]); err != nil || n != len(buf) {
				return fmt.Errorf("%d bytes of %d: %w", n, len(buf), err)
			}
			return nil
		},
		Digest: func() (string, error) { return Sum(buf), nil },
		Close:  func() error { return group.Detach(false) },
		Once:   true,
	}, nil
}
