// SPDX-License-Identifier: Apache-2.0

package target_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/remora-go/remora/internal/vmlab"
)

// TestLiveKernel has guests look at their own kernels: by the command, and by this program
// itself, which is carried there.
func TestLiveKernel(t *testing.T) {
	if isInside() {
		testInside(t)
		return
	}
	for _, m := range vmlab.Guests() {
		t.Run(m.String(), func(t *testing.T) {
			g := &liveGuest{t, vmlab.StartAgent(t, m, &vmlab.AgentOptions{Programs: []string{"cmd/remora"}, Tests: []string{"target"}})}
			t.Run("verbs", func(t *testing.T) { g.at(t).testVerbs() })
			t.Run("process", func(t *testing.T) { g.at(t).testProcess() })
			t.Run("refusals", func(t *testing.T) { g.at(t).testRefusals() })
			t.Run("inside", func(t *testing.T) {
				r, err := g.Run(t.Context(), "/bin/target.test", "-test.run=^TestLiveKernel$", "-test.v", "-test.timeout=5m", inside)
				if t.Logf("%s%s", r.Stdout, r.Stderr); err != nil || r.Exit != 0 {
					t.Errorf("exit code %d, %v", r.Exit, err)
				}
			})
		})
	}
}

// liveGuest is a guest that a test talks to.
type liveGuest struct {
	t *testing.T
	*vmlab.Agent
}

func (g *liveGuest) at(t *testing.T) *liveGuest { return &liveGuest{t, g.Agent} }

// remora runs the command, which is to succeed, and gives what it prints.
func (g *liveGuest) remora(args ...string) string {
	g.t.Helper()
	out, _ := g.fails(0, args...)
	return out
}

// fails runs the command, which is to end with an exit code.
func (g *liveGuest) fails(code int, args ...string) (out, trouble string) {
	g.t.Helper()
	r, err := g.Run(g.t.Context(), append([]string{"/bin/remora"}, args...)...)
	if err != nil {
		g.t.Fatal(err)
	}
	if r.Exit != code {
		g.t.Errorf("remora %s: exit code %d and not %d\n%.2000s\n%s", strings.Join(args, " "), r.Exit, code, r.Stdout, r.Stderr)
	}
	return r.Stdout, r.Stderr
}

func (g *liveGuest) file(name string) string {
	g.t.Helper()
	b, err := g.ReadFile(g.t.Context(), name)
	if err != nil {
		g.t.Fatal(err)
	}
	return string(b)
}

// wants looks for texts in what was printed.
func (g *liveGuest) wants(what, text string, all ...string) {
	g.t.Helper()
	for _, want := range all {
		if !strings.Contains(text, want) {
			g.t.Errorf("%s: no %q in\n%.3000s", what, want, text)
		}
	}
}

func (g *liveGuest) testVerbs() {
	release := strings.Fields(g.file("/proc/version"))[2]
	g.wants("info", g.remora("info", "kernel"), release, "from /proc/kcore", "physical memory of the running system", "page tables", "symbols", "types")
	g.wants("ps", g.remora("ps", "kernel"), "[kthreadd]", "[swapper/0]", " remora\n")
	g.wants("vmcoreinfo", g.remora("vmcoreinfo", "kernel"), "OSRELEASE="+release)
	g.wants("struct", g.remora("struct", "kernel", "task_struct"), "struct list_head")
	g.wants("cmdline", g.remora("cmdline", "kernel@1"), "/init")
	g.wants("read", g.remora("read", "kernel", "linux_banner", "--as", "str"), strings.TrimSpace(g.file("/proc/version"))[:60])
	g.wants("vtop", g.remora("vtop", "kernel", "linux_banner"), "physical")
	g.wants("maps", g.remora("maps", "kernel"), "r-xp")
	if got, want := lines(g.remora("mods", "kernel")), lines(g.file("/proc/modules")); len(got) != len(want) {
		g.t.Errorf("mods: %d modules; /proc/modules has %d", len(got), len(want))
	}
	g.wants("doctor", g.remora("doctor", "kernel"), "can be read", "works    /proc/kcore", "missing  /dev/mem", "CONFIG_STRICT_DEVMEM", "no lockdown")
	g.symbols()
	g.log()
}

