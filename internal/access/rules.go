// SPDX-License-Identifier: Apache-2.0

package access

import (
	"fmt"
	"slices"
)

// check is one question on its way through the rules. Each rule gives its step,
// or false where it does not apply.
type check struct {
	door           Door
	caller, target *Subject
	facts          *Facts
}

const giveCap = "run as root, or give the program the capability: setcap cap_sys_ptrace+ep PROGRAM"

// filter is about seccomp(2), which refuses calls before anything else is looked at.
func (c *check) filter() (Step, bool) {
	if c.door != ProcessVM || c.caller.Seccomp == 0 && c.facts.SelfCall != No {
		return Step{}, false
	}
	s := Step{Rule: RuleFilter, Passed: c.facts.SelfCall}
	switch s.Passed {
	case Yes:
		s.Text = "the caller has a seccomp filter, which lets process_vm_readv pass"
	case No:
		s.Text = "the caller may not use process_vm_readv even on itself: a seccomp filter refuses it"
		s.Remedy = "use /proc/PID/mem, or allow process_vm_readv in the filter (containers: seccomp profile)"
	default:
		s.Text = "the caller has a seccomp filter, and what it refuses is not known"
		s.Remedy = "try process_vm_readv on the caller's own pid"
	}
	return s, true
}

// file is about the mode of /proc/PID/mem, 0600, which opening it asks for first
// (generic_permission in fs/namei.c; task_dump_owner in fs/proc/base.c).
func (c *check) file() (Step, bool) {
	if c.door == ProcessVM {
		return Step{}, false
	}
	override := CapDACOverride
	if c.door == ProcMemRead {
		override |= CapDACReadSearch
	}
	t := c.target
	owner := Unknown
	if !t.FileUnseen {
		owner = c.facts.sameID(c.caller.UID.FS, t.FileUID)
	}
	capable := both(answer(c.caller.Effective&override != 0), c.facts.fileMapped(c.caller, t))
	s := Step{Rule: RuleFile, Passed: either(owner, capable)}
	switch s.Passed {
	case Yes:
		s.Text = "the caller may open the file"
	case No:
		s.Text = fmt.Sprintf("/proc/%d/mem belongs to uid %d, the caller's file system uid is %d, and no %v of it counts there",
			t.PID, t.FileUID, c.caller.UID.FS, override)
		s.Remedy = "run as root, or use process_vm_readv, which asks for no file"
	default:
		s.Text = fmt.Sprintf("the owner of /proc/%d/mem cannot be compared with the caller", t.PID)
	}
	return s, true
}

// memory comes before all questions of permission (mm_access).
func (c *check) memory() (Step, bool) {
	s := Step{Rule: RuleMemory, Passed: answer(c.target.HasMemory)}
	switch {
	case c.target.HasMemory:
		s.Text = "the target has an address space"
	case c.target.Kthread:
		s.Text = fmt.Sprintf("%d (%s) is a kernel thread, and has no address space", c.target.PID, c.target.Name)
	case c.target.State == 'Z' || c.target.State == 'X':
		s.Text = fmt.Sprintf("%d (%s) has exited, and has no address space any more", c.target.PID, c.target.Name)
		s.Remedy = "if other threads of it live, use the number of one of them (/proc/PID/task)"
	default:
		s.Text = fmt.Sprintf("%d (%s) has no address space", c.target.PID, c.target.Name)
	}
	return s, true
}

func (c *check) own() (Step, bool) {
	s := Step{Rule: RuleOwn, Passed: Yes}
	switch {
	case c.caller.Tgid == c.target.Tgid:
		s.Text = "the target is a thread of the caller's own process"
	case c.facts.SharesMemory == Yes:
		s.Text = "the target runs in the caller's own address space"
	default:
		return Step{}, false
	}
	return s, true
}

// actingIDs are those of the caller that count at this door.
func (c *check) actingIDs() (uid, gid uint32, kind string) {
	if c.door == ProcessVM {
		return c.caller.UID.Real, c.caller.GID.Real, "real"
	}
	return c.caller.UID.FS, c.caller.GID.FS, "file system"
}

func (c *check) ids() (Step, bool) {
	uid, gid, kind := c.actingIDs()
	u, g := c.target.UID, c.target.GID
	equal := Yes
	for _, id := range [...]uint32{u.Real, u.Effective, u.Saved} {
		equal = both(equal, c.facts.sameID(uid, id))
	}
	for _, id := range [...]uint32{g.Real, g.Effective, g.Saved} {
		equal = both(equal, c.facts.sameID(gid, id))
	}
	capable := c.facts.capable(c.caller, c.target.UserNS, CapSysPtrace)
	s := Step{Rule: RuleIDs, Passed: either(equal, capable)}
	theirs := fmt.Sprintf("the target's uid %d/%d/%d and gid %d/%d/%d (real/effective/saved)",
		u.Real, u.Effective, u.Saved, g.Real, g.Effective, g.Saved)
	ours := fmt.Sprintf("the caller's %s uid %d and gid %d", kind, uid, gid)
	switch {
	case capable == Yes:
		s.Text = "the caller has CAP_SYS_PTRACE in the target's user namespace"
	case equal == Yes:
		s.Text = ours + " equal all of " + theirs
	case s.Passed == No:
		s.Text = ours + " do not equal all of " + theirs + ", and " + c.noCap()
		s.Remedy = c.capRemedy()
	case equal == Unknown:
		s.Text = "ids without a mapping in this user namespace cannot be compared: " + ours + "; " + theirs
		s.Remedy = "look from the initial user namespace"
	default:
		s.Text = ours + " do not equal all of " + theirs + "; whether the caller has CAP_SYS_PTRACE in the target's user namespace is not known"
		s.Remedy = c.capRemedy()
	}
	return s, true
}

