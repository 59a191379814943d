// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/remora-go/remora"
)

func mustStop(t *testing.T, tr *tracer) {
	t.Helper()
	if err := tr.stop(t.Context()); err != nil {
		t.Fatalf("stop: %v", err)
	}
}

func mustResume(t *testing.T, tr *tracer) {
	t.Helper()
	if err := tr.resume(); err != nil {
		t.Fatalf("resume: %v", err)
	}
}

func TestPauseStopsEveryThread(t *testing.T) {
	g := startTarget(t, "count 6")
	g.wantRunning(6)
	tr := g.tracer()
	resume, err := tr.pause(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	g.wantState("t")
	before := g.counters()
	time.Sleep(20 * time.Millisecond)
	if now := g.counters(); now != before {
		t.Errorf("the target counts on while it is paused: %v, then %v", before, now)
	}
	for range 2 {
		if err := resume(); err != nil {
			t.Errorf("resume: %v", err)
		}
	}
	g.wantFree()
	g.wantRunning(6)
}

func TestStopsNest(t *testing.T) {
	g := startTarget(t, "count 2")
	tr := g.tracer()
	if err := tr.resume(); !errors.Is(err, errRunning) {
		t.Errorf("resume without stop: %v", err)
	}
	mustStop(t, tr)
	mustStop(t, tr)
	mustResume(t, tr)
	g.wantState("t")
	mustResume(t, tr)
	g.wantFree()
	g.wantRunning(2)
	mustStop(t, tr)
	g.wantState("t")
	mustResume(t, tr)
	g.wantRunning(2)
}

func TestStopByThreadID(t *testing.T) {
	g := startTarget(t, "count 3")
	tr := newTracer(int(g.askNumber("thread")))
	t.Cleanup(tr.close)
	mustStop(t, tr)
	g.wantState("t")
	mustResume(t, tr)
	g.wantRunning(3)
}

func TestStopWithoutLeader(t *testing.T) {
	g := startTarget(t, "count 3")
	if got := g.ask("leave"); got != "left" {
		t.Fatal(got)
	}
	await(t, "the leader is a zombie", func() bool { return strings.Contains(g.states(), "Z") })
	tr := g.tracer()
	for range 3 {
		mustStop(t, tr)
		if got := g.states(); strings.Trim(got, "tZ") != "" {
			t.Errorf("the threads are in states %q", got)
		}
		mustResume(t, tr)
		g.wantRunning(3)
	}
}

func TestLeaderLeavesWhileTraced(t *testing.T) {
	g := startTarget(t, "count 3")
	tr := g.tracer()
	var wg sync.WaitGroup
	wg.Go(func() {
		for range 200 {
			if err := tr.stop(t.Context()); err != nil {
				t.Errorf("stop: %v", err)
				return
			}
			if err := tr.resume(); err != nil {
				t.Errorf("resume: %v", err)
				return
			}
		}
	})
	if got := g.ask("leave"); got != "left" {
		t.Error(got)
	}
	wg.Wait()
	g.wantFree()
	g.wantRunning(3)
	g.kill(unix.SIGKILL)
	if err := g.wait(); err == nil || err.Error() != "signal: killed" {
		t.Errorf("the target ended with %v", err)
	}
}

func TestTargetOutlivesTracer(t *testing.T) {
	g := startTarget(t, "count 3")
	other := startTarget(t, fmt.Sprint("tracer ", g.pid()))
	g.wantState("t")
	other.kill(unix.SIGKILL)
	_ = other.wait()
	g.wantRunning(3)
	g.wantFree()
}

func TestRefusesTracedTarget(t *testing.T) {
	g := startTarget(t, "count 3")
	other := startTarget(t, fmt.Sprint("tracer ", g.pid()))
	tr := g.tracer()
	for name, f := range map[string]func(context.Context) error{"stop": tr.stop, "allowed": tr.allowed} {
		err := f(t.Context())
		var refused *remora.AccessError
		if !errors.As(err, &refused) || !errors.Is(err, fs.ErrPermission) || !errors.Is(err, unix.EPERM) {
			t.Fatalf("%s: %v", name, err)
		}
		comm, _ := os.ReadFile("/proc/self/comm")
		want := fmt.Sprintf("by pid %d (%s)", other.pid(), strings.TrimSpace(string(comm)))
		if !strings.Contains(err.Error(), "exe") || !strings.Contains(err.Error(), fmt.Sprintf("by pid %d (", other.pid())) {
			t.Errorf("%s: %q does not name the tracer: %s", name, err, want)
		}
	}
	g.wantState("t")
	other.kill(unix.SIGKILL)
	_ = other.wait()
	await(t, "the other tracer has let go", func() bool { return tr.allowed(t.Context()) == nil })
	mustStop(t, tr)
	mustResume(t, tr)
	g.wantRunning(3)
}

func TestAllowedDoesNotStop(t *testing.T) {
	g := startTarget(t, "count 2")
	g.kill(unix.SIGSTOP)
	g.awaitState("T")
	tr := g.tracer()
	if err := tr.allowed(t.Context()); err != nil {
		t.Fatal(err)
	}
	g.wantFree()
	g.awaitState("T")
	g.kill(unix.SIGCONT)
	g.wantRunning(2)
	if err := tr.allowed(t.Context()); err != nil {
		t.Fatal(err)
	}
	g.wantRunning(2)
	mustStop(t, tr)
	if err := tr.allowed(t.Context()); err != nil {
		t.Fatal(err)
	}
	g.wantState("t")
	mustResume(t, tr)
}

func TestRefusesItself(t *testing.T) {
	tr := newTracer(os.Getpid())
	defer tr.close()
	var refused *remora.AccessError
	if err := tr.stop(t.Context()); !errors.As(err, &refused) {
		t.Errorf("stop: %v", err)
	}
}

func TestGroupStopIsKept(t *testing.T) {
	tests := map[string]struct {
		before, during []unix.Signal
		after          string
	}{
		"stopped before":               {before: []unix.Signal{unix.SIGSTOP}, after: "T"},
		"stopped during":               {during: []unix.Signal{unix.SIGSTOP}, after: "T"},
		"stopped, continued during":    {before: []unix.Signal{unix.SIGSTOP}, during: []unix.Signal{unix.SIGCONT}},
		"stopped before, again during": {before: []unix.Signal{unix.SIGSTOP}, during: []unix.Signal{unix.SIGSTOP}, after: "T"},
		"stopped and continued during": {during: []unix.Signal{unix.SIGSTOP, unix.SIGCONT}},
		"by a terminal's stop":         {before: []unix.Signal{unix.SIGTSTP}, after: "T"},
		"stopped, continued, and stopped during": {before: []unix.Signal{unix.SIGSTOP},
			during: []unix.Signal{unix.SIGCONT, unix.SIGSTOP}, after: "T"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			g := startTarget(t, "count 3")
			tr := g.tracer()
			for _, s := range test.before {
				g.kill(s)
				g.awaitState("T")
			}
			for range 3 {
				mustStop(t, tr)
				g.wantState("t")
				if test.before == nil || test.during != nil {
					break
				}
				mustResume(t, tr)
				g.awaitState("T")
			}
			for _, s := range test.during {
				g.kill(s)
			}
			if depth, _ := tr.held(); depth > 0 {
				g.wantState("t")
				mustResume(t, tr)
			}
			g.wantFree()
			if test.after != "" {
				g.awaitState(test.after)
				mustStop(t, tr)
				mustResume(t, tr)
				g.awaitState(test.after)
				g.kill(unix.SIGCONT)
			}
			g.wantRunning(3)
		})
	}
}