func lines(text string) []string { return strings.Split(strings.TrimRight(text, "\n"), "\n") }

// symbols holds those of the kernel against /proc/kallsyms.
func (g *liveGuest) symbols() {
	g.t.Helper()
	type one struct{ addr, name string }
	read := func(text string) map[one]bool {
		all := map[one]bool{}
		for _, line := range lines(text) {
			if f := strings.Fields(line); len(f) >= 3 {
				all[one{strings.TrimLeft(f[0], "0"), f[2]}] = true
			}
		}
		return all
	}
	// A compiler put \x02 into names.
	got, want := read(g.remora("sym", "kernel")), read(strings.ReplaceAll(g.file("/proc/kallsyms"), "\x02", `\x02`))
	missing := 0
	for s := range want {
		if !got[s] && missing < 10 {
			missing++
			g.t.Errorf("sym: %s %s of /proc/kallsyms is missing", s.addr, s.name)
		}
	}
	if len(want) < 10000 {
		g.t.Errorf("/proc/kallsyms has %d symbols", len(want))
	}
}

// log holds the log against what the kernel gives of it.
func (g *liveGuest) log() {
	g.t.Helper()
	got := lines(g.remora("dmesg", "kernel"))
	for _, line := range []string{"Linux version ", "ommand line: "} {
		if !slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, line) }) {
			g.t.Errorf("dmesg: no %q", line)
		}
	}
}

// testProcess compares the maps of a process.
func (g *liveGuest) testProcess() {
	want := g.file("/proc/1/maps")
	got := g.remora("maps", "kernel@1")
	if squeeze(got) != squeeze(want) {
		g.t.Errorf("maps kernel@1:\n%s\n/proc/1/maps:\n%s", got, want)
	}
	_, note := g.fails(0, "write", "kernel@1", "[stack]", "--dry-run", "--hex", "00")
	g.wants("writing a process", note, "as the live process pid 1,")
	g.remora("copy", "kernel", "linux_banner+0+16", "kernel@1", "[stack]", "--dry-run")
	g.fails(3, "read", "kernel@4000000", "0")
	g.fails(2, "read", "kernel@x", "0")
}

// squeeze leaves one blank where there are more.
func squeeze(text string) string {
	var b strings.Builder
	for _, line := range lines(text) {
		b.WriteString(strings.Join(strings.Fields(line), " ") + "\n")
	}
	return b.String()
}

func (g *liveGuest) testRefusals() {
	_, why := g.fails(5, "read", "kernel@phys", "0xff0000000000+16")
	g.wants("a hole", why, "no memory at this address")
	_, why = g.fails(5, "read", "kernel", "0xffff7fff00000000+16")
	g.wants("an address that is not mapped", why, "not mapped")
	for _, to := range []string{"kernel", "kernel@phys"} {
		_, why = g.fails(4, "write", to, "0x40000000", "--hex", "00")
		g.wants("writing "+to, why, "CONFIG_STRICT_DEVMEM", "gdb:", "qemu:")
	}
	r, err := g.RunAs(g.t.Context(), 1000, "/bin/remora", "ps", "kernel")
	if err != nil || r.Exit != 4 {
		g.t.Errorf("ps as a user: exit code %d, %v", r.Exit, err)
	}
	g.wants("ps as a user", r.Stderr, "/proc/kcore", "CAP_SYS_RAWIO", "root")
}

// TestLiveLockdown boots a kernel that is locked down.
func TestLiveLockdown(t *testing.T) {
	m := vmlab.Guests()[0]
	m.Options = "lockdown=confidentiality"
	g := &liveGuest{t, vmlab.StartAgent(t, m, &vmlab.AgentOptions{Programs: []string{"cmd/remora"}})}
	_, why := g.fails(4, "ps", "kernel")
	g.wants("ps", why, "locked down for confidentiality", "gdb:", "qemu:")
	out, _ := g.fails(4, "doctor", "kernel")
	g.wants("doctor", out, "cannot be read", "missing  no lockdown", "missing  /proc/kcore", "locked down for confidentiality")
}
