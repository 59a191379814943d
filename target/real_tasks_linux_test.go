// SPDX-License-Identifier: Apache-2.0

//go:build linux

package target_test

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/vmlab"
	"github.com/remora-go/remora/kernel"
)

// TestRealTasks holds the tasks of a kernel against what the guest said of them in /proc.
func TestRealTasks(t *testing.T) {
	for _, machine := range vmlab.Machines() {
		t.Run(machine.String(), func(t *testing.T) {
			m := openMoment(t, machine)
			k, _ := m.kernel(t, vmlab.ELF)
			processes := m.testProcesses(t, k)
			m.testProcessors(t, k, processes)
			m.testUsage(t, k, processes)
			if strings.HasPrefix(machine.Kernel, "amd64") && machine.MiB == 0 && !machine.NoVMCOREINFO { // which makedumpfile needs
				m.testFilteredTasks(t, k)
			}
		})
	}
}

// testFilteredTasks holds the tasks in an image without user pages against those in a whole one.
// makedumpfile 1.7.2 takes memory of the kernel for a user's from Linux 6.10 on, so that
// images of these lack tasks: each must be told of then.
func (m *moment) testFilteredTasks(t *testing.T, k *kernel.Kernel) {
	small, _ := m.kernel(t, vmlab.MakedumpfileZlib31)
	whole, troubles := listed(t, k)
	if len(troubles) > 0 {
		t.Error(troubles)
	}
	some, troubles := listed(t, small)
	for pid, task := range some {
		if whole[pid] != task {
			t.Errorf("the image without user pages has %s, and not %s", task, whole[pid])
		}
	}
	for _, err := range troubles {
		if !errors.Is(err, remora.ErrNotSaved) {
			t.Errorf("the image without user pages: %v", err)
		}
	}
	if lost := len(whole) - len(some); m.Machine.Kernel == vmlab.AMD64v6_1 && lost+len(troubles) > 0 || lost > 0 && len(troubles) == 0 {
		t.Errorf("the image without user pages lacks %d threads: %v", lost, troubles)
	} else if lost > 0 {
		t.Logf("the image without user pages lacks %d of %d threads: %v, and %d more", lost, len(whole), troubles[0], len(troubles)-1)
	}
}

// listed gives all that is known of all threads.
func listed(t *testing.T, k *kernel.Kernel) (all map[string]string, troubles []error) {
	all = map[string]string{}
	for p, err := range k.Tasks(t.Context()) {
		if err != nil {
			troubles = append(troubles, err)
			continue
		}
		for thread, err := range k.Threads(t.Context(), p) {
			if err != nil {
				troubles = append(troubles, err)
				continue
			}
			if thread.Problem != nil {
				troubles = append(troubles, thread.Problem)
				continue
			}
			all[fmt.Sprint(thread.PID, " on ", thread.CPU)] = fmt.Sprintf("%+v", *thread)
		}
	}
	return all, troubles
}

// status takes a file like /proc/PID/status apart.
func status(b []byte) map[string]string {
	all := map[string]string{}
	for line := range strings.Lines(string(b)) {
		key, value, _ := strings.Cut(strings.TrimRight(line, "\n"), ":")
		all[key] = strings.TrimSpace(value)
	}
	return all
}

// testProcesses holds all processes and their threads against /proc, but for the idle
// tasks, which are not there.
func (m *moment) testProcesses(t *testing.T, k *kernel.Kernel) (processes []*kernel.Task) {
	idle, seen := 0, map[string]bool{}
	for p, err := range k.Tasks(t.Context()) {
		if err != nil {
			t.Error(err)
			continue
		}
		processes = append(processes, p)
		if p.Idle() {
			if want := fmt.Sprintf("swapper/%d", idle); p.Comm != want || p.CPU != idle || p.State != 'R' || p.PPID != 0 || !p.KernelThread() && idle > 0 {
				t.Errorf("an idle task that should be %s: %+v", want, *p)
			}
			idle++
			continue
		}
		dir := fmt.Sprintf("proc/%d", p.PID)
		seen[dir] = true
		m.testTask(t, p, dir, status(m.Truth().File("%s/status", dir)))
		threads, later := 0, 0
		for thread, err := range k.Threads(t.Context(), p) {
			if err != nil {
				t.Error(err)
				continue
			}
			at := fmt.Sprintf("%s/task/%d", dir, thread.PID)
			seen[at] = true
			said := status(m.Truth().File("%s/status", at))
			if len(said) == 0 && p.PID == 1 {
				later++ // of the program that looked
				continue
			}
			m.testTask(t, thread, at, said)
			threads++
		}
		if later > 0 {
			t.Logf("process 1 has %d threads that were made after it looked", later)
		}
		if want, ok := status(m.Truth().File("%s/status", dir))["Threads"]; ok && strconv.Itoa(threads) != want {
			t.Errorf("process %d has %d threads, not %s, and %d made later", p.PID, threads, want, later)
		}
		if one, err := k.Task(t.Context(), p.PID); err != nil || fmt.Sprintf("%+v", *one) != fmt.Sprintf("%+v", *p) {
			t.Errorf("process %d by its number: %+v, %v; on the list it is %+v", p.PID, one, err, *p)
		}
	}
	if idle != 2 {
		t.Errorf("%d idle tasks", idle)
	}
	for name := range m.Truth().Files {
		dir := path.Dir(name)
		switch comm := m.Truth().File("%s/comm", dir); {
		case path.Base(name) != "status" || seen[dir]:
		case strings.HasPrefix(string(comm), "kworker/"):
			t.Logf("%s (%s) has ended after the guest looked", dir, comm)
		default:
			t.Errorf("%s (%s) was not found", dir, comm)
		}
	}
	return processes
}

