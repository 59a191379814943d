// SPDX-License-Identifier: Apache-2.0

package access

import (
	"strings"
	"testing"
)

var (
	initNS  = &Namespace{ID: InitUserNS}
	childNS = &Namespace{ID: 5, Parent: initNS, Owner: 1000, OwnerKnown: true}
	sibling = &Namespace{ID: 6, Parent: initNS, Owner: 1000, OwnerKnown: true}
	below   = &Namespace{ID: 7, Parent: childNS, Owner: 1000, OwnerKnown: true}
)

func four(id uint32) IDs { return IDs{id, id, id, id} }

// subject is an ordinary dumpable process of that user in the initial namespace.
func subject(pid int, uid uint32, change ...func(*Subject)) Subject {
	s := Subject{
		Status: Status{Name: "prog", State: 'S', PID: pid, Tgid: pid, PPID: 1, UID: four(uid), GID: four(uid), HasMemory: true},
		UserNS: initNS, MemoryNS: initNS, Ancestors: []int{1}, LabelSeen: true,
		Dumpable: Yes, FileUID: uid, FileGID: uid,
	}
	for _, f := range change {
		f(&s)
	}
	return s
}

func uids(r, e, s uint32) func(*Subject) { return func(x *Subject) { x.UID = IDs{r, e, s, e} } }
func gids(r, e, s uint32) func(*Subject) { return func(x *Subject) { x.GID = IDs{r, e, s, e} } }
func capable(c Caps) func(*Subject)      { return func(x *Subject) { x.Permitted, x.Effective = c, c } }
func permitted(c Caps) func(*Subject)    { return func(x *Subject) { x.Permitted, x.Effective = c, 0 } }
func in(n *Namespace) func(*Subject)     { return func(x *Subject) { x.UserNS, x.MemoryNS = n, n } }
func memoryIn(n *Namespace) func(*Subject) {
	return func(x *Subject) { x.MemoryNS = n }
}
func label(l string) func(*Subject) { return func(x *Subject) { x.Label = l } }
func owned(uid uint32) func(*Subject) {
	return func(x *Subject) { x.FileUID, x.FileGID = uid, uid }
}

func notDumpable(x *Subject)  { x.Dumpable, x.FileUID, x.FileGID = No, 0, 0 }
func mayBeDumped(x *Subject)  { x.Dumpable = Unknown }
func noMemory(x *Subject)     { x.HasMemory, x.State, x.FileUID, x.FileGID = false, 'Z', 0, 0 }
func kernelThread(x *Subject) { x.HasMemory, x.Kthread = false, true }
func unlabelled(x *Subject)   { x.LabelSeen = false }

const (
	full    Caps = 1<<41 - 1
	netRaw  Caps = 1 << 13
	netBind Caps = 1 << 10
)

type ruleTest struct {
	name           string
	caller, target Subject
	facts          Facts
	vm, mem        Verdict
	rule           Rule   // the one that decides for process_vm_*, unless all pass
	text, remedy   string // parts of what is said then
}

func runRules(t *testing.T, tests []ruleTest) {
	t.Helper()
	for _, c := range tests {
		t.Run(c.name, func(t *testing.T) {
			if c.facts.Observer == nil {
				c.facts.Observer = initNS
			}
			d := Decide(ProcessVM, c.caller, c.target, c.facts)
			if d.Verdict != c.vm {
				t.Errorf("want %v, got %v", c.vm, d)
			}
			s, found := d.First()
			if found != (c.vm != Allowed) {
				t.Errorf("deciding step: %v %+v", found, s)
			}
			if found && (s.Rule != c.rule || !strings.Contains(s.Text, c.text) || !strings.Contains(s.Remedy, c.remedy)) {
				t.Errorf("want rule %v, text %q, remedy %q; got %v: %q; %q", c.rule, c.text, c.remedy, s.Rule, s.Text, s.Remedy)
			}
			for _, s := range d.Steps {
				if s.Text == "" {
					t.Errorf("rule %v says nothing", s.Rule)
				}
			}
			if d := Decide(ProcMemRead, c.caller, c.target, c.facts); d.Verdict != c.mem {
				t.Errorf("want %v, got %v", c.mem, d)
			}
		})
	}
}

