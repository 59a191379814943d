// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package cli

import (
	"errors"
	"fmt"
	"runtime"

	"github.com/remora-go/remora/guest"
)

// watchdogVerb is the only argument of a process that guards a pause.
const watchdogVerb = "_let-run-on"

// stubWatchdogVerb is that of one that guards a guest behind a gdb stub.
const stubWatchdogVerb = "_let-stub-run-on"

func unguarded() error {
	return fmt.Errorf("a process that guards a pause cannot be had on %s: %w", runtime.GOOS, errors.ErrUnsupported)
}

func watchdog(*guest.QEMU) (func() error, error) { return nil, unguarded() }

// stubWatchdog guards nothing here.
func stubWatchdog(*guest.Stub) (func() error, error) { return func() error { return nil }, nil }

func guarding([]string) error { return unguarded() }
