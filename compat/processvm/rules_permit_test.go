// SPDX-License-Identifier: Apache-2.0

package processvm

import (
	"testing"

	"github.com/remora-go/remora/compat/errno"
)

const sysPtrace Caps = 1 << 19

// user gives a Subject of the initial user namespace, dumpable, with no security module.
func user(pid int, uid, gid uint32, change func(*Subject)) *Subject {
	ids := func(n uint32) IDs { return IDs{Real: n, Effective: n, Saved: n, FS: n} }
	ns := &Namespace{ID: 4026531837}
	s := &Subject{
		Status: Status{PID: pid, Tgid: pid, State: 'S', UID: ids(uid), GID: ids(gid), HasMemory: true},
		UserNS: ns, MemoryNS: ns, Dumpable: Yes, LabelSeen: true,
	}
	if change != nil {
		change(s)
	}
	return s
}

func TestR51ToR56WhoMay(t *testing.T) {
	inside := &Namespace{ID: 77, Parent: &Namespace{ID: 4026531837}, Owner: 1000, OwnerKnown: true}
	for _, c := range []struct {
		name           string
		caller, target *Subject
		facts          Facts
		may            bool
	}{
		{"R52 same ids", user(10, 1000, 1000, nil), user(20, 1000, 1000, nil), Facts{}, true},
		{"R52 other uid", user(10, 1000, 1000, nil), user(20, 1001, 1000, nil), Facts{}, false},
		{"R52 other gid", user(10, 1000, 1000, nil), user(20, 1000, 1001, nil), Facts{}, false},
		{"R52 the effective uid of the caller is nothing", user(10, 1000, 1000, func(s *Subject) { s.UID.Effective, s.UID.FS = 0, 0 }), user(20, 1000, 1000, nil), Facts{}, true},
		{"R52 nor is it a help", user(10, 1001, 1000, func(s *Subject) { s.UID.Effective, s.UID.FS = 1000, 1000 }), user(20, 1000, 1000, nil), Facts{}, false},
		{"R52 the saved uid of the target counts", user(10, 1000, 1000, nil), user(20, 1000, 1000, func(s *Subject) { s.UID.Saved = 0 }), Facts{}, false},
		{"R52 CAP_SYS_PTRACE", user(10, 1000, 1000, func(s *Subject) { s.Effective, s.Permitted = sysPtrace, sysPtrace }), user(20, 0, 0, nil), Facts{}, true},
		{"R53 not dumpable", user(10, 1000, 1000, nil), user(20, 1000, 1000, func(s *Subject) { s.Dumpable = No }), Facts{}, false},
		{"R53 CAP_SYS_PTRACE", user(10, 0, 0, func(s *Subject) { s.Effective, s.Permitted = sysPtrace, sysPtrace }), user(20, 1000, 1000, func(s *Subject) { s.Dumpable = No }), Facts{}, true},
		{"R54 not known", user(10, 1000, 1000, nil), user(20, 1000, 1000, func(s *Subject) { s.Dumpable = Unknown }), Facts{}, false},
		{"R55 more capabilities than the caller", user(10, 1000, 1000, nil), user(20, 1000, 1000, func(s *Subject) { s.Permitted = 1 << 13 }), Facts{}, false},
		{"R55 permitted, not effective", user(10, 1000, 1000, func(s *Subject) { s.Permitted = 1 << 13 }), user(20, 1000, 1000, func(s *Subject) { s.Permitted = 1 << 13 }), Facts{}, true},
		{"R55 Yama 1, a stranger", user(10, 1000, 1000, nil), user(20, 1000, 1000, nil), Facts{Yama: 1}, false},
		{"R55 Yama 1, its parent", user(10, 1000, 1000, nil), user(20, 1000, 1000, func(s *Subject) { s.Ancestors = []int{10, 1} }), Facts{Yama: 1}, true},
		{"R55 Yama 3", user(10, 0, 0, func(s *Subject) { s.Effective, s.Permitted = sysPtrace, sysPtrace }), user(20, 1000, 1000, nil), Facts{Yama: 3}, false},
		{"R56 root of a namespace below", user(10, 1000, 1000, func(s *Subject) { s.UserNS, s.Effective, s.Permitted = inside, ^Caps(0), ^Caps(0) }), user(20, 1000, 1000, nil), Facts{}, false},
		{"R56 the creator of a namespace", user(10, 1000, 1000, nil), user(20, 1000, 1000, func(s *Subject) { s.UserNS, s.MemoryNS, s.Permitted = inside, inside, ^Caps(0) }), Facts{}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, &Options{Facts: c.facts})
			w.fill(w.remote, base, 1, rw)
			w.caller = &Process{PID: callerPID, Memory: w.local.Memory(), Subject: c.caller}
			w.set(w.caller)
			w.set(&Process{PID: targetPID, Memory: w.remote.Memory(), Subject: c.target})
			want := map[bool]result{true: moved(10), false: failed(errno.EPERM)}[c.may]
			for range 2 { // the second time it is remembered
				w.check(w.readv(targetPID, one(localBase, 10), one(base, 10)), want)
				w.check(w.writev(targetPID, one(localBase, 10), one(base, 10)), want) // R57
			}
		})
	}
}

func TestR51SharedMemoryNeedsNoPermission(t *testing.T) {
	w := newWorld(t, &Options{Permit: func(*Process, *Process) bool { return false }})
	w.set(&Process{PID: 30, Memory: w.local.Memory(), Subject: user(30, 1, 1, nil)}) // CLONE_VM
	w.check(w.readv(30, one(localBase, 10), one(localBase, 10)), moved(10))
	w.check(w.readv(callerPID, one(localBase, 10), one(localBase, 10)), moved(10))
	w.check(w.readv(targetPID, one(localBase, 10), one(localBase, 10)), failed(errno.EPERM))
}

func TestR17ComesBeforeR52(t *testing.T) {
	w := newWorld(t, nil)
	w.caller = &Process{PID: callerPID, Memory: w.local.Memory(), Subject: user(10, 1000, 1000, nil)}
	w.set(&Process{PID: targetPID, Subject: user(20, 0, 0, nil)})
	w.check(w.readv(targetPID, one(localBase, 10), one(base, 10)), failed(errno.ESRCH))
}

func TestSetRefuses(t *testing.T) {
	w := newWorld(t, nil)
	tooLarge := uint32(1) << 31 // an int of 32 bits makes a negative number of it
	for _, p := range []*Process{{PID: 0}, {PID: -1}, {PID: int(tooLarge)}, {PID: 40, Threads: []int{40}}, {PID: 40, Threads: []int{41, 41}}, {PID: 40, Threads: []int{21}}, {PID: 21}} {
		if err := w.sys.Set(p); err == nil {
			t.Errorf("%d %v was taken", p.PID, p.Threads)
		}
	}
	w.check(w.readv(40, one(localBase, 10), one(base, 10)), failed(errno.ESRCH))
	defer func() {
		if recover() == nil {
			t.Error("a page size of 100 was taken")
		}
	}()
	NewSystem(&Options{PageSize: 100})
}