func TestSignalsOfThePauseComeAfterIt(t *testing.T) {
	g := startTarget(t, "signals 2")
	tr := g.tracer()
	mustStop(t, tr)
	signals := []unix.Signal{unix.SIGUSR1, unix.SIGUSR2, unix.SIGHUP, unix.SIGWINCH}
	for _, s := range signals {
		g.kill(s)
	}
	time.Sleep(5 * time.Millisecond)
	for _, s := range signals {
		if g.slot(slotSignals+int(s)) != 0 {
			t.Errorf("%v was delivered during the pause", s)
		}
	}
	mustResume(t, tr)
	for _, s := range signals {
		await(t, s.String()+" is delivered", func() bool { return g.slot(slotSignals+int(s)) == 1 })
	}
}

func TestNoSignalIsLost(t *testing.T) {
	g := startTarget(t, "signals 4")
	tr := g.tracer()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	stops := 0
	wg.Go(func() {
		for ctx.Err() == nil {
			if err := tr.stop(t.Context()); err != nil {
				t.Errorf("stop: %v", err)
				return
			}
			if err := tr.resume(); err != nil {
				t.Errorf("resume: %v", err)
				return
			}
			stops++
		}
	})
	const rounds = 500
	slot := slotSignals + int(unix.SIGUSR1)
	for i := range uint64(rounds) {
		g.kill(unix.SIGUSR1)
		await(t, "a signal is delivered", func() bool { return g.slot(slot) >= i+1 })
	}
	cancel()
	wg.Wait()
	if got := g.slot(slot); got != rounds {
		t.Errorf("%d signals arrived as %d", rounds, got)
	}
	t.Logf("%d stops", stops)
	g.wantRunning(4)
}

