// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package kvm

import (
	"errors"
	"fmt"
	"io/fs"
	"runtime"
)

// openRunning gives an error that Is errors.ErrUnsupported and names the system.
func openRunning(*Config) (Image, error) {
	return nil, fmt.Errorf("the running system: %s: %w", runtime.GOOS, errors.ErrUnsupported)
}

// gone says whether there is no such file.
func gone(err error) bool { return errors.Is(err, fs.ErrNotExist) }
