// SPDX-License-Identifier: Apache-2.0

// Package access knows who may read whose memory on Linux, and can say why not.
//
// Decide is a pure function of facts: the credentials of the two sides, and what
// is known of the system. It follows mm_access and __ptrace_may_access of the kernel
// (kernel/fork.c, kernel/ptrace.c; ptrace(2), "Ptrace access mode checking"),
// rule by rule. Gather takes the facts from a tree like /proc.
//
// A fact may be unknown. The answer is then Unknown, unless another rule decides:
// Decide never guesses. What no process can see, and is left out, is said where it
// matters: a CLONE_VM sibling, Landlock domains, BPF policies.
package access

import "fmt"

// Answer is yes, no, or not known.
type Answer uint8

// The answers.
const (
	Unknown Answer = iota
	Yes
	No
)

func (a Answer) String() string {
	return [...]string{"unknown", "yes", "no"}[a]
}

func answer(b bool) Answer {
	if b {
		return Yes
	}
	return No
}

// both is Yes when both are, and No when either is.
func both(a, b Answer) Answer {
	switch {
	case a == No || b == No:
		return No
	case a == Yes && b == Yes:
		return Yes
	}
	return Unknown
}

// either is Yes when either is, and No when both are.
func either(a, b Answer) Answer {
	switch {
	case a == Yes || b == Yes:
		return Yes
	case a == No && b == No:
		return No
	}
	return Unknown
}

// Door is a way to the memory of a process. Reading and writing need the same
// permission (R57), but for the mode of a file.
type Door uint8

// The doors.
const (
	ProcessVM    Door = iota // process_vm_readv and process_vm_writev: by real ids and permitted capabilities
	ProcMemRead              // opening /proc/PID/mem to read: by file system ids and effective capabilities
	ProcMemWrite             // opening /proc/PID/mem to write
)

func (d Door) String() string {
	return [...]string{"process_vm_readv", "/proc/PID/mem", "/proc/PID/mem for writing"}[d]
}

// Rule names one of the conditions, in the order in which they are tested.
type Rule uint8

// The rules.
const (
	RuleFilter       Rule = iota // no seccomp filter refuses the call itself
	RuleFile                     // owner and mode of /proc/PID/mem (R58)
	RuleMemory                   // the target has an address space at all (R17)
	RuleOwn                      // same thread group or same memory: nothing else is asked (R51)
	RuleIDs                      // user and group ids, or CAP_SYS_PTRACE (R52)
	RuleDumpable                 // the dumpable flag, or CAP_SYS_PTRACE where the memory belongs (R53, R54)
	RuleCapabilities             // the target's capabilities are among the caller's (R55)
	RuleYama                     // kernel.yama.ptrace_scope (R55)
	RuleModule                   // SELinux, AppArmor, Smack (R55)
)

func (r Rule) String() string {
	return [...]string{"seccomp", "file mode", "address space", "own process", "user and group ids",
		"dumpable", "capabilities", "Yama", "security module"}[r]
}

// Step is one rule that was looked at.
type Step struct {
	Rule   Rule
	Passed Answer
	Text   string // why, in plain words
	Remedy string // what would help; empty where the rule passed or nothing helps
}

// Verdict is what comes out.
type Verdict uint8

// The verdicts.
const (
	Undecided Verdict = iota // a rule that is not known decides
	Allowed
	Refused // EPERM from process_vm_*, EACCES from opening a file
	Absent  // ESRCH: no address space; comes before Refused for process_vm_* (R17)
)

func (v Verdict) String() string {
	return [...]string{"undecided", "allowed", "refused", "no address space"}[v]
}

// Decision is the verdict with the steps that led to it. Rules after one that
// settles everything (own, or no memory) are not listed; those after one that refuses are.
type Decision struct {
	Door    Door
	Verdict Verdict
	Steps   []Step
}

// First gives the step that decides: the first rule that refused, else the first
// that is not known. There is none when all passed.
func (d Decision) First() (Step, bool) {
	for _, want := range [...]Answer{No, Unknown} {
		for _, s := range d.Steps {
			if s.Passed == want {
				return s, true
			}
		}
	}
	return Step{}, false
}

// String is one line for a log or a failing test.
func (d Decision) String() string {
	if s, ok := d.First(); ok {
		return fmt.Sprintf("%v: %v: %v: %s", d.Door, d.Verdict, s.Rule, s.Text)
	}
	return fmt.Sprintf("%v: %v", d.Door, d.Verdict)
}

// Decide says whether caller may use the door on target. All ids and process
// numbers must be as one and the same observer sees them.
func Decide(door Door, caller, target Subject, facts Facts) Decision {
	c := check{door: door, caller: &caller, target: &target, facts: &facts}
	d := Decision{Door: door}
	for _, rule := range [...]func() (Step, bool){
		c.filter, c.file, c.memory, c.own, c.ids, c.dumpable, c.capabilities, c.yama, c.module,
	} {
		s, asked := rule()
		if !asked {
			continue
		}
		d.Steps = append(d.Steps, s)
		if s.Rule == RuleOwn || s.Rule == RuleMemory && s.Passed == No {
			break
		}
	}
	d.Verdict = verdict(d.Steps)
	return d
}

func verdict(steps []Step) Verdict {
	v := Allowed
	for _, s := range steps {
		switch {
		case s.Passed == No && s.Rule == RuleMemory && v == Allowed:
			return Absent
		case s.Passed == No && s.Rule == RuleMemory: // a refusal before it may hide it
			return Undecided
		case s.Passed == No:
			return Refused
		case s.Passed == Unknown:
			v = Undecided
		}
	}
	return v
}