func TestThreadsThatComeAndGo(t *testing.T) {
	g := startTarget(t, "churn 50")
	tr := g.tracer()
	for range 100 {
		mustStop(t, tr)
		first := g.tasks()
		g.wantState("t")
		if again := g.tasks(); len(first) != len(again) {
			t.Fatalf("a stopped process has %d threads, then %d", len(first), len(again))
		}
		mustResume(t, tr)
		time.Sleep(time.Duration(rand.IntN(3)) * time.Millisecond)
	}
	g.wantFree()
}

func TestTargetThatExits(t *testing.T) {
	for range 20 {
		g := startTarget(t, "count 3")
		tr := newTracer(g.pid())
		var wg sync.WaitGroup
		wg.Go(func() {
			time.Sleep(time.Duration(rand.IntN(3000)) * time.Microsecond)
			fmt.Fprintln(g.in, "exit 7")
		})
		for {
			err := tr.stop(t.Context())
			if errors.Is(err, remora.ErrGone) {
				break
			}
			if err != nil {
				t.Fatalf("stop: %v", err)
			}
			mustResume(t, tr)
		}
		tr.close()
		wg.Wait()
		if err := g.wait(); err == nil || err.Error() != "exit status 7" {
			t.Fatalf("the target ended with %v", err)
		}
	}
}

func TestTargetKilledInPause(t *testing.T) {
	g := startTarget(t, "count 3")
	tr := g.tracer()
	mustStop(t, tr)
	g.kill(unix.SIGKILL)
	if err := g.wait(); err == nil || err.Error() != "signal: killed" {
		t.Errorf("the target ended with %v", err)
	}
	var b [8]byte
	if n, errno := tr.peek(b[:], 0x1000); n != 0 || errno != unix.ESRCH {
		t.Errorf("peek: %d, %v", n, errno)
	}
	mustResume(t, tr)
	if err := tr.stop(t.Context()); !errors.Is(err, remora.ErrGone) {
		t.Errorf("stop: %v", err)
	}
}

// The parent of a target that is killed in a pause must hear of it at once, not
// when the pause ends.
func TestParentHearsOfDeathInPause(t *testing.T) {
	g := startTarget(t, "parent")
	var pid int
	if _, err := fmt.Sscan(g.line(), &pid); err != nil {
		t.Fatal(err)
	}
	tr := newTracer(pid)
	t.Cleanup(tr.close)
	mustStop(t, tr)
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if got := g.line(); got != "signal: killed" {
		t.Errorf("the parent says %q", got)
	}
	mustResume(t, tr)
	if _, err := os.Stat(fmt.Sprint("/proc/", pid)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the target is still there: %v", err)
	}
}

func TestTargetThatExecs(t *testing.T) {
	const execs = 100
	g := startTarget(t, fmt.Sprint("exec ", execs))
	tr := g.tracer()
	stops := 0
	for g.slot(slotBirths) <= execs {
		if err := tr.stop(t.Context()); err != nil {
			t.Fatalf("stop: %v", err)
		}
		if got := g.states(); strings.Trim(got, "t") != "" {
			t.Fatalf("the threads are in states %q", got)
		}
		mustResume(t, tr)
		stops++
		time.Sleep(time.Duration(rand.IntN(2000)) * time.Microsecond)
	}
	t.Logf("%d stops in %d programs", stops, execs+1)
	g.wantFree()
	g.wantRunning(4)
}

