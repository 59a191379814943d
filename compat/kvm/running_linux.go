// SPDX-License-Identifier: Apache-2.0

package kvm

import (
	"errors"
	"io/fs"

	"github.com/remora-go/remora/internal/sys/linux"
)

// openRunning gives the running system.
func openRunning(c *Config) (Image, error) { return newRunning("/proc", c), nil }

// gone says whether reading a file in /proc failed because its process is no more.
func gone(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, linux.ESRCH) }
