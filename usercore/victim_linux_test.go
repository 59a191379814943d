// SPDX-License-Identifier: Apache-2.0

//go:build !race && (amd64 || arm64 || 386)

package usercore_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/testneed"
)

// The race build is left out: its process has terabytes of shadow memory, and the
// program under test does nothing at the same time here.

// childEnv makes the test program the process that cores are made of. Its value is
// the largest core that the kernel may write of it, in bytes.
const childEnv = "REMORA_USERCORE_CHILD"

func TestMain(m *testing.M) {
	if limit := os.Getenv(childEnv); limit != "" {
		crash(limit)
	}
	os.Exit(m.Run())
}

// layout is what the child tells about itself.
type layout struct {
	Anon    remora.Addr // private memory, written
	Shared  remora.Addr // shared memory, written
	Never   remora.Addr // private memory, never touched
	None    remora.Addr // private memory that nothing may touch
	Hidden  remora.Addr // written, and marked to be left out of cores
	File    remora.Addr // a private mapping of a file, not written
	Crash   int64       // id of the thread that will crash
	Waiting []int64     // ids of threads in a system call
}

// pages is how large each of these is. No other mapping is likely to be.
const pages = 37

// crash lays out memory, tells about it, and touches what nothing may touch when
// its input says so. The signal is blocked, so the kernel ends the process there
// and then, and no line of this program sees it.
func crash(limit string) {
	runtime.LockOSThread()
	debug.SetGCPercent(-1)
	check := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	most, err := strconv.ParseUint(limit, 0, 64)
	check(err)
	check(unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{Cur: most, Max: most}))
	if err := unix.Prctl(unix.PR_SET_PTRACER, ^uintptr(0), 0, 0, 0); err != unix.EINVAL { // no Yama
		check(err)
	}
	size := pages * os.Getpagesize()
	const anonymous, private, shared = unix.MAP_ANON, unix.MAP_PRIVATE, unix.MAP_SHARED
	var all [][]byte
	area := func(fd, prot, flags int) (remora.Addr, []byte) {
		b, err := unix.Mmap(fd, 0, size, prot, flags)
		check(err)
		all = append(all, b)
		text := fmt.Sprintf("%p", b)
		a, err := strconv.ParseUint(text, 0, 64)
		check(err)
		return remora.Addr(a), b
	}
	maps, err := os.ReadFile("/proc/self/maps")
	check(err)
	check(hideReserved(string(maps)))
	const rw = unix.PROT_READ | unix.PROT_WRITE
	var l layout
	var b, none []byte
	l.Anon, b = area(-1, rw, private|anonymous)
	copy(b, fill(size, 1))
	check(unix.Mprotect(b, unix.PROT_READ))
	l.Shared, b = area(-1, rw, shared|anonymous)
	copy(b, fill(size, 2))
	l.Never, _ = area(-1, unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC, private|anonymous)
	l.None, none = area(-1, unix.PROT_NONE, private|anonymous)
	l.Hidden, b = area(-1, rw, private|anonymous)
	copy(b, fill(size, 3))
	check(unix.Madvise(b, unix.MADV_DONTDUMP))
	f, err := os.Open("mapped file")
	check(err)
	l.File, b = area(int(f.Fd()), unix.PROT_READ, private)
	fmt.Fprintln(io.Discard, b[0])

	var pipe [2]int
	check(unix.Pipe2(pipe[:], 0))
	ids := make(chan int64)
	for range 2 {
		go func() {
			runtime.LockOSThread()
			ids <- int64(unix.Gettid())
			for {
				unix.Read(pipe[0], make([]byte, 1)) // for ever
			}
		}()
		l.Waiting = append(l.Waiting, <-ids)
	}
	l.Crash = int64(unix.Gettid())
	check(json.NewEncoder(os.Stdout).Encode(l))
	if _, err := os.Stdin.Read(make([]byte, 1)); err != nil {
		os.Exit(0) // the parent is gone
	}
	var mask unix.Sigset_t
	for i := range mask.Val {
		mask.Val[i] = ^mask.Val[i]
	}
	check(unix.PthreadSigmask(unix.SIG_BLOCK, &mask, nil))
	none[faultAt] = 1
	runtime.KeepAlive(all)
	os.Exit(0)
}

// hideReserved leaves the address space that Go has reserved out of cores. The
// kernel does so anyhow; gdb would write and read a gigabyte of zeros.
func hideReserved(maps string) error {
	for line := range strings.Lines(maps) {
		var first, last uint64
		var perm string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &first, &last, &perm); err != nil {
			return err
		}
		if perm != "---p" {
			continue
		}
		if _, _, e := unix.RawSyscall(unix.SYS_MADVISE, uintptr(first), uintptr(last-first), unix.MADV_DONTDUMP); e != 0 {
			return e
		}
	}
	return nil
}

// faultAt is where in None the child crashes.
const faultAt = 0x1234

// victimProcess is a running child.
type victimProcess struct {
	layout
	cmd *exec.Cmd
	in  io.Closer
	go_ io.Writer
	dir string // its directory, where the kernel may put a core
	mem *os.File
}

