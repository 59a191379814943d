// SPDX-License-Identifier: Apache-2.0

package inside

import (
	"context"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/remora-go/remora/internal/vmlab"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && roles[os.Args[1]] != nil {
		os.Exit(play(os.Args[1], os.Args[2:]))
	}
	os.Exit(m.Run())
}

// all says whether the long runs are asked for.
func all() bool { return os.Getenv("REMORA_IMAGES") == "all" }

// options are what the kernels' command lines say: since 6.5 secret memory is there anyway;
// a kernel may be built without forced writes, and then nothing could look at memory
// that the differential tests have.
const options = "secretmem.enable=1 proc_mem.force_override=always"

// guest is a guest with the programs.
type guest struct {
	*vmlab.Agent
	t   *testing.T
	ctx context.Context
}

// start boots one.
func start(t *testing.T, m vmlab.Machine, tests ...string) guest {
	t.Helper()
	m.MiB = 512 // the differential tests have some of it, and their programs lie there
	a := vmlab.StartAgent(t, m, &vmlab.AgentOptions{
		Programs: []string{"cmd/remora"}, Tests: append(tests, "internal/inside"), Life: 40 * time.Minute,
	})
	return guest{a, t, t.Context()}
}

// at is the guest for a subtest.
func (g guest) at(t *testing.T) guest { return guest{g.Agent, t, t.Context()} }

func (g guest) set(name, value string) {
	g.t.Helper()
	if err := g.WriteFile(g.ctx, name, []byte(value)); err != nil {
		g.t.Fatalf("%s > %s: %v", value, name, err)
	}
	if got := g.get(name); got != value && !strings.Contains(got, "["+value+"]") {
		g.t.Fatalf("%s is %q, want %q", name, got, value)
	}
}

func (g guest) get(name string) string {
	g.t.Helper()
	b, err := g.ReadFile(g.ctx, name)
	if err != nil {
		g.t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

// run runs a program, in an environment.
func (g guest) run(env []string, args ...string) vmlab.Ran {
	g.t.Helper()
	begin := time.Now()
	r, err := g.RunIn(g.ctx, env, args...)
	if err != nil {
		g.t.Fatalf("%q: %v", args, err)
	}
	g.t.Logf("%q %q: exit code %d, %v", env, args, r.Exit, time.Since(begin).Round(time.Millisecond))
	return r
}

// missed are the lines of a test's output that say that something was not tested.
var missed = regexp.MustCompile(`(?m)^ *--- SKIP: \S+|^ .*: no .*: specimen: map: .*$`)

// test runs a test of a package. It must pass, and what it could not test must be
// something that this kernel lacks.
func (g guest) test(env []string, program, run string, lacks ...string) {
	g.t.Helper()
	r := g.run(env, "/bin/"+program+".test", "-test.v", "-test.run", run)
	if r.Exit != 0 || !strings.Contains(r.Stdout, "\nPASS\n") || !strings.Contains(r.Stdout, "--- PASS: ") {
		g.t.Errorf("%s in the guest: exit code %d\n%s\n%s", program, r.Exit, failures(r.Stdout), r.Stderr)
	}
	for _, line := range missed.FindAllString(r.Stdout, -1) {
		if !slices.ContainsFunc(lacks, func(l string) bool { return strings.Contains(line, l) }) {
			g.t.Errorf("%s in the guest has not tested all: %s", program, strings.TrimSpace(line))
		}
	}
	for line := range strings.Lines(r.Stdout) {
		if strings.Contains(line, " layouts") && strings.Contains(line, " over ") {
			g.t.Log(strings.TrimSpace(line))
		}
	}
}

// failures leaves the tables of the coverage out.
func failures(out string) string {
	before, after, cut := strings.Cut(out, ": coverage\n")
	if i := strings.Index(after, "_linux.go:"); cut && i >= 0 {
		return before + "\n...\n" + after[i:]
	}
	return before
}
