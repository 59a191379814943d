// SPDX-License-Identifier: Apache-2.0

//go:build !race

package processvm

import (
	"context"
	"testing"
)

// Not under the race detector, where pools lose what they hold, on purpose.
func TestCallsAllocateNothing(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		args := Args{
			PID:  targetPID,
			Lvec: w.array(localBase+4*ps, at(localBase, 100), at(localBase+ps, 5000)), Liovcnt: 2,
			Rvec: w.array(localBase+5*ps, at(base, 300), at(base+ps, 9000)), Riovcnt: 2,
		}
		bad, local, remote := one(hole, 5), iov(at(localBase, 100), at(localBase+ps, 5000)), iov(at(base, 300), at(base+3*ps, 9000))
		ctx := context.Background()
		for name, f := range map[string]func(){
			"read":    func() { w.sys.Readv(ctx, w.caller, targetPID, local, remote, 0) },
			"write":   func() { w.sys.Writev(ctx, w.caller, targetPID, local, remote, 0) },
			"fault":   func() { w.sys.Readv(ctx, w.caller, targetPID, bad, remote, 0) },
			"syscall": func() { w.sys.Syscall(ctx, w.caller, false, args) },
			"all":     func() { w.sys.ReadAll(ctx, w.caller, targetPID, local[:1], remote) },
		} {
			for range 10 {
				f()
			}
			if n := testing.AllocsPerRun(500, f); n != 0 {
				t.Errorf("%s: %v allocations", name, n)
			}
		}
	})
}
