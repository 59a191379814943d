// SPDX-License-Identifier: Apache-2.0

package target_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/guest"
	"github.com/remora-go/remora/internal/vmlab"
	"github.com/remora-go/remora/internal/vmlab/witness"
	"github.com/remora-go/remora/kernel"
	"github.com/remora-go/remora/target"
)

// TestLiveQEMU looks at guests of QEMU while they run, and holds what is seen against what
// they say themselves: with their memory in a file, and in QEMU alone.
func TestLiveQEMU(t *testing.T) {
	if isSubject() {
		beSubject(t)
		return
	}
	for i, m := range vmlab.Guests() {
		for _, anonymous := range []bool{false, true} {
			name := m.String()
			if anonymous {
				if i > 0 {
					continue // it is of the same kind for every kernel
				}
				name += " with private memory"
			}
			t.Run(name, func(t *testing.T) {
				g := &liveQEMU{liveGuest: liveGuest{t, vmlab.StartAgent(t, m, &vmlab.AgentOptions{Tests: []string{"target"}, Anonymous: anonymous})}, anonymous: anonymous}
				g.subject = startSubject(&g.liveGuest, "TestLiveQEMU")
				t.Run("way", g.testWay)
				t.Run("processes", g.testProcesses)
				t.Run("log", g.testLog)
				t.Run("maps", g.testMaps)
				t.Run("memory", g.testMemory)
				t.Run("name", g.testName)
				t.Run("word", g.testWord)
				t.Run("read-only", g.testReadOnly)
				t.Run("scan", g.testScan)
				t.Run("pause", g.testPause)
				t.Run("churn", g.testChurn)
				t.Run("busy", g.testBusy)
				if i == 0 && !anonymous {
					t.Run("boot", g.testBoot)
				}
				t.Run("killed", g.testKilled) // the last
			})
		}
	}
}

// liveQEMU is a guest that is looked at from outside.
type liveQEMU struct {
	liveGuest
	anonymous bool
	subject   *subject
}

// open opens a view of the guest.
func (g *liveQEMU) open(t *testing.T, view string, o *target.Options) remora.Target {
	t.Helper()
	x, err := target.Open(t.Context(), "qemu:"+g.QMP()+view, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := x.Close(); err != nil && !errors.Is(err, remora.ErrGone) {
			t.Error(err)
		}
	})
	return x
}

func (g *liveQEMU) kernel(t *testing.T, o *target.Options) *target.Kernel {
	t.Helper()
	return g.open(t, "", o).(*target.Kernel)
}

// process opens the subject.
func (g *liveQEMU) process(t *testing.T, o *target.Options) remora.Target {
	t.Helper()
	return g.open(t, fmt.Sprintf("@%d", g.subject.pid), o)
}

func factsOf(t *testing.T, x remora.Target) map[string]string {
	t.Helper()
	d, ok := remora.As[remora.Describer](x)
	if !ok {
		t.Fatal("it does not describe itself")
	}
	facts, err := d.Describe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, f := range facts {
		all[f.Key] = f.Value
	}
	return all
}

// testWay looks at how the guest is reached.
func (g *liveQEMU) testWay(t *testing.T) {
	facts := factsOf(t, g.kernel(t, nil))
	t.Logf("way: %s; VMCOREINFO is %s", facts["way"], facts["VMCOREINFO is"])
	if mapped := strings.Contains(facts["way"], "mapping"); mapped == g.anonymous || !strings.Contains(facts["way"], "QEMU's process") {
		t.Errorf("the way is %q", facts["way"])
	}
	if facts["pid"] != fmt.Sprint(g.PID()) || facts["state"] != "running" || !strings.Contains(facts["VMCOREINFO is"], "one byte") {
		t.Errorf("facts: %v", facts)
	}
}