// noCap says how the caller lacks CAP_SYS_PTRACE.
func (c *check) noCap() string {
	if c.caller.Effective&CapSysPtrace != 0 {
		return "its CAP_SYS_PTRACE counts only in its own user namespace"
	}
	return "it has no CAP_SYS_PTRACE"
}

func (c *check) capRemedy() string {
	if c.caller.UserNS.initial() {
		return giveCap
	}
	if same(c.caller.UserNS, c.target.UserNS) == No && !c.target.UserNS.initial() {
		return fmt.Sprintf("enter the target's user namespace, or run in the initial one: nsenter -U -t %d PROGRAM", c.target.PID)
	}
	if c.caller.Effective&CapSysPtrace != 0 {
		return "run outside of this user namespace, as root"
	}
	return giveCap
}

func (c *check) dumpable() (Step, bool) {
	capable := c.facts.capableOfMemory(c.caller, c.target, CapSysPtrace)
	s := Step{Rule: RuleDumpable, Passed: either(c.target.Dumpable, capable)}
	const why = "it set PR_SET_DUMPABLE 0, changed its ids or capabilities since execve, or its program file is not readable"
	switch {
	case c.target.Dumpable == Yes:
		s.Text = "the target is dumpable"
	case capable == Yes:
		s.Text = "the caller has CAP_SYS_PTRACE in the user namespace that the target's memory belongs to"
	case s.Passed == No:
		s.Text = "the target is not dumpable (" + why + "), and " + c.noCap()
		s.Remedy = c.capRemedy() + "; or have the target call prctl(PR_SET_DUMPABLE, 1)"
	case c.target.Dumpable == No:
		s.Text = "the target is not dumpable (" + why + "), and the user namespace of its memory is not known"
		s.Remedy = c.capRemedy()
	default:
		s.Text = "whether the target is dumpable cannot be seen from outside; it is not if " + why
		s.Remedy = c.capRemedy()
	}
	return s, true
}

// capabilities is cap_ptrace_access_check of security/commoncap.c.
func (c *check) capabilities() (Step, bool) {
	mine, kind := c.caller.Permitted, "permitted"
	if c.door != ProcessVM {
		mine, kind = c.caller.Effective, "effective"
	}
	more := c.target.Permitted &^ mine
	ns := same(c.caller.UserNS, c.target.UserNS)
	capable := c.facts.capable(c.caller, c.target.UserNS, CapSysPtrace)
	s := Step{Rule: RuleCapabilities, Passed: either(both(ns, answer(more == 0)), capable)}
	switch {
	case capable == Yes:
		s.Text = "the caller has CAP_SYS_PTRACE in the target's user namespace"
	case s.Passed == Yes:
		s.Text = "the target has no capability that the caller lacks"
	case ns == No && s.Passed == No:
		s.Text = "the target is in another user namespace, where the caller has no CAP_SYS_PTRACE"
		s.Remedy = c.capRemedy()
	case s.Passed == No:
		s.Text = fmt.Sprintf("the target is permitted capabilities that the caller has not %s: %s; and %s", kind, more.brief(), c.noCap())
		s.Remedy = c.capRemedy()
	default:
		s.Text = "the target's user namespace is not known"
		s.Remedy = c.capRemedy()
	}
	return s, true
}

// yama is yama_ptrace_access_check of security/yama/yama_lsm.c. That the tracer
// itself passes is so since Linux 4.10.
func (c *check) yama() (Step, bool) {
	if c.facts.YamaUnseen {
		return Step{Rule: RuleYama, Text: "kernel.yama.ptrace_scope cannot be read"}, true
	}
	s := Step{Rule: RuleYama}
	capable := c.facts.capable(c.caller, c.target.UserNS, CapSysPtrace)
	const off = "; or sysctl kernel.yama.ptrace_scope=0"
	switch c.facts.Yama {
	case 0:
		return Step{}, false
	case 1:
		above := slices.Contains(c.target.Ancestors, c.caller.Tgid) ||
			c.target.TracerPID != 0 && c.target.TracerPID == c.caller.Tgid
		switch {
		case above:
			s.Passed, s.Text = Yes, "ptrace_scope is 1, and the caller is a parent or the tracer of the target"
		case capable == Yes:
			s.Passed, s.Text = Yes, "ptrace_scope is 1, and the caller has CAP_SYS_PTRACE"
		default:
			s.Text = "ptrace_scope is 1, which lets only parents of the target in, or whom it named by PR_SET_PTRACER, which cannot be seen"
			s.Remedy = giveCap + off
		}
	case 2:
		s.Passed, s.Text = capable, "ptrace_scope is 2, which lets only CAP_SYS_PTRACE in"
		if capable != Yes {
			s.Remedy = giveCap + off
		}
	default:
		s.Passed = No
		s.Text = fmt.Sprintf("ptrace_scope is %d, which lets nobody in", c.facts.Yama)
		s.Remedy = "it stays so until the next boot; boot with kernel.yama.ptrace_scope below 3"
	}
	return s, true
}

func (c *check) module() (Step, bool) {
	s := Step{Rule: RuleModule, Passed: Yes}
	for _, side := range [...]*Subject{c.caller, c.target} {
		switch {
		case !side.LabelSeen:
			s.Passed, s.Text = Unknown, "whether a security module refuses is not known"
		case side.Label != "" && side.Label != "unconfined":
			s.Passed = Unknown
			s.Text = fmt.Sprintf("a security module labels %d %q, and its policy is not known here", side.PID, side.Label)
			s.Remedy = "look for a denial in the audit log (dmesg, ausearch -m avc), and run unconfined"
		}
	}
	if s.Passed == Yes {
		s.Text = "no security module confines the two (Landlock and BPF policies cannot be seen)"
	}
	return s, true
}