func TestContextEndsStop(t *testing.T) {
	g := startTarget(t, "count 3")
	asleep := g.askNumber("asleep")
	await(t, "a thread sleeps uninterruptibly", func() bool { return strings.Contains(g.states(), "D") })
	tr := g.tracer()

	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if err := tr.stop(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("stop: %v", err)
	}
	g.wantFree()
	g.wantRunning(3)
	if err := tr.stop(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("stop with a context that has ended: %v", err)
	}

	// When the sleep ends, so does a stop that waits for it.
	result := g.stopping(tr)
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", g.pid(), asleep))
	var child int
	if _, scanErr := fmt.Sscan(string(text), &child); err != nil || scanErr != nil {
		t.Fatal(err, scanErr)
	}
	if err := unix.Kill(child, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := <-result; err != nil {
		t.Errorf("stop: %v", err)
	}
	g.wantState("t")
	mustResume(t, tr)
	g.wantRunning(3)
}

func TestCloseEndsStop(t *testing.T) {
	g := startTarget(t, "count 3")
	g.ask("asleep")
	await(t, "a thread sleeps uninterruptibly", func() bool { return strings.Contains(g.states(), "D") })
	tr := g.tracer()
	result := g.stopping(tr)
	tr.close()
	if err := <-result; !errors.Is(err, fs.ErrClosed) {
		t.Errorf("stop: %v", err)
	}
	g.wantFree()
	g.wantRunning(3)
}

func TestCloseResumes(t *testing.T) {
	g := startTarget(t, "count 3")
	tr := newTracer(g.pid())
	resume, err := tr.pause(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	tr.close()
	tr.close()
	g.wantFree()
	g.wantRunning(3)
	if err := resume(); err != nil {
		t.Errorf("resume after close: %v", err)
	}
	if err := tr.stop(t.Context()); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("stop after close: %v", err)
	}
	if err := tr.allowed(t.Context()); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("allowed after close: %v", err)
	}
	var b [1]byte
	if n, errno := tr.peek(b[:], 0x1000); n != 0 || errno != unix.ESRCH {
		t.Errorf("peek after close: %d, %v", n, errno)
	}
}

// The main thread of a process does not end with its goroutine, so a tracer on it
// could never let go of a thread that has not stopped.
func TestTracesFromAnotherThreadThanMain(t *testing.T) {
	g := startTarget(t, "count 2")
	tr := g.tracer()
	tr.ended = make(chan struct{})
	served := make(chan struct{})
	onMainThread(func() {
		defer close(served)
		up := make(chan struct{})
		tr.serve(up)
		<-up
	})
	<-served
	if tr.tid == os.Getpid() || tr.tid == 0 {
		t.Errorf("the tracing thread is %d of process %d", tr.tid, os.Getpid())
	}
	mustStop(t, tr)
	g.wantState("t")
	mustResume(t, tr)
	g.wantRunning(2)
}

func TestNoSuchProcess(t *testing.T) {
	g := startTarget(t, "count 1")
	g.kill(unix.SIGKILL)
	_ = g.wait()
	tr := g.tracer()
	if err := tr.stop(t.Context()); !errors.Is(err, remora.ErrGone) {
		t.Errorf("stop: %v", err)
	}
	if err := tr.allowed(t.Context()); !errors.Is(err, remora.ErrGone) {
		t.Errorf("allowed: %v", err)
	}
}

func TestZombie(t *testing.T) {
	g := startTarget(t, "count 1")
	g.kill(unix.SIGKILL)
	g.awaitState("Z")
	tr := g.tracer()
	if err := tr.stop(t.Context()); !errors.Is(err, remora.ErrGone) {
		t.Errorf("stop: %v", err)
	}
	if err := tr.allowed(t.Context()); !errors.Is(err, remora.ErrGone) {
		t.Errorf("allowed: %v", err)
	}
	if err := g.wait(); err == nil || err.Error() != "signal: killed" {
		t.Errorf("the target ended with %v", err)
	}
}
