// SPDX-License-Identifier: Apache-2.0

//go:build linux

package vmlab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"sync"
	"testing"
	"time"

	"github.com/remora-go/remora/internal/vmlab/errand"
)

// Agent is a guest that runs, and does what it is asked to. Its memory is another one
// than any moment's.
type Agent struct {
	t     testing.TB
	guest *guest
	ask   *os.File
	reply *os.File

	mu     sync.Mutex // one thing is asked at a time
	number int
}

// Guests gives the machines that tests of running guests go over: one, and with
// REMORA_IMAGES=all some of each architecture and age.
func Guests() []Machine {
	if os.Getenv("REMORA_IMAGES") != "all" {
		return []Machine{{Kernel: AMD64v6_1}}
	}
	return []Machine{{Kernel: AMD64v6_1}, {Kernel: AMD64v6_12, FiveLevels: true}, {Kernel: AMD64v7_2}, {Kernel: ARM64v6_12}}
}

// AgentOptions say what a guest with an agent has. Nil is the same as the zero
// AgentOptions.
type AgentOptions struct {
	Programs  []string // packages of this module, "cmd/remora": each is /bin/ and its last name
	Tests     []string // packages whose tests are /bin/ and their last name and .test
	Anonymous bool     // its memory is QEMU's own, and no file that others can map
	Arguments []string // more for QEMU

	Life time.Duration // how long it runs at most; 0 is long enough for a test of some minutes
}

// StartAgent boots a guest with an agent. It ends with the test. It skips the test, or
// fails it, as Open does.
func StartAgent(t testing.TB, m Machine, o *AgentOptions) *Agent {
	t.Helper()
	if o == nil {
		o = &AgentOptions{}
	}
	l := &Lab{Machine: m, t: t, program: "internal/vmlab/agent"}
	l.prepare()
	ctx, cancel := context.WithTimeout(context.Background(), cmp.Or(o.Life, bootTime))
	t.Cleanup(cancel)
	files, err := o.files(ctx, l.recipe.kernel.Arch)
	if err != nil {
		t.Fatalf("vmlab: %s: %v", m, err)
	}
	a := &Agent{t: t}
	for try := range bootTries {
		if err = a.boot(ctx, &l.recipe, t.TempDir(), files, o); err == nil {
			t.Cleanup(a.close)
			return a
		}
		t.Logf("vmlab: %s: boot %d failed: %v", m, try, err)
	}
	t.Fatalf("vmlab: %s: %v", m, err)
	return nil
}

// files gives what the guest has in /bin.
func (o *AgentOptions) files(ctx context.Context, arch string) ([]carried, error) {
	var all []carried
	for _, pkg := range o.Programs {
		b, err := build(ctx, arch, "build", pkg)
		if err != nil {
			return nil, err
		}
		all = append(all, carried{"bin/" + path.Base(pkg), modeExec, b})
	}
	for _, pkg := range o.Tests {
		b, err := build(ctx, arch, "test -c", pkg)
		if err != nil {
			return nil, err
		}
		all = append(all, carried{"bin/" + path.Base(pkg) + ".test", modeExec, b})
	}
	return all, nil
}

func (a *Agent) boot(ctx context.Context, r *recipe, dir string, files []carried, o *AgentOptions) error {
	for name, size := range map[string]int64{"swap": swapSize, errand.Ask: errand.DiskSize, errand.Answer: errand.DiskSize} {
		if err := sparse(dir+"/"+name, size); err != nil {
			return err
		}
	}
	ram := dir + "/ram"
	if o.Anonymous {
		ram = anonymousRAM
	}
	disks := []disk{{"swap", dir + "/swap"}, {errand.Ask, dir + "/" + errand.Ask}, {errand.Answer, dir + "/" + errand.Answer}}
	g, err := r.start(ctx, dir, "agent", ram, files, disks, func(sockets string) []string {
		return append([]string{
			"-qmp", "unix:" + sockets + "/monitor,server=on,wait=off",
			"-chardev", "socket,id=stub,path=" + sockets + "/stub,server=on,wait=off", "-gdb", "chardev:stub",
		}, o.Arguments...)
	})
	if err != nil {
		return err
	}
	if _, err = g.await(ctx, "ready"); err != nil {
		err = fmt.Errorf("%w; the console ended so:\n%s", err, tail(dir+"/console.log"))
	}
	if err == nil {
		a.ask, err = os.OpenFile(dir+"/"+errand.Ask, os.O_WRONLY, 0)
	}
	if err == nil {
		a.reply, err = os.Open(dir + "/" + errand.Answer)
	}
	if err != nil {
		g.kill()
		os.RemoveAll(g.dir)
		return err
	}
	a.guest = g
	return nil
}

func (a *Agent) close() {
	a.guest.kill()
	os.RemoveAll(a.guest.dir)
	a.ask.Close()
	a.reply.Close()
}

// QMP gives the path of a QMP socket that nobody else uses.
func (a *Agent) QMP() string { return a.guest.dir + "/monitor" }

// Stub gives the path of the socket of QEMU's gdb stub.
func (a *Agent) Stub() string { return a.guest.dir + "/stub" }

// PID gives the process of QEMU.
func (a *Agent) PID() int { return a.guest.cmd.Process.Pid }

// RAM gives the file that is the guest's memory, "" if it is nobody's but QEMU's.
func (a *Agent) RAM() string {
	if a.guest.ram == anonymousRAM {
		return ""
	}
	return a.guest.ram
}