// TestOwnProcess tries R51.
func TestOwnProcess(t *testing.T) {
	thread := subject(8, 1000, notDumpable, capable(full))
	thread.Tgid = 7
	runRules(t, []ruleTest{
		{name: "a thread of the same process needs nothing else, but the file does",
			caller: subject(7, 1000), target: thread, vm: Allowed, mem: Refused},
		{name: "a process may read itself whatever its dumpable flag",
			caller: subject(7, 0, notDumpable), target: subject(7, 0, notDumpable), vm: Allowed, mem: Allowed},
		{name: "a CLONE_VM child that changed its uid may read its parent",
			caller: subject(8, 1000), target: subject(7, 0, notDumpable), facts: Facts{SharesMemory: Yes}, vm: Allowed, mem: Refused},
		{name: "no such child, and other memory",
			caller: subject(8, 1000), target: subject(7, 0), facts: Facts{SharesMemory: No}, vm: Refused, mem: Refused, rule: RuleIDs},
	})
}

// TestIDs tries R52.
func TestIDs(t *testing.T) {
	target := subject(8, 1000)
	runRules(t, []ruleTest{
		{name: "same ids", caller: subject(7, 1000), target: target, vm: Allowed, mem: Allowed},
		{name: "another user", caller: subject(7, 1001), target: target, vm: Refused, mem: Refused, rule: RuleIDs,
			text: "real uid 1001 and gid 1001 do not equal all of the target's uid 1000/1000/1000", remedy: "setcap cap_sys_ptrace+ep"},
		{name: "another user with CAP_SYS_PTRACE; the file asks for its owner all the same",
			caller: subject(7, 1001, capable(CapSysPtrace)), target: target, vm: Allowed, mem: Refused},
		{name: "CAP_SYS_PTRACE permitted but not effective does not count",
			caller: subject(7, 1001, permitted(CapSysPtrace)), target: target, vm: Refused, mem: Refused, rule: RuleIDs},
		{name: "another gid", caller: subject(7, 1000, gids(1001, 1001, 1001)), target: target, vm: Refused, mem: Refused, rule: RuleIDs},
		{name: "real uid matches, effective does not",
			caller: subject(7, 1000, uids(1000, 1001, 1000)), target: target, vm: Allowed, mem: Refused},
		{name: "effective uid matches, real does not",
			caller: subject(7, 1000, uids(1001, 1000, 1000)), target: target, vm: Refused, mem: Allowed, rule: RuleIDs},
		{name: "real gid matches, effective does not",
			caller: subject(7, 1000, gids(1000, 1001, 1000)), target: target, vm: Allowed, mem: Refused},
		{name: "target's real uid differs", caller: subject(7, 1000), target: subject(8, 1000, uids(1001, 1000, 1000)), vm: Refused, mem: Refused, rule: RuleIDs},
		{name: "target's effective uid differs", caller: subject(7, 1000), target: subject(8, 1000, uids(1000, 0, 1000), owned(0)), vm: Refused, mem: Refused, rule: RuleIDs},
		{name: "target's saved uid differs", caller: subject(7, 1000), target: subject(8, 1000, uids(1000, 1000, 0)), vm: Refused, mem: Refused, rule: RuleIDs},
		{name: "target's real gid differs", caller: subject(7, 1000), target: subject(8, 1000, gids(1001, 1000, 1000)), vm: Refused, mem: Refused, rule: RuleIDs},
		{name: "target's effective gid differs", caller: subject(7, 1000), target: subject(8, 1000, gids(1000, 1001, 1000)), vm: Refused, mem: Refused, rule: RuleIDs},
		{name: "target's saved gid differs", caller: subject(7, 1000), target: subject(8, 1000, gids(1000, 1000, 1001)), vm: Refused, mem: Refused, rule: RuleIDs},
		{name: "ids without a mapping may not be the same",
			caller: subject(7, 65534, in(childNS)), target: subject(8, 65534, in(childNS)), facts: Facts{Observer: childNS},
			vm: Undecided, mem: Undecided, rule: RuleIDs, text: "without a mapping"},
		{name: "an id without a mapping is none that has one",
			caller: subject(7, 5, in(childNS)), target: subject(8, 65534, in(childNS)), facts: Facts{Observer: childNS},
			vm: Refused, mem: Refused, rule: RuleIDs},
		{name: "nobody is a user like others in the initial namespace",
			caller: subject(7, 65534), target: subject(8, 65534), vm: Allowed, mem: Allowed},
		{name: "another overflow id",
			caller: subject(7, 99, in(childNS)), target: subject(8, 99, in(childNS)), facts: Facts{Observer: childNS, Overflow: 99},
			vm: Undecided, mem: Undecided, rule: RuleIDs},
	})
}