// testTask holds a task against its status. What a task does may have changed after the
// guest looked: those of the kernel, and the witness that was stopped in user mode.
func (m *moment) testTask(t *testing.T, p *kernel.Task, dir string, want map[string]string) {
	switch {
	case len(want) > 0:
	case p.KernelThread():
		t.Logf("%s (%s) was made after the guest looked", dir, p.Comm)
		return
	default:
		t.Errorf("%s (%s) is not known to the guest", dir, p.Comm)
		return
	}
	ids := func(list ...uint32) string {
		return strings.Trim(strings.ReplaceAll(fmt.Sprint(list), " ", "\t"), "[]")
	}
	c := p.Creds
	for _, x := range []struct{ key, got string }{
		{"Pid", strconv.Itoa(p.PID)},
		{"Tgid", strconv.Itoa(p.TGID)},
		{"PPid", strconv.Itoa(p.PPID)},
		{"NSpid", ids(uint32(p.NSPIDs[0]))},
		{"Uid", ids(c.UID, c.EUID, c.SUID, c.FSUID)},
		{"Gid", ids(c.GID, c.EGID, c.SGID, c.FSGID)},
	} {
		if want[x.key] != x.got {
			t.Errorf("%s: %s is %s, not %s", dir, x.key, x.got, want[x.key])
		}
	}
	comm := strings.TrimSuffix(string(m.Truth().File("%s/comm", dir)), "\n")
	if p.Comm != comm && !(p.KernelThread() && strings.HasPrefix(comm, p.Comm)) {
		t.Errorf("%s: the name is %q, not %q", dir, p.Comm, comm)
	}
	_, user := want["VmSize"]
	if p.KernelThread() == user || (p.MM != 0) != user {
		t.Errorf("%s: kernel thread %v, memory at %v; the guest says %v", dir, p.KernelThread(), p.MM, user)
	}
	if said := kernel.State(want["State"][0]); p.State != said && !(slices.Contains([]kernel.State{'R', 'S', 'I', 'D'}, p.State) && slices.Contains([]kernel.State{'R', 'S', 'I', 'D'}, said)) {
		t.Errorf("%s: the state is %v, not %v", dir, p.State, said)
	} else if p.State != said {
		t.Logf("%s (%s): the state was %v, and is %v", dir, p.Comm, said, p.State)
	}
	if p.Problem != nil {
		t.Errorf("%s: %v", dir, p.Problem)
	}
	stat := string(m.Truth().File("%s/stat", dir))
	if _, rest, ok := strings.Cut(stat, ") "); ok {
		const start = 22 - 3 // as proc(5) counts, less those cut off
		if got := strconv.Itoa(int(p.StartBoot / (10 * time.Millisecond))); strings.Fields(rest)[start] != got {
			t.Errorf("%s: it started at %s, not %s", dir, got, strings.Fields(rest)[start])
		}
	}
	if p.SP < p.Stack || p.SP >= p.Stack+(32<<10) {
		t.Errorf("%s: the stack is at %v, and its pointer %v", dir, p.Stack, p.SP)
	}
}

// testProcessors looks at what the processors ran, which on one was the witness of role
// main in user mode.
func (m *moment) testProcessors(t *testing.T, k *kernel.Kernel, processes []*kernel.Task) {
	all, err := k.Processors(t.Context())
	if err != nil || len(all) != 2 {
		t.Errorf("processors: %+v, %v", all, err)
	}
	for i, p := range all {
		if p.ID != i || !p.Online {
			t.Errorf("processor %d is %+v", i, p)
		}
		var idle, current *kernel.Task
		for _, task := range processes {
			for thread, err := range k.Threads(t.Context(), task) {
				if err != nil {
					t.Error(err)
				} else if thread.Addr == p.Current {
					current = thread
				} else if thread.Addr == p.Idle {
					idle = thread
				}
			}
		}
		if current != nil && current.Idle() {
			idle = current
		}
		if current == nil || current.CPU != i || idle == nil || idle.CPU != i {
			t.Errorf("processor %d ran %+v, and has for idling %+v", i, current, idle)
			continue
		}
		t.Logf("processor %d ran %d (%s)", i, current.PID, current.Comm)
		if i == m.About.CPU && current.TGID != m.Truth().Witness("main").Pid {
			t.Errorf("processor %d ran %+v and not the witness", i, *current)
		}
	}
}

// testUsage holds the memory of processes against what the guest said, within what it
// does not count exactly.
func (m *moment) testUsage(t *testing.T, k *kernel.Kernel, processes []*kernel.Task) {
	all, err := k.Usage(t.Context(), processes)
	if err != nil {
		t.Fatal(err)
	}
	for i, u := range all {
		p, want := processes[i], status(m.Truth().File("proc/%d/status", processes[i].PID))
		if u.Err != nil || p.MM == 0 {
			if u != (kernel.Usage{}) {
				t.Errorf("process %d uses %+v", p.PID, u)
			}
			continue
		}
		if p.PID == 1 { // it asked, and needed memory for the answers
			continue
		}
		if virtual := fmt.Sprintf("%d kB", u.Virtual>>10); virtual != want["VmSize"] {
			t.Errorf("process %d has %s, not %s", p.PID, virtual, want["VmSize"])
		}
		var resident uint64
		fmt.Sscanf(want["VmRSS"], "%d", &resident)
		if d := int64(u.Resident>>10) - int64(resident); d < -1024 || d > 1024 {
			t.Errorf("process %d has %d KiB in memory, not %d", p.PID, u.Resident>>10, resident)
		} else if d != 0 {
			t.Logf("process %d has %d KiB in memory, and %d were said", p.PID, u.Resident>>10, resident)
		}
	}
}
