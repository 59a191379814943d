// SPDX-License-Identifier: Apache-2.0

package inside

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/remora-go/remora/internal/vmlab"
)

const scopeSetting = "/proc/sys/kernel/yama/ptrace_scope"

// yama has the engine and doctor held against the kernel under a value of
// kernel.yama.ptrace_scope.
func yama(g guest, m vmlab.Machine, scope int) {
	calls := "250"
	if all() {
		calls = "2500" // 10,000 in all
	}
	if strings.HasPrefix(m.Kernel, "amd64") {
		g.test([]string{"REMORA_CALLS=" + calls, "REMORA_YAMA=" + strconv.Itoa(scope)}, "processvm", "^TestDifferential$", lacks(m)...)
	}
	g.set(scopeSetting, strconv.Itoa(scope)) // which has done it already, where it ran
	checkDoctor(g, scope)
	if !all() {
		return // thousands of questions take their time here
	}
	g.test(nil, "access", "^TestKernelAgreesWithDecide$") // without user namespaces: there are no programs to make them
}

// doctor is what it says of a process, with --json.
type doctor struct {
	Doors []struct {
		Door          string
		Reads, Writes bool
		Text, Remedy  string
		Expected      string
	}
	Rules []doctorRule
}

type doctorRule struct {
	Rule   string
	Doors  []string
	Passed string
	Text   string
}

// checkDoctor holds doctor against the kernel, for all who look and all who are looked at.
func checkDoctor(g guest, scope int) {
	g.t.Helper()
	r := g.run(nil, "/bin/inside.test", "doctors")
	if r.Exit != 0 {
		g.t.Fatalf("%+v", r)
	}
	var allowed, refused int
	for in := json.NewDecoder(strings.NewReader(r.Stdout)); in.More(); {
		var m meeting
		if err := in.Decode(&m); err != nil {
			g.t.Fatal(err)
		}
		g.t.Run(m.Reader+" meets "+m.Target, func(t *testing.T) { m.check(t, scope) })
		if m.Kernel.VM == 0 {
			allowed++
		} else {
			refused++
		}
	}
	g.t.Logf("ptrace_scope %d: %d may, %d may not", scope, allowed, refused)
	if allowed+refused != 18 || scope < 3 && allowed < 4 || refused < 6 {
		g.t.Errorf("%d may, and %d may not", allowed, refused)
	}
}

func (m *meeting) check(t *testing.T, scope int) {
	var d doctor
	if err := json.Unmarshal(m.Doctor, &d); err != nil {
		t.Fatalf("%v: %s", err, m.Doctor)
	}
	if len(d.Doors) != 3 {
		t.Fatalf("%d doors: %s", len(d.Doors), m.Doctor)
	}
	opens := false
	for _, door := range d.Doors {
		reads, writes := m.Kernel.VM, m.Kernel.VM // ptrace is asked what process_vm_readv is
		if door.Door == "proc-mem" {
			reads, writes = m.Kernel.Mem, m.Kernel.MemWrite
		}
		opens = opens || reads == 0
		if door.Reads != (reads == 0) || door.Writes != (writes == 0) {
			t.Errorf("%s: reads %v, writes %v; the kernel says %v and %v: %s", door.Door, door.Reads, door.Writes, reads, writes, door.Text)
		}
		if door.Door != "ptrace" && !m.expects(door.Expected, reads, scope) {
			t.Errorf("%s: expected to be %q, the kernel says %v: %s", door.Door, door.Expected, reads, m.Doctor)
		}
		if strings.Contains(door.Text, "not among them") {
			t.Errorf("%s: %s", door.Door, door.Text)
		}
	}
	if want := map[bool]int{true: 0, false: 4}[opens]; m.Exit != want {
		t.Errorf("exit code %d, want %d", m.Exit, want)
	}
	m.checkYama(t, &d, scope)
}

// checkYama: the rule must say what it does, and to whom.
func (m *meeting) checkYama(t *testing.T, d *doctor, scope int) {
	i := slices.IndexFunc(d.Rules, func(r doctorRule) bool {
		return r.Rule == "Yama" && slices.Contains(r.Doors, "process_vm_readv")
	})
	if scope == 0 {
		if i >= 0 {
			t.Errorf("Yama is said to ask for something: %s", m.Doctor)
		}
		return
	}
	if i < 0 {
		t.Fatalf("nothing is said of Yama: %s", m.Doctor)
	}
	rule := d.Rules[i]
	capable := m.Reader == "root" || m.Reader == "user with CAP_SYS_PTRACE"
	want := "no"
	switch {
	case scope == 3:
	case capable, scope == 1 && m.Reader == "its parent":
		want = "yes"
	case scope == 1: // whom the target has named cannot be seen
		want = "unknown"
	}
	if rule.Passed != want || !strings.Contains(rule.Text, "ptrace_scope is "+strconv.Itoa(scope)) {
		t.Errorf("Yama passes: %q, want %q: %s", rule.Passed, want, rule.Text)
	}
}

// expects says whether what the rules say is what the kernel does. What cannot be seen is
// left open: the dumpable flag of a process of root's, and whom a target has named.
func (m *meeting) expects(verdict string, errno syscall.Errno, scope int) bool {
	capable := m.Reader == "root" || m.Reader == "user with CAP_SYS_PTRACE"
	switch verdict {
	case "allowed":
		return errno == 0
	case "refused":
		return errno == syscall.EPERM || errno == syscall.EACCES
	case "undecided":
		return !capable && scope == 1 && m.Reader != "its parent"
	}
	return false
}

// lockdown raises it. It governs the kernel's memory, and not that of processes: what
// doctor says of those stays true, and so do forced writes.
func lockdown(g guest, level string) {
	const setting = "/sys/kernel/security/lockdown"
	if level == "none" {
		if got := g.get(setting); !strings.HasPrefix(got, "[none]") {
			g.t.Fatalf("lockdown: %s", got)
		}
	} else {
		g.set(setting, level)
	}
	scope, err := strconv.Atoi(g.get(scopeSetting)) // whatever it has come to by now
	if err != nil {
		g.t.Fatal(err)
	}
	checkDoctor(g, scope)
	checkForce(g, forceAlways)
}