// TestDumpable tries R53, R54.
func TestDumpable(t *testing.T) {
	runRules(t, []ruleTest{
		{name: "same ids, not dumpable", caller: subject(7, 1000), target: subject(8, 1000, notDumpable), vm: Refused, mem: Refused,
			rule: RuleDumpable, text: "PR_SET_DUMPABLE 0, changed its ids", remedy: "prctl(PR_SET_DUMPABLE, 1)"},
		{name: "CAP_SYS_PTRACE passes; the file of a process that is not dumpable is root's",
			caller: subject(7, 1000, capable(CapSysPtrace)), target: subject(8, 1000, notDumpable), vm: Allowed, mem: Refused},
		{name: "CAP_DAC_READ_SEARCH opens the file", vm: Allowed, mem: Allowed,
			caller: subject(7, 1000, capable(CapSysPtrace|CapDACReadSearch)), target: subject(8, 1000, notDumpable)},
		{name: "root passes", caller: subject(7, 0, capable(full)), target: subject(8, 1000, notDumpable), vm: Allowed, mem: Allowed},
		{name: "not known, and it decides", caller: subject(7, 0), target: subject(8, 0, mayBeDumped), vm: Undecided, mem: Undecided,
			rule: RuleDumpable, text: "cannot be seen from outside"},
		{name: "not known, and it does not matter", caller: subject(7, 0, capable(full)), target: subject(8, 0, mayBeDumped), vm: Allowed, mem: Allowed},
		{name: "not known, and another rule refuses", caller: subject(7, 0), target: subject(8, 0, mayBeDumped, capable(netRaw)), vm: Refused, mem: Refused,
			rule: RuleCapabilities},
	})
}

// TestCapabilities tries R55.
func TestCapabilities(t *testing.T) {
	runRules(t, []ruleTest{
		{name: "the target has one that the caller lacks", caller: subject(7, 1000), target: subject(8, 1000, capable(netRaw)), vm: Refused, mem: Refused,
			rule: RuleCapabilities, text: "not permitted: cap_net_raw", remedy: "setcap"},
		{name: "the caller has it too", caller: subject(7, 1000, capable(netRaw|netBind)), target: subject(8, 1000, capable(netRaw)), vm: Allowed, mem: Allowed},
		{name: "permitted counts for process_vm_readv, effective for the file",
			caller: subject(7, 1000, permitted(netRaw)), target: subject(8, 1000, permitted(netRaw)), vm: Allowed, mem: Refused},
		{name: "root without capabilities", caller: subject(7, 0), target: subject(8, 0, capable(full)), vm: Refused, mem: Refused, rule: RuleCapabilities},
		{name: "root with all permitted and none effective", caller: subject(7, 0, permitted(full)), target: subject(8, 0, capable(full)), vm: Allowed, mem: Refused},
		{name: "CAP_SYS_PTRACE alone is enough", caller: subject(7, 1000, capable(CapSysPtrace)), target: subject(8, 1000, capable(full)), vm: Allowed, mem: Allowed},
	})
}

