// SPDX-License-Identifier: Apache-2.0

//go:build linux

package target_test

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/remora-go/remora/internal/testneed"
	"github.com/remora-go/remora/internal/vmlab"
	"github.com/remora-go/remora/kernel"
)

// TestRealTaskOracles holds the tasks of images against those that drgn and crash find
// with the debugging information of the kernel, where these can read the image.
func TestRealTaskOracles(t *testing.T) {
	if !everything() {
		return
	}
	for _, m := range []*moment{
		openMoment(t, vmlab.Machine{Kernel: vmlab.AMD64v6_1}),
		withRAM(t, vmlab.OpenCrash(t, vmlab.Machine{Kernel: vmlab.AMD64v6_1})),
	} {
		for _, f := range []vmlab.Format{vmlab.Vmcore, vmlab.MakedumpfileZlib31} {
			k, _ := m.kernel(t, f)
			m.testDrgnTasks(t, k, f)
			m.testCrashTasks(t, k, f)
		}
	}
}

// threadsOf gives all threads by their addresses, as a program would print them.
func threadsOf(t *testing.T, k *kernel.Kernel, print func(*kernel.Task) string) map[string]string {
	all := map[string]string{}
	for p, err := range k.Tasks(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		for thread, err := range k.Threads(t.Context(), p) {
			if err != nil {
				t.Fatal(err)
			}
			all[thread.Addr.String()] = print(thread)
		}
	}
	return all
}

func (m *moment) testDrgnTasks(t *testing.T, k *kernel.Kernel, f vmlab.Format) {
	python := ""
	for _, p := range []string{"python3", "/usr/bin/python3"} {
		if python == "" && exec.Command(p, "-c", "import drgn").Run() == nil {
			python = p
		}
	}
	if python == "" {
		testneed.Lacks(t, "needs drgn for python3")
	}
	text, err := output(t, "", python, "testdata/tasks.py", m.Dump(f), m.Debug())
	if err != nil {
		t.Logf("drgn does not read %s: %v", f, err)
		return
	}
	all := threadsOf(t, k, func(p *kernel.Task) string {
		return fmt.Sprintf("task %v %d %d %d %d %v %d %v %d %s", p.Addr, p.PID, p.TGID, p.PPID, p.CPU, p.State, p.Creds.EUID, p.MM, int64(p.StartBoot), p.Comm)
	})
	idle := 0
	for _, line := range all {
		if strings.Fields(line)[2] == "0" {
			idle++
		}
	}
	n := 0
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if words := strings.Fields(line); len(words) > 1 && words[0] == "task" {
			if n++; all[words[1]] != line {
				t.Errorf("%s: drgn has %q, not %q", f, line, all[words[1]])
			}
		}
	}
	if n != len(all)-idle {
		t.Errorf("%s: drgn has %d threads, not %d", f, n, len(all)-idle)
	}
}

// testCrashTasks holds what crash lists. It does not find all tasks of every image, and
// counts resident memory in a way of its own.
func (m *moment) testCrashTasks(t *testing.T, k *kernel.Kernel, f vmlab.Format) {
	need(t, "crash")
	text, err := output(t, "ps\nquit\n", "crash", "-s", m.Debug(), m.Dump(f))
	if err != nil {
		t.Logf("crash does not read %s: %v", f, err)
		return
	}
	processors, err := k.Processors(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	all := threadsOf(t, k, func(p *kernel.Task) string {
		mark, comm := "-", p.Comm
		if slices.ContainsFunc(processors, func(c kernel.Processor) bool { return c.Current == p.Addr }) {
			mark = ">"
		}
		if p.KernelThread() || p.Idle() {
			comm = "[" + comm + "]"
		}
		return fmt.Sprintf("%s %d %d %x %s", mark, p.PID, p.CPU, uint64(p.Addr), comm)
	})
	n := 0
	for line := range strings.Lines(text) {
		mark := "-"
		if rest, ok := strings.CutPrefix(line, ">"); ok {
			mark, line = ">", rest
		}
		// PID PPID CPU TASK ST %MEM VSZ RSS COMM
		words := strings.Fields(line)
		if len(words) < 9 || len(words[3]) != 16 || words[0] == "WARNING:" {
			continue
		}
		n++
		got := strings.Join(append([]string{mark, words[0], words[2], words[3]}, words[8:]...), " ")
		if want := all["0x"+words[3]]; got != want {
			t.Errorf("%s: crash has %q, not %q", f, got, want)
		}
	}
	t.Logf("%s: crash has %d of %d threads", f, n, len(all))
	if n == 0 {
		t.Errorf("%s: crash has no threads: %s", f, head(text))
	}
}
