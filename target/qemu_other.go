// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package target

import (
	"errors"
	"fmt"
	"runtime"
)

// monitorsOf needs the /proc of Linux.
func monitorsOf(pid int) ([]string, error) {
	return nil, fmt.Errorf("%s%d: a guest cannot be found by its process on %s; name its QMP socket: qemu:PATH: %w", qemuPrefix, pid, runtime.GOOS, errors.ErrUnsupported)
}