// TestYama tries R55; not in the running kernel, so by the source alone.
func TestYama(t *testing.T) {
	child := subject(8, 1000)
	child.Ancestors = []int{9, 7, 1}
	traced := subject(8, 1000)
	traced.TracerPID = 7
	capless := subject(7, 1000)
	strong := subject(7, 1000, capable(CapSysPtrace))
	runRules(t, []ruleTest{
		{name: "scope 0", caller: capless, target: subject(8, 1000), vm: Allowed, mem: Allowed},
		{name: "scope 1, a stranger may have been named by PR_SET_PTRACER", caller: capless, target: subject(8, 1000), facts: Facts{Yama: 1},
			vm: Undecided, mem: Undecided, rule: RuleYama, text: "PR_SET_PTRACER", remedy: "sysctl kernel.yama.ptrace_scope=0"},
		{name: "scope 1, a grandchild", caller: capless, target: child, facts: Facts{Yama: 1}, vm: Allowed, mem: Allowed},
		{name: "scope 1, the tracer", caller: capless, target: traced, facts: Facts{Yama: 1}, vm: Allowed, mem: Allowed},
		{name: "scope 1, CAP_SYS_PTRACE", caller: strong, target: subject(8, 1000), facts: Facts{Yama: 1}, vm: Allowed, mem: Allowed},
		{name: "scope 1, refused by an earlier rule", caller: subject(7, 1001), target: subject(8, 1000), facts: Facts{Yama: 1},
			vm: Refused, mem: Refused, rule: RuleIDs},
		{name: "scope 2, a child", caller: capless, target: child, facts: Facts{Yama: 2}, vm: Refused, mem: Refused, rule: RuleYama, text: "ptrace_scope is 2"},
		{name: "scope 2, CAP_SYS_PTRACE", caller: strong, target: child, facts: Facts{Yama: 2}, vm: Allowed, mem: Allowed},
		{name: "scope 3, CAP_SYS_PTRACE", caller: strong, target: child, facts: Facts{Yama: 3}, vm: Refused, mem: Refused, rule: RuleYama, remedy: "boot"},
		{name: "scope 3, itself", caller: strong, target: strong, facts: Facts{Yama: 3}, vm: Allowed, mem: Allowed},
		{name: "scope not known", caller: strong, target: child, facts: Facts{YamaUnseen: true}, vm: Undecided, mem: Undecided, rule: RuleYama},
	})
}

