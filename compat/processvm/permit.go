// SPDX-License-Identifier: Apache-2.0

package processvm

import "github.com/remora-go/remora/internal/access"

// What says who a process is and what protects it, under names that can be used from outside of
// this module.
type (
	Subject   = access.Subject   // the ids, capabilities and so on of a process
	Status    = access.Status    // what of them /proc/PID/status shows
	IDs       = access.IDs       // the four user or group ids
	Caps      = access.Caps      // a set of capabilities, bit n for capability n
	Namespace = access.Namespace // a user namespace
	IDRange   = access.IDRange   // a line of uid_map or gid_map
	Facts     = access.Facts     // what matters besides the two sides
)

// The answers for facts that may be unknown.
const (
	Unknown = access.Unknown
	Yes     = access.Yes
	No      = access.No
)

// mostVerdicts is how many callers' verdicts a process keeps.
const mostVerdicts = 256

// permits says whether caller may access target. Who shares the target's memory always may
// (R51).
func (s *System) permits(caller, target *Process) bool {
	switch {
	case caller == target, caller.PID == target.PID, sameMemory(caller.Memory, target.Memory):
		return true
	case s.opt.Permit != nil:
		return s.opt.Permit(caller, target)
	case caller.Subject == nil || target.Subject == nil:
		return true
	}
	return s.judged(caller.Subject, target)
}

// judged asks internal/access, once for each pair. What is not known refuses.
func (s *System) judged(caller *Subject, target *Process) bool {
	target.mu.Lock()
	defer target.mu.Unlock()
	yes, known := target.verdicts[caller]
	if known {
		return yes
	}
	yes = access.Decide(access.ProcessVM, *caller, *target.Subject, s.opt.Facts).Verdict == access.Allowed
	if target.verdicts == nil || len(target.verdicts) >= mostVerdicts {
		target.verdicts = map[*Subject]bool{}
	}
	target.verdicts[caller] = yes
	return yes
}
