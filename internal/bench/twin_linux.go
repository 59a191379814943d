// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"embed"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/remora-go/remora"
)

//go:embed testdata/*.c testdata/*.py
var sources embed.FS //remora:allow globals the compiler sets it, once

// twin is a program in C, or one that stands for it, running.
type twin struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
	dir string
}

// startTwin compiles a twin with the system's cc and starts it.
func startTwin(name string, flags ...string) (*twin, error) {
	text, err := sources.ReadFile("testdata/" + name + ".c")
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "remora-bench-")
	if err != nil {
		return nil, err
	}
	t := &twin{dir: dir}
	source, binary := filepath.Join(dir, "twin.c"), filepath.Join(dir, "twin")
	if err := os.WriteFile(source, text, 0o600); err != nil {
		return nil, err
	}
	args := append([]string{"-O2", "-Wall", "-o", binary, source}, flags...)
	if out, err := exec.Command("cc", args...).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("cc: %w: %s", err, out)
	}
	t.cmd = exec.Command(binary)
	return t.start()
}

// start starts the command, whose answers come from its output.
func (t *twin) start() (_ *twin, err error) {
	t.cmd.Stderr = os.Stderr
	if t.in, err = t.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := t.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	t.out = bufio.NewReader(out)
	return t, t.cmd.Start()
}

func (t *twin) close() error {
	t.in.Close()
	err := t.cmd.Wait()
	if t.dir != "" {
		os.RemoveAll(t.dir)
	}
	return err
}

// run has the twin run a command.
func (t *twin) run(format string, args ...any) (took time.Duration, calls int64, err error) {
	if _, err := fmt.Fprintf(t.in, format+"\n", args...); err != nil {
		return 0, 0, err
	}
	line, err := t.out.ReadString('\n')
	if err != nil {
		return 0, 0, fmt.Errorf("the twin's answer to %q: %w", format, err)
	}
	_, err = fmt.Sscan(line, &took, &calls)
	return took, calls, err
}

// load gives the twin a vector of ranges.
func (t *twin) load(segs []remora.Seg) error {
	path := filepath.Join(t.dir, "vector")
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	for i := range segs {
		fmt.Fprintf(f, "%x %d\n", uint64(segs[i].Addr), len(segs[i].Buf))
	}
	if err := f.Close(); err != nil {
		return err
	}
	_, _, err = t.run("load %s", path)
	return err
}