// testProcesses holds the list of processes against what the guest said before and after.
func (g *liveQEMU) testProcesses(t *testing.T) {
	k := g.kernel(t, nil)
	before := strings.Fields(g.subject.ask(t, "processes"))
	var got []string
	for task, err := range k.Tasks(t.Context()) {
		if err != nil {
			t.Error(err)
			continue
		}
		if task.PID > 0 {
			got = append(got, fmt.Sprintf("%d:%s", task.PID, task.Comm))
		}
	}
	after := strings.Fields(g.subject.ask(t, "processes"))
	number := func(s string) string { n, _, _ := strings.Cut(s, ":"); return n } // kworkers change their names
	has := func(all []string, s string) bool {
		return slices.ContainsFunc(all, func(o string) bool { return number(o) == number(s) && (o == s || strings.Contains(s, ":kworker")) })
	}
	for _, s := range before {
		if has(after, s) && !has(got, s) {
			t.Errorf("%s is missing", s)
		}
	}
	for _, s := range got {
		if !has(before, s) && !has(after, s) {
			t.Errorf("the guest has no %s", s)
		}
	}
	if len(got) < 20 {
		t.Errorf("%d processes", len(got))
	}
}

// testLog holds the log against the guest's own.
func (g *liveQEMU) testLog(t *testing.T) {
	k := g.kernel(t, nil)
	r, err := g.Run(t.Context(), "/bin/target.test", "-test.run=^TestLiveLog$", asSubject)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range readLog(t, k.Kernel) {
		for line := range strings.Lines(r.Text) {
			got = append(got, strings.TrimSpace(line))
		}
	}
	want := strings.Split(strings.TrimSuffix(strings.TrimSpace(r.Stdout), "\nPASS"), "\n")
	if len(want) < 100 || len(got) < len(want) {
		t.Fatalf("%d lines, and the guest has %d", len(got), len(want))
	}
	for i := range want {
		if _, text, ok := strings.Cut(want[i], "] "); !ok || strings.TrimSpace(text) != got[i] {
			t.Fatalf("line %d is %q, and the guest's %q", i, got[i], want[i])
		}
	}
}

// testMaps holds the mappings of the subject against /proc/PID/maps.
func (g *liveQEMU) testMaps(t *testing.T) {
	m, _ := remora.As[remora.Mapper](g.process(t, nil))
	var got, want []string
	for range 3 { // the Go runtime may map something meanwhile
		got, want = nil, nil
		for r, err := range m.Regions(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, fmt.Sprintf("%x-%x %v", uint64(r.Start), uint64(r.Start)+r.Size, r.Perm))
		}
		for line := range strings.Lines(g.at(t).file(fmt.Sprintf("/proc/%d/maps", g.subject.pid))) {
			f := strings.Fields(line)
			if f[len(f)-1] == "[vsyscall]" {
				continue
			}
			first, last, _ := strings.Cut(f[0], "-")
			want = append(want, strings.TrimLeft(first, "0")+"-"+strings.TrimLeft(last, "0")+" "+f[1][:3])
		}
		if slices.Equal(got, want) {
			return
		}
	}
	t.Errorf("maps are\n%s, want\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
}

// testMemory holds the memory of the subject against its own checksum.
func (g *liveQEMU) testMemory(t *testing.T) {
	b := make([]byte, subjectBytes)
	if _, err := g.process(t, nil).Memory().ReadAt(t.Context(), b, g.subject.base); err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprintf("%x", sha256.Sum256(b)), g.subject.ask(t, "sum"); got != want {
		t.Errorf("the sum is %s, and the subject's %s", got, want)
	}
}

// testName gives the guest another name.
func (g *liveQEMU) testName(t *testing.T) {
	k := g.kernel(t, &target.Options{Write: true})
	at, ok := k.VMCoreInfo().Symbol("init_uts_ns")
	off, ok2 := k.VMCoreInfo().Value("OFFSET(uts_namespace.name)")
	if !ok || !ok2 {
		t.Fatal("VMCOREINFO does not have init_uts_ns")
	}
	const nodename = 65 // struct new_utsname: each name has 65 bytes
	for _, name := range []string{"remora-was-here", "another"} {
		if _, err := k.Memory().WriteAt(t.Context(), append([]byte(name), 0), at+remora.Addr(off)+nodename); err != nil {
			t.Fatal(err)
		}
		if got := g.subject.ask(t, "name"); got != name {
			t.Errorf("the guest is called %q, want %q", got, name)
		}
	}
}

// testWord writes to the memory of the subject.
func (g *liveQEMU) testWord(t *testing.T) {
	p := g.process(t, &target.Options{Write: true})
	const word = "written from outside"
	if _, err := p.Memory().WriteAt(t.Context(), append([]byte(word), 0), g.subject.base+subjectBytes); err != nil {
		t.Fatal(err)
	}
	if got := g.subject.ask(t, "word"); got != word {
		t.Errorf("the subject sees %q", got)
	}
}

