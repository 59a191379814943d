// SPDX-License-Identifier: Apache-2.0

package main

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/remora-go/remora/bench/internal/measure"
)

//go:embed peers/*
var peers embed.FS //remora:allow globals the compiler sets it, once

// site is where the rows of one group are measured: what has been started for them, and is
// ended with them. It is a testing.TB for the laboratory (internal/vmlab), which asks for one:
// what would end a test is a panic there, see failed.
type site struct {
	testing.TB
	dir      string
	ends     []func() error // in the order of what they end
	values   []measure.Value
	handicap string // of the sides in Go, where they are Remora
	kept     *kept
	rows     []string // names of the rows that are wanted; nil: of any
}

// failure is what the laboratory has given up with.
type failure string

// failed is deferred: what has failed in the laboratory is the error.
func failed(err *error) {
	switch r := recover().(type) {
	case nil:
	case failure:
		*err = errors.New(string(r))
	default:
		panic(r)
	}
}

func (s *site) Helper()                           {}
func (s *site) Logf(format string, args ...any)   { fmt.Fprintf(os.Stderr, format+"\n", args...) }
func (s *site) Fatal(args ...any)                 { panic(failure(fmt.Sprint(args...))) }
func (s *site) Fatalf(format string, args ...any) { panic(failure(fmt.Sprintf(format, args...))) }
func (s *site) Skip(args ...any)                  { panic(failure(fmt.Sprint(args...))) }
func (s *site) Skipf(format string, args ...any)  { panic(failure(fmt.Sprintf(format, args...))) }
func (s *site) Cleanup(f func())                  { s.later(func() error { f(); return nil }) }

// TempDir gives a directory that is removed with the site.
func (s *site) TempDir() string {
	if s.dir == "" {
		dir, err := os.MkdirTemp("", "remora-bench-")
		if err != nil {
			s.Fatal(err)
		}
		s.dir = dir
	}
	dir, err := os.MkdirTemp(s.dir, "")
	if err != nil {
		s.Fatal(err)
	}
	return dir
}

// wants tells whether a row may be wanted whose name begins so.
func (s *site) wants(start string) bool {
	return s.rows == nil || slices.ContainsFunc(s.rows, func(name string) bool { return strings.HasPrefix(name, start) })
}

// later has something done when the site is closed.
func (s *site) later(f func() error) { s.ends = append(s.ends, f) }

// close ends what was started, last things first.
func (s *site) close() (err error) {
	for i := len(s.ends) - 1; i >= 0; i-- {
		err = errors.Join(err, s.ends[i]())
	}
	if s.dir != "" {
		err = errors.Join(err, os.RemoveAll(s.dir))
	}
	return err
}

// start starts a program that stays until the site is closed.
func (s *site) start(name string, args ...string) (*measure.Program, error) {
	p, err := measure.Start(exec.Command(name, args...))
	if err != nil {
		return nil, err
	}
	s.later(p.Close)
	return p, nil
}

// player starts a side that is written in Go.
func (s *site) player(name string) (*measure.Program, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	args := []string{"-play", name}
	if s.handicap != "" && !slices.Contains([]string{"x/sys", "delve", "klauspost"}, name) { // all others are Remora
		args = append(args, "-handicap", s.handicap)
	}
	p, err := s.start(self, args...)
	if err == nil {
		p.Places = true
	}
	return p, err
}

// peer gives the path of a file of peers: a copy that other programs can read, with all the
// others beside it.
func (s *site) peer(name string) (string, error) {
	dir := filepath.Join(s.TempDir(), "peers")
	files, err := fs.Sub(peers, "peers")
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, name), os.CopyFS(dir, files)
}

// compiled starts a side that is written in C, compiled with the system's cc.
func (s *site) compiled(name string, flags ...string) (*measure.Program, error) {
	source, err := s.peer(name)
	if err != nil {
		return nil, err
	}
	binary := strings.TrimSuffix(source, ".c")
	if err := compile(binary, source, flags...); err != nil {
		return nil, err
	}
	return s.start(binary)
}

// compile makes a program of C with the system's cc.
func compile(binary, source string, flags ...string) error {
	args := append([]string{"-O2", "-Wall", "-o", binary, source}, flags...)
	if out, err := exec.Command("cc", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("cc: %w: %s", err, out)
	}
	return nil
}

// command builds the command remora, and gives its path.
func (s *site) command() (string, error) {
	path := filepath.Join(s.TempDir(), "remora")
	if _, err := goOutput("build", "-trimpath", "-o", path, "github.com/remora-go/remora/cmd/remora"); err != nil {
		return "", err
	}
	return path, nil
}
