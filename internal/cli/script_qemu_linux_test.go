// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/remora-go/remora/internal/vmlab"
)

// TestQEMU runs testdata/qemu: on a machine without a kernel, whose QMP socket is $qmp and
// whose process is $qemu. Besides what TestScripts has there are:
//
//	state STATE   wait until the guest is in it
//	stop STATE    stop or cont the guest
//	pausing ARG...  run remora until the guest is paused by it, and kill it
//	mail SOCKET   listen there, and speak another protocol
//	greet SOCKET  listen there, greet as QMP does, and then be silent
//	hold          be a client of $qmp until the test ends
func TestQEMU(t *testing.T) {
	b := vmlab.StartBare(t, vmlab.BareShared()...)
	state := func(ts *testscript.TestScript, want string) {
		var s struct{ Status string }
		for range 500 {
			ts.Check(b.Execute(t.Context(), "query-status", nil, &s))
			if s.Status == want {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		ts.Fatalf("the guest is %s, want %s", s.Status, want)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/qemu",
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("qmp", b.QMP())
			env.Setenv("qemu", strconv.Itoa(b.PID()))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits,
			"state": func(ts *testscript.TestScript, neg bool, args []string) {
				need(ts, neg, args, 1, "state STATE")
				state(ts, args[0])
			},
			"stop": func(ts *testscript.TestScript, neg bool, args []string) {
				need(ts, neg, args, 1, "stop stop|cont")
				ts.Check(b.Execute(t.Context(), args[0], nil, nil))
			},
			"pausing": func(ts *testscript.TestScript, neg bool, args []string) {
				need(ts, neg, args, 1, "pausing ARG...")
				cmd := exec.Command(filepath.Join(filepath.SplitList(ts.Getenv("PATH"))[0], "remora"), args...)
				out, err := cmd.StdoutPipe() // nobody reads it, so remora does not come to an end
				ts.Check(err)
				cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
				ts.Check(cmd.Start())
				state(ts, "paused")
				ts.Check(syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)) // all that a terminal would reach
				out.Close()
				cmd.Wait()
			},
			"mail": func(ts *testscript.TestScript, neg bool, args []string) {
				need(ts, neg, args, 1, "mail SOCKET")
				listens(ts, args[0], func(c net.Conn) { c.Write([]byte("220 mail\r\n")) })
			},
			"greet": func(ts *testscript.TestScript, neg bool, args []string) {
				need(ts, neg, args, 1, "greet SOCKET")
				listens(ts, args[0], func(c net.Conn) {
					c.Write([]byte(`{"QMP": {"version": {"qemu": {"micro": 0, "minor": 0, "major": 9}, "package": ""}, "capabilities": []}}` + "\r\n"))
					io.Copy(io.Discard, c)
				})
			},
			"hold": func(ts *testscript.TestScript, neg bool, args []string) {
				need(ts, neg, args, 0, "hold")
				c, err := net.Dial("unix", b.QMP())
				ts.Check(err)
				ts.Defer(func() { c.Close() })
				_, err = c.Read(make([]byte, 1)) // the greeting: it is ours
				ts.Check(err)
			},
		},
	})
	if _, err := os.Stat("/proc/" + strconv.Itoa(b.PID())); err != nil {
		t.Error("QEMU has ended")
	}
}

// listens has a socket be listened to until the test ends, and says something to who comes.
func listens(ts *testscript.TestScript, socket string, say func(net.Conn)) {
	l, err := net.Listen("unix", ts.MkAbs(socket))
	ts.Check(err)
	ts.Defer(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			say(c)
			c.Close()
		}
	}()
}