// Monitor asks QEMU's monitor about a processor, through a socket of the laboratory's.
func (a *Agent) Monitor(ctx context.Context, cpu int, line string) (string, error) {
	return a.guest.hmp(ctx, cpu, line)
}

// Execute gives QEMU a QMP command, through a socket of the laboratory's.
func (a *Agent) Execute(ctx context.Context, command string, args, result any) error {
	return a.guest.qmp.Execute(ctx, command, args, result)
}

// Ran is what a program did.
type Ran struct {
	Stdout string
	Stderr string
	Exit   int // -1 if a signal ended it
}

func ran(r *errand.Reply) Ran { return Ran{string(r.Stdout), string(r.Stderr), r.Exit} }

// Run runs a program of the guest to its end.
func (a *Agent) Run(ctx context.Context, args ...string) (Ran, error) {
	return a.RunAs(ctx, 0, args...)
}

// RunAs is Run as a user, without capabilities if that is not root.
func (a *Agent) RunAs(ctx context.Context, uid uint32, args ...string) (Ran, error) {
	return a.run(ctx, &errand.Request{Args: args, UID: uid})
}

// RunIn is Run in an environment: NAME=VALUE, besides PATH and HOME.
func (a *Agent) RunIn(ctx context.Context, env []string, args ...string) (Ran, error) {
	return a.run(ctx, &errand.Request{Args: args, Env: env})
}

func (a *Agent) run(ctx context.Context, q *errand.Request) (Ran, error) {
	q.Do = errand.Run
	r, err := a.do(ctx, q)
	if err != nil {
		return Ran{}, err
	}
	return ran(r), nil
}

// Started is a program that runs in the background in a guest.
type Started struct {
	a   *Agent
	PID int // the guest's
}

// Start starts a program in the background. Its standard input stays open: see Tell.
func (a *Agent) Start(ctx context.Context, args ...string) (*Started, error) {
	return a.StartIn(ctx, nil, args...)
}

// StartIn is Start in an environment, as RunIn has it.
func (a *Agent) StartIn(ctx context.Context, env []string, args ...string) (*Started, error) {
	r, err := a.do(ctx, &errand.Request{Do: errand.Start, Args: args, Env: env})
	if err != nil {
		return nil, err
	}
	return &Started{a, r.PID}, nil
}

// Tell writes to the program's standard input.
func (s *Started) Tell(ctx context.Context, text string) error {
	_, err := s.a.do(ctx, &errand.Request{Do: errand.Tell, PID: s.PID, Data: []byte(text)})
	return err
}

// Output gives what it has printed until now. Exit counts for nothing.
func (s *Started) Output(ctx context.Context) (Ran, error) {
	r, err := s.a.do(ctx, &errand.Request{Do: errand.Output, PID: s.PID})
	if err != nil {
		return Ran{}, err
	}
	return ran(r), nil
}

// sigKill is SIGKILL of every Linux.
const sigKill = 9

// End kills it, waits for its end, and gives all that it printed.
func (s *Started) End(ctx context.Context) (Ran, error) {
	// It may have ended by itself.
	if _, err := s.a.do(ctx, &errand.Request{Do: errand.Kill, PID: s.PID, Signal: sigKill}); err != nil && ctx.Err() != nil {
		return Ran{}, err
	}
	r, err := s.a.do(ctx, &errand.Request{Do: errand.Wait, PID: s.PID})
	if err != nil {
		return Ran{}, err
	}
	return ran(r), nil
}

// ReadFile reads a file of the guest's.
func (a *Agent) ReadFile(ctx context.Context, name string) ([]byte, error) {
	r, err := a.do(ctx, &errand.Request{Do: errand.Read, Path: name})
	if err != nil {
		return nil, err
	}
	return r.Stdout, nil
}

// WriteFile writes a file of the guest's: it may be a setting.
func (a *Agent) WriteFile(ctx context.Context, name string, b []byte) error {
	_, err := a.do(ctx, &errand.Request{Do: errand.Write, Path: name, Data: b})
	return err
}

// do asks for one thing and waits for the answer.
func (a *Agent) do(ctx context.Context, q *errand.Request) (*errand.Reply, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.number++
	q.Number = a.number
	if err := errand.Put(a.ask, q); err != nil {
		return nil, fmt.Errorf("vmlab: %w", err)
	}
	if err := a.answered(ctx, q.Number); err != nil {
		return nil, fmt.Errorf("vmlab: %w", err)
	}
	r := &errand.Reply{}
	if err := errand.Take(a.reply, r); err != nil {
		return nil, fmt.Errorf("vmlab: the answer: %w", err)
	}
	if r.Err != "" {
		return nil, errors.New("in the guest: " + r.Err)
	}
	return r, nil
}

// sayAgain is after how long a request is told of again: what the kernel prints on the
// console can be in the midst of a line.
const sayAgain = 10 * time.Second

// answered tells the agent of a request, and waits until it says that there is an answer.
func (a *Agent) answered(ctx context.Context, number int) error {
	for {
		if _, err := fmt.Fprintf(a.guest.in, "go %d\n", number); err != nil {
			return fmt.Errorf("the console: %w", err)
		}
		wait, cancel := context.WithTimeout(ctx, sayAgain)
		_, err := a.guest.await(wait, fmt.Sprintf("answer %d", number))
		late := wait.Err() != nil && ctx.Err() == nil
		cancel()
		if err == nil || !late {
			return err
		}
	}
}
