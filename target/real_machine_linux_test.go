// SPDX-License-Identifier: Apache-2.0

//go:build linux

package target_test

import (
	"errors"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/vmlab"
	"github.com/remora-go/remora/kernel"
)

// TestRealMachine holds what a kernel has of its machine against what the guest said.
func TestRealMachine(t *testing.T) {
	for _, machine := range vmlab.Machines() {
		t.Run(machine.String(), func(t *testing.T) {
			m := openMoment(t, machine)
			k, _ := m.kernel(t, vmlab.ELF)
			banner, err := k.Banner(t.Context())
			if err == nil && banner != strings.TrimSuffix(string(m.Truth().File("proc/version")), "\n") || err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the banner is %q, %v", banner, err)
			}
			withData := err == nil // a kernel may have no symbols of its data
			if taint, err := k.Taint(t.Context()); (err == nil) != withData || taint != 0 {
				t.Errorf("tainted: %v, %v", taint, err)
			}
			if ram, err := k.RAM(t.Context()); (err == nil) != withData || err == nil && !m.hasTotal(ram) {
				t.Errorf("%d KiB of RAM, %v", ram>>10, err)
			}
			m.testClock(t, k, withData)
			if crash, err := k.Crash(t.Context()); crash != nil || err != nil {
				t.Errorf("a crash: %v, %v", crash, err)
			}
			facts, err := k.Describe(t.Context())
			if err != nil || !slices.ContainsFunc(facts, func(f remora.Fact) bool { return f.Key == "running" }) {
				t.Errorf("%v, %v", facts, err)
			}
		})
	}
}

// hasTotal compares MemTotal of /proc/meminfo.
func (m *moment) hasTotal(ram uint64) bool {
	for line := range strings.Lines(string(m.Truth().File("proc/meminfo"))) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "MemTotal:" {
			return f[1] == strconv.FormatUint(ram>>10, 10)
		}
	}
	return false
}

// testClock holds the clock against the youngest task, and against the time at which the
// log was last written to.
func (m *moment) testClock(t *testing.T, k *kernel.Kernel, exact bool) {
	c, err := k.Clock(t.Context())
	if err != nil {
		t.Error(err)
		return
	}
	var last time.Duration
	for p, err := range k.Tasks(t.Context()) {
		if err == nil {
			last = max(last, p.StartBoot)
		}
	}
	for r, err := range k.Log(t.Context()) {
		if err == nil {
			last = max(last, r.Time)
		}
	}
	const idle = 100 * time.Millisecond // what either clock may be behind the other
	if c.Uptime < last-idle || c.Uptime > last+10*time.Minute || c.Now.IsZero() == exact || exact && c.Now.Year() < 2020 {
		t.Errorf("the clock says %+v; something happened at %v", *c, last)
	}
}

// TestRealCrashed looks at a kernel that another one was started for when it crashed, by a
// process that asked it to.
func TestRealCrashed(t *testing.T) {
	for _, machine := range vmlab.Crashes() {
		t.Run(machine.String(), func(t *testing.T) {
			m := withRAM(t, vmlab.OpenCrash(t, machine))
			for _, f := range []vmlab.Format{vmlab.Vmcore, vmlab.MakedumpfileZlib31} {
				k, _ := m.kernel(t, f)
				m.testCrash(t, k, f)
			}
		})
	}
}

func (m *moment) testCrash(t *testing.T, k *kernel.Kernel, f vmlab.Format) {
	c, err := k.Crash(t.Context())
	if err != nil || c == nil {
		t.Fatalf("%s: %+v, %v", f, c, err)
	}
	t.Logf("%s: %v", f, c)
	if c.Reason != "sysrq triggered crash" || c.Problem != nil {
		t.Errorf("%s: the reason is %q, %v", f, c.Reason, c.Problem)
	}
	if c.Task == nil || c.Task.TGID != 1 || c.Task.Comm != "init" || c.Task.CPU != c.CPU || c.Task.State != 'R' {
		t.Fatalf("%s: the task is %+v, on processor %d", f, c.Task, c.CPU)
	}
	// The registers are those that the kernel saved on its way into the next one.
	where, distance := "", ^uint64(0)
	for _, s := range m.Truth().Symbols() {
		if d := c.Regs["rip"] - s.Addr; strings.ContainsRune("tT", rune(s.Type)) && d < distance {
			where, distance = s.Name, d
		}
	}
	if !strings.Contains(where, "crash") && where != "panic" && where != "vpanic" {
		t.Errorf("%s: the registers are those of %s+%#x", f, where, distance)
	}
	if sp := c.Regs["rsp"] - uint64(c.Task.Stack); sp >= 32<<10 {
		t.Errorf("%s: the stack is at %v, and its pointer %#x", f, c.Task.Stack, c.Regs["rsp"])
	}
	clock, err := k.Clock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if d := clock.Now.Sub(c.Time); d < -5*time.Second || d > 5*time.Second {
		t.Errorf("%s: it crashed at %v, and its clock says %v", f, c.Time, clock.Now)
	}
	all, err := k.Processors(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		if p.Regs == nil {
			t.Errorf("%s: processor %d has no registers", f, p.ID)
		}
	}
}