// TestUserNamespaces tries R56.
func TestUserNamespaces(t *testing.T) {
	nsRoot := subject(7, 1000, capable(full), in(childNS), idMaps(1000, 1))
	orphan := &Namespace{ID: 9}
	runRules(t, []ruleTest{
		{name: "root of a namespace, same user outside", caller: nsRoot, target: subject(8, 1000), vm: Refused, mem: Refused,
			rule: RuleCapabilities, text: "another user namespace", remedy: "outside of this user namespace"},
		{name: "its creator without capabilities, a process inside", caller: subject(7, 1000), target: subject(8, 1000, in(childNS), capable(full)), vm: Allowed, mem: Allowed},
		{name: "its creator, a process two levels below", caller: subject(7, 1000), target: subject(8, 1000, in(below), capable(full)), vm: Allowed, mem: Allowed},
		{name: "another user without capabilities, a process inside", caller: subject(7, 1001), target: subject(8, 1000, in(childNS)), vm: Refused, mem: Refused, rule: RuleIDs},
		{name: "ids match, but the namespace is another's", caller: subject(7, 1001), target: subject(8, 1001, in(childNS)), vm: Refused, mem: Refused,
			rule: RuleCapabilities, text: "another user namespace"},
		{name: "root of a namespace, not dumpable inside, memory from outside", caller: nsRoot, target: subject(8, 1000, notDumpable, in(childNS), memoryIn(initNS)),
			vm: Refused, mem: Refused, rule: RuleDumpable, text: "counts only in its own user namespace"},
		{name: "the same where the memory's namespace is not known", caller: nsRoot, target: subject(8, 1000, notDumpable, in(childNS), memoryIn(nil)),
			vm: Undecided, mem: Refused, rule: RuleDumpable},
		{name: "root of a namespace, not dumpable inside, memory from inside", caller: nsRoot,
			target: subject(8, 1000, notDumpable, in(childNS), owned(1000)), vm: Allowed, mem: Allowed},
		{name: "root of a sibling", caller: nsRoot, target: subject(8, 1000, in(sibling)), vm: Refused, mem: Refused, rule: RuleCapabilities, remedy: "nsenter -U -t 8"},
		{name: "root of the initial namespace", caller: subject(7, 0, capable(full)), target: subject(8, 1000, notDumpable, in(below)), vm: Allowed, mem: Allowed},
		{name: "root of the initial namespace, a namespace that is not known", caller: subject(7, 0, capable(full)), target: subject(8, 1000, notDumpable, in(nil)),
			vm: Allowed, mem: Allowed},
		{name: "the target's namespace is not known", caller: subject(7, 1000), target: subject(8, 1000, in(nil)), vm: Undecided, mem: Undecided, rule: RuleCapabilities},
		{name: "the namespace's parent is not known", caller: subject(7, 1001), target: subject(8, 1000, in(orphan)), vm: Undecided, mem: Refused, rule: RuleIDs},
		{name: "the caller's namespace is not known", caller: subject(7, 1001, in(nil)), target: subject(8, 1000), vm: Undecided, mem: Refused, rule: RuleIDs},
	})
}

// TestNoAddressSpace tries R17.
func TestNoAddressSpace(t *testing.T) {
	runRules(t, []ruleTest{
		{name: "a zombie is absent even without permission, the file is refused", caller: subject(7, 1000), target: subject(8, 1001, noMemory), vm: Absent, mem: Refused,
			rule: RuleMemory, text: "has exited", remedy: "/proc/PID/task"},
		{name: "a zombie, for root", caller: subject(7, 0, capable(full)), target: subject(8, 1001, noMemory), vm: Absent, mem: Absent, rule: RuleMemory},
		{name: "a kernel thread", caller: subject(7, 0, capable(full)), target: subject(2, 0, kernelThread), vm: Absent, mem: Absent, rule: RuleMemory, text: "kernel thread"},
		{name: "absent or refused, who knows", caller: subject(7, 65534, in(childNS)), target: subject(8, 65534, noMemory, owned(65534)), facts: Facts{Observer: childNS},
			vm: Absent, mem: Undecided, rule: RuleMemory},
	})
}

func TestSecurityModule(t *testing.T) {
	runRules(t, []ruleTest{
		{name: "unconfined", caller: subject(7, 1000, label("unconfined")), target: subject(8, 1000), vm: Allowed, mem: Allowed},
		{name: "a confined target", caller: subject(7, 1000), target: subject(8, 1000, label("docker-default (enforce)")), vm: Undecided, mem: Undecided,
			rule: RuleModule, text: `labels 8 "docker-default (enforce)"`, remedy: "audit log"},
		{name: "a confined caller", caller: subject(7, 1000, label("user_u:user_r:user_t:s0")), target: subject(8, 1000), vm: Undecided, mem: Undecided, rule: RuleModule},
		{name: "a label that cannot be read", caller: subject(7, 1000, unlabelled), target: subject(8, 1000), vm: Undecided, mem: Undecided, rule: RuleModule},
		{name: "but ids refuse", caller: subject(7, 1001, unlabelled), target: subject(8, 1000), vm: Refused, mem: Refused, rule: RuleIDs},
	})
}

