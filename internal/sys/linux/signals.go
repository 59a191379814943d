// SPDX-License-Identifier: Apache-2.0

//go:build linux

package linux

import "golang.org/x/sys/unix"

// Signals is a set of signals.
type Signals = unix.Sigset_t

// BlockSignals blocks all signals of the calling thread that can be blocked, and gives
// the set that was blocked before: pthread_sigmask(3).
func BlockSignals() (before Signals, ok bool) {
	var all Signals
	for i := range all.Val {
		all.Val[i]--
	}
	return before, unix.PthreadSigmask(unix.SIG_BLOCK, &all, &before) == nil
}

// SetBlocked gives the calling thread back what was blocked before.
func SetBlocked(set Signals) { _ = unix.PthreadSigmask(unix.SIG_SETMASK, &set, nil) }
