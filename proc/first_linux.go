// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// firstThread is the thread that the kernel hands a signal of the process to if that
// thread takes it at all (wants_signal in kernel/signal.c).
var firstThread = os.Getpid()

// undisturbed makes a call that may wait for a page that nobody brings. A thread that
// waits so ends no wait for a signal that does not kill, so that Ctrl-C handed to it would
// be lost to the program: on the first thread the call is made with signals blocked, and
// the kernel picks another one.
func undisturbed(call func()) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if unix.Gettid() != firstThread {
		call()
		return
	}
	var all, before unix.Sigset_t
	for i := range all.Val {
		all.Val[i]--
	}
	if unix.PthreadSigmask(unix.SIG_BLOCK, &all, &before) == nil {
		defer func() { _ = unix.PthreadSigmask(unix.SIG_SETMASK, &before, nil) }()
	}
	call()
}