// startVictim starts a child that may leave a core of at most limit bytes.
func startVictim(t *testing.T, limit uint64) *victimProcess {
	t.Helper()
	v := &victimProcess{dir: t.TempDir()}
	if err := os.WriteFile(filepath.Join(v.dir, "mapped file"), fill(pages*os.Getpagesize(), 4), 0o600); err != nil {
		t.Fatal(err)
	}
	v.cmd = exec.Command(executable(t))
	v.cmd.Dir, v.cmd.Env, v.cmd.Stderr = v.dir, append(os.Environ(), fmt.Sprintf("%s=%d", childEnv, limit)), os.Stderr
	in, err := v.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := v.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := v.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	v.in, v.go_ = in, in
	t.Cleanup(func() { in.Close(); v.cmd.Process.Kill(); v.cmd.Wait() })
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &v.layout)
	}
	if err != nil {
		t.Fatalf("the child said %q: %v", line, err)
	}
	v.openMem(t)
	return v
}

func executable(t *testing.T) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func (v *victimProcess) openMem(t *testing.T) {
	t.Helper()
	var err error
	if v.mem, err = os.Open(v.proc("mem")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { v.mem.Close() })
}

// startSleep starts a program of the system, with its libraries and build ids.
func startSleep(t *testing.T) *victimProcess {
	t.Helper()
	path, err := exec.LookPath("sleep")
	require(t, err == nil, "no sleep on the PATH")
	v := &victimProcess{dir: t.TempDir(), cmd: exec.Command(path, "1000")}
	v.cmd.Dir = v.dir
	if err := v.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { v.cmd.Process.Kill(); v.cmd.Wait() })
	pid := v.cmd.Process.Pid
	if err := unix.Prlimit(pid, unix.RLIMIT_CORE, &unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}, nil); err != nil {
		t.Fatal(err)
	}
	v.setFilter(t, "0x33")
	// clock_nanosleep, or nanosleep, of a machine that may not be this program's
	sleeps := []string{"230", "35", "407", "267", "162", "115", "101"}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		if number, _, _ := strings.Cut(v.read(t, "syscall"), " "); slices.Contains(sleeps, number) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("sleep does not sleep: %s", v.read(t, "syscall"))
		}
	}
	v.openMem(t)
	return v
}

// proc is a path below /proc/PID.
func (v *victimProcess) proc(path string) string {
	return filepath.Join("/proc", strconv.Itoa(v.cmd.Process.Pid), path)
}

func (v *victimProcess) read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(v.proc(path))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// waiting gives the stack pointer and the program counter of a thread in a system
// call, which /proc shows once it is in there.
func (v *victimProcess) waiting(t *testing.T, tid int64) (sp, pc remora.Addr) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		f := strings.Fields(v.read(t, fmt.Sprintf("task/%d/syscall", tid)))
		if len(f) < 9 || f[0] == "-1" {
			continue // running
		}
		a, err1 := strconv.ParseUint(f[7], 0, 64)
		b, err2 := strconv.ParseUint(f[8], 0, 64)
		if err1 != nil || err2 != nil {
			t.Fatal(f)
		}
		return remora.Addr(a), remora.Addr(b)
	}
	t.Fatalf("thread %d does not wait", tid)
	return 0, 0
}

// kill ends the child by a signal, and gives the core that the kernel wrote.
func (v *victimProcess) kill(t *testing.T) string {
	t.Helper()
	if v.go_ == nil {
		unix.Kill(v.cmd.Process.Pid, unix.SIGABRT)
	} else if _, err := v.go_.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	v.cmd.Wait()
	st, ok := v.cmd.ProcessState.Sys().(interface {
		CoreDump() bool
		Signaled() bool
	})
	if !ok || !st.Signaled() {
		t.Fatalf("the child did not crash: %v", v.cmd.ProcessState)
	}
	list, err := os.ReadDir(v.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		if e.Name() != "mapped file" {
			return filepath.Join(v.dir, e.Name())
		}
	}
	t.Fatalf("no core in the directory of the child: %v", v.cmd.ProcessState)
	return ""
}

// require ends a test for want of something that is not there.
func require(t *testing.T, there bool, lack string) {
	t.Helper()
	if !there {
		testneed.Lacks(t, lack)
	}
}

// requireCores wants the kernel to write cores into the directory of the process.
func requireCores(t *testing.T) {
	t.Helper()
	b, err := os.ReadFile("/proc/sys/kernel/core_pattern")
	pattern := strings.TrimSpace(string(b))
	require(t, err == nil && pattern != "" && !strings.ContainsAny(pattern, "|/@"),
		fmt.Sprintf("kernel.core_pattern is %q: cores do not go to the directory of the process; \"core\" would do", pattern))
	var lim unix.Rlimit
	err = unix.Getrlimit(unix.RLIMIT_CORE, &lim)
	require(t, err == nil && lim.Max == unix.RLIM_INFINITY, "the hard limit of RLIMIT_CORE forbids cores")
}

func requireGDB(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("gdb")
	require(t, err == nil, "gdb is not installed")
	return path
}