func TestSeccompFilter(t *testing.T) {
	filtered := subject(7, 1000)
	filtered.Seccomp = 2
	runRules(t, []ruleTest{
		{name: "it lets the call pass", caller: filtered, target: subject(8, 1000), facts: Facts{SelfCall: Yes}, vm: Allowed, mem: Allowed},
		{name: "it refuses the call, not the file", caller: filtered, target: subject(8, 1000), facts: Facts{SelfCall: No}, vm: Refused, mem: Allowed,
			rule: RuleFilter, remedy: "/proc/PID/mem"},
		{name: "not tried", caller: filtered, target: subject(8, 1000), vm: Undecided, mem: Allowed, rule: RuleFilter},
		{name: "no filter that can be seen, and still refused", caller: subject(7, 1000), target: subject(7, 1000), facts: Facts{SelfCall: No}, vm: Refused, mem: Allowed,
			rule: RuleFilter},
	})
}

// TestFile tries R58.
func TestFile(t *testing.T) {
	none := subject(7, 1001)
	outer := subject(8, 1001, owned(1001))
	for _, c := range []struct {
		name           string
		caller, target Subject
		observer       *Namespace
		read, write    Answer
	}{
		{"the owner", none, outer, initNS, Yes, Yes},
		{"CAP_DAC_READ_SEARCH is for reading", subject(7, 1000, capable(CapDACReadSearch)), outer, initNS, Yes, No},
		{"CAP_DAC_OVERRIDE is for both", subject(7, 1000, capable(CapDACOverride)), outer, initNS, Yes, Yes},
		{"permitted only", subject(7, 1000, permitted(CapDACOverride)), outer, initNS, No, No},
		{"in a namespace, ids with a mapping", subject(7, 0, capable(full), in(childNS)), outer, childNS, Yes, Yes},
		{"in a namespace, ids without one", subject(7, 0, capable(full), in(childNS)), subject(8, 65534), childNS, Unknown, Unknown},
		{"from outside, ids with a mapping", subject(7, 5, capable(full), in(childNS), idMaps(1000, 10)), subject(8, 1009), initNS, Yes, Yes},
		{"from outside, ids without one", subject(7, 5, capable(full), in(childNS), idMaps(1000, 10)), subject(8, 1010), initNS, No, No},
		{"owner not seen", none, subject(8, 1001, func(s *Subject) { s.FileUnseen = true }), initNS, Unknown, Unknown},
	} {
		t.Run(c.name, func(t *testing.T) {
			for door, want := range map[Door]Answer{ProcMemRead: c.read, ProcMemWrite: c.write} {
				s := Decide(door, c.caller, c.target, Facts{Observer: c.observer}).Steps[0]
				if s.Rule != RuleFile || s.Passed != want || s.Text == "" {
					t.Errorf("%v: want %v, got %+v", door, want, s)
				}
			}
		})
	}
}

func idMaps(outside, n uint32) func(*Subject) {
	return func(s *Subject) {
		s.UIDMap = []IDRange{{0, outside, n}}
		s.GIDMap = s.UIDMap
	}
}

func TestNames(t *testing.T) {
	for want, got := range map[string]string{
		"cap_net_raw,cap_sys_ptrace": (netRaw | CapSysPtrace).String(),
		"cap_checkpoint_restore,63":  (1<<40 | 1<<63 | Caps(0)).String(),
		"":                           Caps(0).String(),
		"undecided":                  Undecided.String(),
		"no":                         No.String(),
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	d := Decide(ProcessVM, subject(7, 1001), subject(8, 1000), Facts{Observer: initNS})
	if got := d.String(); !strings.HasPrefix(got, "process_vm_readv: refused: user and group ids: the caller's real uid 1001") {
		t.Error(got)
	}
}
