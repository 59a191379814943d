// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package proc

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"runtime"

	"github.com/remora-go/remora"
)

// Process is a live process. On this system none can be opened.
type Process struct{}

var _ remora.Target = (*Process)(nil)

// Open gives an error that Is errors.ErrUnsupported and names the system.
func Open(pid int, _ *Options) (*Process, error) {
	return nil, fmt.Errorf("pid %d: live processes on %s: %w", pid, runtime.GOOS, errors.ErrUnsupported)
}

// Memory gives nil: there is no Process on this system.
func (p *Process) Memory() *remora.Memory { return nil }

// Pid gives 0.
func (p *Process) Pid() int { return 0 }

// Close does nothing.
func (p *Process) Close() error { return nil }

// Usage lists nothing.
func (p *Process) Usage(context.Context) iter.Seq2[Usage, error] {
	return func(func(Usage, error) bool) {}
}

// Facilities gives none: they are those of Linux.
func Facilities() []Facility { return nil }
