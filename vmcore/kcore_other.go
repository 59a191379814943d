// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package vmcore

import (
	"errors"
	"fmt"
	"runtime"
)

func openKcore(*KcoreOptions) (*Image, error) {
	return nil, fmt.Errorf("kernel: the memory of the running kernel is read on Linux, not on %s: %w", runtime.GOOS, errors.ErrUnsupported)
}