func (g *liveQEMU) testReadOnly(t *testing.T) {
	for _, view := range []string{"", "@phys", fmt.Sprintf("@%d", g.subject.pid)} {
		x := g.open(t, view, nil)
		if n, err := x.Memory().WriteAt(t.Context(), []byte{1}, g.subject.base); n != 0 || !errors.Is(err, remora.ErrReadOnly) {
			t.Errorf("%q: %d bytes were written, %v", view, n, err)
		}
		x.Close()
	}
}

// testScan finds the kernel without stopping the guest.
func (g *liveQEMU) testScan(t *testing.T) {
	k := g.kernel(t, &target.Options{Scan: true})
	facts := factsOf(t, k)
	if u, err := k.Uname(t.Context()); err != nil || u[2] == "" {
		t.Errorf("%v, %v", u, err)
	}
	if !strings.Contains(facts["VMCOREINFO is"], "scan") {
		t.Errorf("facts: %v", facts)
	}
}

// testPause stops the guest, and looks at it for a while.
func (g *liveQEMU) testPause(t *testing.T) {
	k := g.kernel(t, nil)
	resume, err := k.Pause(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := factsOf(t, k)["state"]; got != "paused" {
		t.Errorf("paused, it is %s", got)
	}
	if err := resume(); err != nil {
		t.Error(err)
	}
	if got := factsOf(t, k)["state"]; got != "running" {
		t.Errorf("resumed, it is %s", got)
	}
	g.subject.ask(t, "name")
}

// testChurn reads 10,000 times while the guest is busy with its memory.
func (g *liveQEMU) testChurn(t *testing.T) {
	k := g.kernel(t, nil)
	pid := &kernel.ProcessOptions{}
	p, err := k.Process(t.Context(), g.subject.pid, pid)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	banner, err := k.Symbol(t.Context(), "linux_banner")
	if err != nil || len(banner) != 1 {
		t.Fatal(banner, err)
	}
	text, err := k.Memory().CString(t.Context(), banner[0].Addr, 512)
	if err != nil {
		t.Fatal(err)
	}
	want := make([]byte, subjectBytes)
	witness.Fill(want, subjectSeed)
	g.subject.ask(t, "churn")
	defer g.subject.ask(t, "calm")
	b := make([]byte, 4096)
	for i := range 10000 {
		n := 1 + i*37%len(b)
		off := i * 7919 % (subjectBytes - n)
		if _, err := p.Memory().ReadAt(t.Context(), b[:n], g.subject.base+remora.Addr(off)); err != nil || !bytes.Equal(b[:n], want[off:off+n]) {
			t.Fatalf("read %d, of %d bytes at %d: %v, or other bytes", i, n, off, err)
		}
		if i%10 == 0 {
			if s, err := k.Memory().CString(t.Context(), banner[0].Addr, 512); err != nil || s != text {
				t.Fatalf("read %d: the banner is %q, %v", i, s, err)
			}
		}
	}
}

// testBusy has two clients want the one socket.
func (g *liveQEMU) testBusy(t *testing.T) {
	g.open(t, "@phys", nil)
	if _, err := target.Open(t.Context(), "qemu:"+g.QMP()+"@phys", nil); !errors.Is(err, guest.ErrSilent) || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a second client: %v", err)
	}
}

// testKilled ends QEMU while it is read.
func (g *liveQEMU) testKilled(t *testing.T) {
	p := g.process(t, nil)
	want := make([]byte, subjectBytes)
	witness.Fill(want, subjectSeed)
	q, err := os.FindProcess(g.PID())
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(50*time.Millisecond, func() { q.Kill() })
	b := make([]byte, 4096)
	for {
		_, err := p.Memory().ReadAt(t.Context(), b, g.subject.base)
		if errors.Is(err, remora.ErrGone) {
			break
		}
		if err != nil || !bytes.Equal(b, want[:len(b)]) {
			t.Fatalf("a read: %v, or other bytes", err)
		}
	}
	if _, err := target.Open(t.Context(), "qemu:"+g.QMP(), nil); err == nil {
		t.Error("it was opened when it was gone")
	}
}

// TestLiveLog prints the log, in a guest.
func TestLiveLog(t *testing.T) {
	if !isSubject() {
		return
	}
	printLog(t)
}
