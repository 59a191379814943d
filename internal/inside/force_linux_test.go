// SPDX-License-Identifier: Apache-2.0

package inside

import (
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/remora-go/remora/internal/sys/linux"
	"github.com/remora-go/remora/internal/vmlab"
)

// The values of proc_mem.force_override (proc_mem_foll_force in fs/proc/base.c).
const (
	forceAlways = "always"
	forcePtrace = "ptrace" // the process that traces the target
	forceNever  = "never"
)

// TestForce has forced writes made under each value of proc_mem.force_override. That of
// 6.1 is the same as the one of 6.12, where it began.
func TestForce(t *testing.T) {
	kernels := []string{vmlab.AMD64v6_12, vmlab.AMD64v7_2}
	values := []string{forceAlways, forcePtrace, forceNever}
	if !all() {
		kernels, values = []string{vmlab.AMD64v6_1}, []string{forceNever}
	}
	for _, k := range kernels {
		for _, v := range values {
			m := vmlab.Machine{Kernel: k, Options: "proc_mem.force_override=" + v}
			t.Run(m.String(), func(t *testing.T) { checkForce(start(t, m), v) })
		}
	}
}

// tracerRole traces a process until it is told to end.
func tracerRole(args []string) error {
	pid, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	runtime.LockOSThread() // the tracer is a thread
	if errno := linux.Seize(pid); errno != 0 {
		return errno
	}
	fmt.Println("ready")
	_, _ = fmt.Scanln()
	return nil
}

// process is one of ours that runs in the guest.
type process struct {
	guest
	*vmlab.Started
	printed int // bytes that were looked at
}

func (g guest) begin(args ...string) *process {
	g.t.Helper()
	// One that is traced stops at each signal, and this tracer lets none through.
	quiet := []string{"GODEBUG=asyncpreemptoff=1"}
	s, err := g.StartIn(g.ctx, quiet, append([]string{"/bin/inside.test"}, args...)...)
	if err != nil {
		g.t.Fatal(err)
	}
	return &process{g, s, 0}
}

// until gives what it prints up to a line.
func (p *process) until(line string) map[string]string {
	p.t.Helper()
	for {
		r, err := p.Output(p.ctx)
		if err != nil {
			p.t.Fatal(err)
		}
		text, _, found := strings.Cut(r.Stdout[p.printed:], line+"\n")
		if !found {
			if r.Stderr != "" {
				p.t.Fatal(r.Stderr)
			}
			time.Sleep(20 * time.Millisecond)
			continue
		}
		p.printed += len(text) + len(line) + 1
		said := map[string]string{}
		for l := range strings.Lines(text) {
			name, value, _ := strings.Cut(strings.TrimSpace(l), " ")
			said[name] = value
		}
		return said
	}
}

// finish kills it.
func (p *process) finish() {
	p.t.Helper()
	if _, err := p.End(p.ctx); err != nil {
		p.t.Error(err)
	}
}

// checkForce has remora write to pages of each sort, with and without --force, and holds
// what it says against what the target finds in them, and what it says of the kernel
// against the value.
func checkForce(g guest, value string) {
	g.t.Helper()
	p := g.begin("target")
	defer p.finish()
	addr := p.until("ready")
	pid := strconv.Itoa(p.PID)
	for i, step := range []struct {
		page  string
		force bool
		exit  int
		says  string // on stderr
	}{
		{"rw", false, 0, ""}, {"rw", true, 0, ""},
		{"ro", false, 5, "Force writes here"}, {"none", false, 5, "protect"},
		{"ro", true, 0, ""}, {"none", true, 0, ""},
		{"shared-ro", true, 5, "protect"},
	} {
		args := []string{"/bin/remora", "write", pid, addr[step.page], "--hex", fmt.Sprintf("%016x", i+1)}
		if step.force {
			args = append(args, "--force")
		}
		r := g.run(nil, args...)
		if r.Exit != step.exit || !strings.Contains(r.Stderr, step.says) {
			g.t.Errorf("%q to %s, force_override %s: %+v, want %d, %q", args[3:], step.page, value, r, step.exit, step.says)
		}
		if err := p.Tell(g.ctx, "\n"); err != nil {
			g.t.Fatal(err)
		}
		want := map[bool]string{true: fmt.Sprintf("%016x", i+1), false: strings.Repeat("5a", 8)}[step.exit == 0]
		if step.page == "shared-ro" {
			want = strings.Repeat("00", 8)
		}
		if got := p.until("done")[step.page]; got != want {
			g.t.Errorf("%q to %s, force_override %s: the target holds %s, want %s", args[3:], step.page, value, got, want)
		}
	}
	checkForceSays(g, p, addr, value)
}

// checkForceSays holds what is said of forced writes, and makes some to a target that
// another process traces: where /proc/PID/mem heeds protections there is no other way.
func checkForceSays(g guest, p *process, addr map[string]string, value string) {
	g.t.Helper()
	pid := strconv.Itoa(p.PID)
	says, facility := "force: /proc/PID/mem\n", "works    forced writes: "
	if value != forceAlways {
		says, facility = "force: ptrace: this kernel lets /proc/PID/mem ignore no protection (proc_mem.force_override,", "missing  forced writes: "
	}
	r := g.run(nil, "/bin/remora", "doctor", pid)
	if r.Exit != 0 || !strings.Contains(r.Stdout, says) || !strings.Contains(r.Stdout, facility) {
		g.t.Errorf("force_override %s: doctor says\n%s\nwant %q and %q", value, r.Stdout, says, facility)
	}
	tracer := g.begin("trace", pid)
	defer tracer.finish()
	tracer.until("ready")
	for _, args := range [][]string{
		{"write", pid, addr["ro"], "--hex", "0102030405060708", "--force"},
		{"read", pid, addr["none"] + "+8", "--force"},
	} {
		r := g.run(nil, append([]string{"/bin/remora"}, args...)...)
		refused := strings.Contains(r.Stderr, "proc_mem.force_override,") && strings.Contains(r.Stderr, "by pid "+strconv.Itoa(tracer.PID)) &&
			strings.Contains(r.Stderr, "boot with proc_mem.force_override=always")
		if want := map[bool]int{true: 0, false: 4}[value == forceAlways]; r.Exit != want || refused != (want != 0) {
			g.t.Errorf("force_override %s, traced by %d: %q: %+v, want exit code %d", value, tracer.PID, args, r, want)
		}
	}
	want := map[bool]string{true: "0102030405060708", false: "0000000000000005"}[value == forceAlways]
	if err := p.Tell(g.ctx, "\n"); err != nil {
		g.t.Fatal(err)
	}
	if got := p.until("done")["ro"]; got != want {
		g.t.Errorf("force_override %s, traced: the target holds %s, want %s", value, got, want)
	}
}
