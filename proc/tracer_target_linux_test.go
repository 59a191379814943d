// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"reflect"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// tracerRole says, in the environment of a process that these tests start, what it
// is to be.
const tracerRole = "REMORA_TEST_TRACER_ROLE"

// Slots of the page that a target shares with the test, each a uint64.
const (
	slotCounters = 0   // one for each counting thread
	slotSignals  = 128 // by signal number
	slotBirths   = 300 // programs that began in this process: 1, and 1 for each execve
	slotCount    = 512
)

// target is a process to be traced.
type target struct {
	t      *testing.T
	cmd    *exec.Cmd
	in     *os.File
	out    *bufio.Reader
	shared []byte
	waited bool
}

// startTarget starts this test binary again in a role. It is killed and waited for
// at the end of the test, which then has no goroutine left.
func startTarget(t *testing.T, role ...string) *target {
	t.Helper()
	t.Cleanup(func() { goleak.VerifyNone(t) })
	fd, err := unix.MemfdCreate("shared", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(fd), "shared")
	defer file.Close()
	if err := file.Truncate(8 * slotCount); err != nil {
		t.Fatal(err)
	}
	shared, err := unix.Mmap(fd, 0, 8*slotCount, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	childIn, in := pipe(t)
	out, childOut := pipe(t)
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestTracerRole$", "-test.count=1")
	cmd.Env = append(os.Environ(), tracerRole+"="+strings.Join(role, " "))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = childIn, childOut, os.Stderr
	cmd.ExtraFiles = []*os.File{file}
	// A group whose leader's parent is outside of it: an orphaned one ignores SIGTSTP.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	childIn.Close()
	childOut.Close()
	g := &target{t: t, cmd: cmd, in: in, out: bufio.NewReader(out), shared: shared}
	t.Cleanup(func() {
		in.Close()
		if !g.waited {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
		out.Close()
		_ = unix.Munmap(shared)
	})
	if got := g.line(); got != "ready" {
		t.Fatalf("the target says %q", got)
	}
	return g
}

func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	return r, w
}

func (g *target) pid() int { return g.cmd.Process.Pid }

// tracer makes a tracer of the target, closed at the end of the test.
func (g *target) tracer() *tracer {
	tr := newTracer(g.pid())
	g.t.Cleanup(tr.close)
	return tr
}

// wait waits for the end of the target. It must not be under a pause.
func (g *target) wait() error {
	g.waited = true
	return g.cmd.Wait()
}

func (g *target) line() string {
	g.t.Helper()
	s, err := g.out.ReadString('\n')
	if err != nil {
		g.t.Fatalf("the target's answer: %v", err)
	}
	return strings.TrimSpace(s)
}

// ask sends a command to the target and gives its answer.
func (g *target) ask(format string, args ...any) string {
	g.t.Helper()
	if _, err := fmt.Fprintf(g.in, format+"\n", args...); err != nil {
		g.t.Fatal(err)
	}
	return g.line()
}

func (g *target) askNumber(format string, args ...any) uint64 {
	g.t.Helper()
	s := g.ask(format, args...)
	n, err := strconv.ParseUint(s, 0, 64)
	if err != nil {
		g.t.Fatalf("the target says %q", s)
	}
	return n
}

func (g *target) kill(sig syscall.Signal) {
	g.t.Helper()
	if err := g.cmd.Process.Signal(sig); err != nil {
		g.t.Fatal(err)
	}
}

func (g *target) slot(i int) uint64 { return binary.NativeEndian.Uint64(g.shared[8*i:]) }

func (g *target) counters() (c [8]uint64) {
	for i := range c {
		c[i] = g.slot(slotCounters + i)
	}
	return c
}

// states gives the state letters of all threads, in no order.
func (g *target) states() string {
	g.t.Helper()
	var states []byte
	for _, dir := range g.tasks() {
		text, err := os.ReadFile(dir + "/stat")
		if err != nil {
			continue // it has ended
		}
		s := string(text)
		states = append(states, s[strings.LastIndexByte(s, ')')+2])
	}
	return string(states)
}

func (g *target) tasks() []string {
	dirs, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", g.pid()))
	if err != nil {
		g.t.Fatal(err)
	}
	return dirs
}

// wantState fails unless every thread is in the state.
func (g *target) wantState(state string) {
	g.t.Helper()
	if got := g.states(); strings.Trim(got, state) != "" || got == "" {
		g.t.Errorf("the threads are in states %q, want only %q", got, state)
	}
}

// awaitState waits until every thread is in the state.
func (g *target) awaitState(state string) {
	g.t.Helper()
	await(g.t, "every thread in state "+state, func() bool { return strings.Trim(g.states(), state) == "" })
}

// wantFree fails if a thread is still traced.
func (g *target) wantFree() {
	g.t.Helper()
	for _, dir := range g.tasks() {
		text, err := os.ReadFile(dir + "/status")
		if err == nil && statusField(text, "TracerPid:") != 0 {
			g.t.Errorf("%s is still traced by %d", dir, statusField(text, "TracerPid:"))
		}
	}
}

// wantRunning waits until all n counting threads have gone on.
func (g *target) wantRunning(n int) {
	g.t.Helper()
	before := g.counters()
	await(g.t, "every counter goes on", func() bool {
		now := g.counters()
		for i := range n {
			if now[i] == before[i] {
				return false
			}
		}
		return true
	})
}

// stopping begins a stop that cannot end yet, for one thread sleeps uninterruptibly, and
// waits until the others have stopped.
func (g *target) stopping(tr *tracer) <-chan error {
	g.t.Helper()
	result := make(chan error, 1)
	go func() { result <- tr.stop(context.Background()) }()
	await(g.t, "the others have stopped", func() bool {
		if len(result) > 0 {
			g.t.Fatalf("stop: %v, with threads in states %q", <-result, g.states())
		}
		return strings.Trim(g.states(), "tD") == ""
	})
	return result
}

// await waits for what must come true; the limit only ends a test that has failed.
func await(t testing.TB, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// TestTracerRole is what a process started by these tests runs.
func TestTracerRole(t *testing.T) {
	role := strings.Fields(os.Getenv(tracerRole))
	if len(role) == 0 {
		if os.Getenv(tracerRole) != "" {
			t.Fatal("an empty role")
		}
		return
	}
	n := 0
	if len(role) > 1 {
		n, _ = strconv.Atoi(role[1])
	}
	// Some threads never give up their processor, whatever the test was run with.
	runtime.GOMAXPROCS(16)
	switch role[0] {
	case "count":
		serveTarget(mapShared(), n)
	case "signals":
		shared := mapShared()
		countSignals(shared)
		serveTarget(shared, n)
	case "churn":
		for range n {
			go churn()
		}
		serveTarget(mapShared(), 0)
	case "exec":
		execStorm(mapShared(), n)
	case "tracer":
		tr := newTracer(n)
		if err := tr.stop(context.Background()); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("ready")
		_, _ = os.Stdin.Read(make([]byte, 1)) // until killed
	case "parent":
		serveParent()
	}
	os.Exit(0)
}

func mapShared() []byte {
	shared, err := unix.Mmap(3, 0, 8*slotCount, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		panic(err)
	}
	return shared
}

func bump(shared []byte, slot int) {
	b := shared[8*slot:]
	binary.NativeEndian.PutUint64(b, binary.NativeEndian.Uint64(b)+1)
}

// count counts for ever.
func count(shared []byte, slot int) {
	for i := 0; ; i++ {
		bump(shared, slot)
		if i%1000 == 0 {
			time.Sleep(100 * time.Microsecond)
		}
	}
}

// churn makes threads that end, for ever.
func churn() {
	for {
		done := make(chan struct{})
		go func() {
			runtime.LockOSThread() // never unlocked: the thread ends too
			close(done)
		}()
		<-done
		time.Sleep(time.Millisecond)
	}
}

// execStorm calls execve from a thread that is not the leader, n times, with some
// threads beside it; then it serves.
func execStorm(shared []byte, n int) {
	bump(shared, slotBirths)
	for i := range 4 {
		besideMain(func() { count(shared, slotCounters+i) })
	}
	if binary.NativeEndian.Uint64(shared[8*slotBirths:]) == 1 {
		fmt.Println("ready")
	}
	if n == 0 {
		serveCommands(shared)
	}
	time.Sleep(2 * time.Millisecond)
	_ = os.Setenv(tracerRole, "exec "+strconv.Itoa(n-1))
	panic(unix.Exec("/proc/self/exe", os.Args, os.Environ()))
}

// serveTarget counts in n threads and answers commands.
func serveTarget(shared []byte, n int) {
	for i := range n {
		besideMain(func() { count(shared, slotCounters+i) })
	}
	fmt.Println("ready")
	serveCommands(shared)
}

func serveCommands(shared []byte) {
	page := os.Getpagesize()
	protected, err := unix.Mmap(-1, 0, page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err == nil {
		err = unix.Mprotect(protected, unix.PROT_READ)
	}
	holed, err2 := unix.Mmap(-1, 0, 4*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil || err2 != nil {
		panic("mmap failed")
	}
	for i := range holed {
		holed[i] = byte(i*7 + i>>8)
	}
	addr := reflect.ValueOf(holed).Pointer()
	if _, _, errno := unix.Syscall(unix.SYS_MUNMAP, addr+uintptr(page), uintptr(page), 0); errno != 0 {
		panic(errno)
	}
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		var word string
		var n int
		_, _ = fmt.Sscan(in.Text(), &word, &n)
		switch word {
		case "protected": // a page that may only be read
			fmt.Println(reflect.ValueOf(protected).Pointer())
		case "look":
			fmt.Println(protected[n])
		case "holed": // a page, a hole, and two pages
			fmt.Println(addr)
		case "lookholed":
			fmt.Println(holed[n])
		case "text":
			fmt.Println(reflect.ValueOf(serveCommands).Pointer())
		case "thread":
			id := make(chan int)
			besideMain(func() {
				id <- unix.Gettid()
				select {}
			})
			fmt.Println(<-id)
		case "asleep": // a thread that waits uninterruptibly until its child ends
			child := make(chan int)
			besideMain(func() {
				child <- unix.Gettid()
				vfork()
				select {}
			})
			fmt.Println(<-child)
		case "leave": // the leader ends, the others live
			leaveLeader()
			fmt.Println("left")
		case "exit":
			os.Exit(n)
		}
	}
}

// vfork makes a child and sleeps, uninterruptibly but for SIGKILL, until that ends.
//
//go:norace
//go:nosplit
func vfork() {
	pid, _, errno := syscall.RawSyscall6(syscall.SYS_CLONE, unix.CLONE_VFORK|uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	if pid == 0 && errno == 0 {
		syscall.RawSyscall(syscall.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0)
		for {
			syscall.RawSyscall6(unix.SYS_PPOLL, 0, 0, 0, 0, 0, 0)
		}
	}
}

// serveParent starts a counting target, says its pid, and how it ended.
func serveParent() {
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestTracerRole$")
	cmd.Env = append(os.Environ(), tracerRole+"=count 2")
	cmd.ExtraFiles = []*os.File{os.NewFile(3, "shared")}
	out, err := cmd.StdoutPipe()
	stdin, err2 := cmd.StdinPipe()
	if err != nil || err2 != nil || cmd.Start() != nil {
		panic("no child")
	}
	defer stdin.Close()
	_, _ = bufio.NewReader(out).ReadString('\n')
	fmt.Println("ready")
	fmt.Println(cmd.Process.Pid)
	fmt.Println(cmd.Wait())
}

// onMainThread starts f on the main thread of this process. Goroutines that are
// locked to their threads use up the others until one of them gets it.
func onMainThread(f func()) {
	found, free := make(chan struct{}), make(chan struct{})
	defer close(free)
	for {
		go func() {
			runtime.LockOSThread()
			if unix.Gettid() == os.Getpid() {
				close(found)
				f()
			}
			<-free
			runtime.UnlockOSThread()
		}()
		select {
		case <-found:
			return
		case <-time.After(time.Millisecond):
		}
	}
}

// leaveLeader ends the main thread and nothing else.
func leaveLeader() {
	gone := make(chan struct{})
	go onMainThread(func() {
		close(gone)
		_, _, _ = unix.Syscall(unix.SYS_EXIT, 0, 0, 0)
	})
	<-gone
}

// besideMain runs f in a thread of its own that is not the main one.
func besideMain(f func()) {
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if unix.Gettid() != os.Getpid() {
			f()
			return
		}
		locked := make(chan struct{})
		go func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			close(locked)
			f()
		}()
		<-locked
	}()
}

func countSignals(shared []byte) {
	signals := make(chan os.Signal, 100)
	signal.Notify(signals, unix.SIGUSR1, unix.SIGUSR2, unix.SIGHUP, unix.SIGWINCH)
	go func() {
		for s := range signals {
			bump(shared, slotSignals+int(s.(syscall.Signal)))
		}
	}()
}
