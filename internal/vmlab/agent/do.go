// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64 || riscv64)

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/remora-go/remora/internal/sys/linux"
	"github.com/remora-go/remora/internal/vmlab/errand"
)

// agent knows the programs that it has started.
type agent struct {
	started map[int]*program
}

// program is one that was started in the background.
type program struct {
	cmd *exec.Cmd
	in  io.Writer
	out output
	err output
	end chan struct{} // closed when it has ended
}

// output is what a program prints, for who looks at it meanwhile.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) bytes() []byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	return bytes.Clone(o.b.Bytes())
}

func (a *agent) do(q *errand.Request) *errand.Reply {
	r := &errand.Reply{Number: q.Number}
	if err := a.try(q, r); err != nil {
		r.Err = err.Error()
	}
	return r
}

func (a *agent) try(q *errand.Request, r *errand.Reply) (err error) {
	switch q.Do {
	case errand.Run:
		return run(q, r)
	case errand.Start:
		return a.start(q, r)
	case errand.Read:
		r.Stdout, err = os.ReadFile(q.Path)
		return err
	case errand.Write:
		f, err := os.OpenFile(q.Path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
		if err != nil {
			return err
		}
		_, err = f.Write(q.Data)
		return errors.Join(err, f.Close())
	}
	p := a.started[q.PID]
	if p == nil {
		return fmt.Errorf("no program %d was started", q.PID)
	}
	return p.try(q, r)
}

func (p *program) try(q *errand.Request, r *errand.Reply) error {
	switch q.Do {
	case errand.Tell:
		_, err := p.in.Write(q.Data)
		return err
	case errand.Kill:
		return unix.Kill(q.PID, unix.Signal(q.Signal))
	case errand.Wait:
		<-p.end
		r.Exit = p.cmd.ProcessState.ExitCode()
	case errand.Output:
	default:
		return fmt.Errorf("%q is nothing that is done here", q.Do)
	}
	r.Stdout, r.Stderr = p.out.bytes(), p.err.bytes()
	return nil
}

func command(q *errand.Request) (*exec.Cmd, error) {
	if len(q.Args) == 0 {
		return nil, errors.New("no program is named")
	}
	c := exec.Command(q.Args[0], q.Args[1:]...)
	c.Env = append([]string{"PATH=/bin", "HOME=/tmp"}, q.Env...)
	c.Dir = "/tmp"
	c.SysProcAttr = linux.RunAs(q.UID, q.UID, nil)
	return c, nil
}

func run(q *errand.Request, r *errand.Reply) error {
	c, err := command(q)
	if err != nil {
		return err
	}
	var out, errs bytes.Buffer
	c.Stdin, c.Stdout, c.Stderr = bytes.NewReader(q.Data), &out, &errs
	err = c.Run()
	r.Stdout, r.Stderr = out.Bytes(), errs.Bytes()
	if ended, ok := errors.AsType[*exec.ExitError](err); ok {
		r.Exit = ended.ExitCode()
		return nil
	}
	return err
}

func (a *agent) start(q *errand.Request, r *errand.Reply) error {
	c, err := command(q)
	if err != nil {
		return err
	}
	p := &program{cmd: c, end: make(chan struct{})}
	c.Stdout, c.Stderr = &p.out, &p.err
	if p.in, err = c.StdinPipe(); err != nil {
		return err
	}
	if err := c.Start(); err != nil {
		return err
	}
	go func() {
		c.Wait() // how it ended is in ProcessState
		close(p.end)
	}()
	r.PID = c.Process.Pid
	a.started[r.PID] = p
	return nil
}
