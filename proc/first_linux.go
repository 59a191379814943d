// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"runtime"

	"github.com/remora-go/remora/internal/sys/linux"
)

// undisturbed makes a call that may wait for a page that nobody brings. A thread that
// waits so ends no wait for a signal that does not kill, so that Ctrl-C handed to it would
// be lost to the program. The kernel hands a signal to the first thread of the process if
// that one takes it at all (wants_signal in kernel/signal.c): there the call is made with
// signals blocked, and the kernel picks another thread.
func undisturbed(first int, call func()) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if linux.ThreadID() == first {
		if before, ok := linux.BlockSignals(); ok {
			defer linux.SetBlocked(before)
		}
	}
	call()
}
