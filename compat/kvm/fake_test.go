// SPDX-License-Identifier: Apache-2.0

package kvm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/compat/errno"
	"github.com/remora-go/remora/compose"
	"github.com/remora-go/remora/memtest"
)

const (
	page = 4096
	rw   = remora.PermRead | remora.PermWrite

	physSize   = 8 * page
	kernelBase = remora.Addr(0xffff888000000000) // where fakes have their physical memory
)

// fake is an Image made of Sparse spaces: one of physical memory, of which the
// kernel's is a window, and one for each process.
type fake struct {
	phys   *memtest.Sparse
	layer  *compose.Layer // nil without Overlay
	kernel remora.Space
	procs  []*Proc
	users  map[int]*memtest.Sparse
	broken error // what the list of processes ends with
	opened int   // spaces of processes
	closed int
	ended  int // calls of Close
	config Config
}

// newFake lays out physical memory with a hole in its third page, and processes.
func newFake(t testing.TB, c *Config, procs ...*Proc) *fake {
	t.Helper()
	f := &fake{phys: memtest.NewSparse(&memtest.SparseOptions{Name: "physical"}), users: map[int]*memtest.Sparse{}, config: *c}
	for _, r := range []remora.Range{{Start: 0, Size: 2 * page}, {Start: 3 * page, Size: physSize - 3*page}} {
		if err := f.phys.Map(r, memtest.MapOptions{Perm: rw}); err != nil {
			t.Fatal(err)
		}
		if err := f.phys.Poke(pattern(r), r.Start); err != nil {
			t.Fatal(err)
		}
	}
	window, err := compose.Window(f.base(), remora.Range{Size: physSize}, kernelBase)
	if err != nil {
		t.Fatal(err)
	}
	f.kernel = &fakeKernel{window}
	f.procs = procs
	return f
}

// base is physical memory as the configuration has it.
func (f *fake) base() remora.Space {
	switch {
	case f.config.Overlay:
		if f.layer == nil {
			f.layer = compose.Overlay(f.phys)
		}
		return f.layer
	case f.config.Write:
		return f.phys
	}
	return compose.ReadOnly(f.phys)
}

// fakeKernel translates addresses of the kernel.
type fakeKernel struct{ remora.Space }

func (k *fakeKernel) Translate(_ context.Context, a remora.Addr) remora.Extent {
	if a < kernelBase || a-kernelBase >= physSize {
		return remora.Extent{Virt: a, Size: 1, Err: remora.ErrNoTable}
	}
	return remora.Extent{Virt: kernelBase, Size: physSize}
}

// addUser gives a process two pages at 0x10000, a hole and a protected page.
func (f *fake) addUser(t testing.TB, pid int, live bool) *memtest.Sparse {
	t.Helper()
	s := memtest.NewSparse(&memtest.SparseOptions{Name: fmt.Sprintf("pid %d", pid), Live: live})
	for _, m := range []struct {
		remora.Range
		perm remora.Perm
	}{
		{remora.Range{Start: 0x10000, Size: 2 * page}, rw},
		{remora.Range{Start: 0x13000, Size: page}, 0},
	} {
		if err := s.Map(m.Range, memtest.MapOptions{Perm: m.perm}); err != nil {
			t.Fatal(err)
		}
		if err := s.Poke(pattern(m.Range), m.Start); err != nil {
			t.Fatal(err)
		}
	}
	f.users[pid] = s
	return s
}

func (f *fake) Kernel(context.Context) (*remora.Memory, error) { return remora.New(f.kernel), nil }
func (f *fake) Physical(context.Context) (*remora.Memory, error) {
	return remora.New(f.base()), nil
}
func (f *fake) Close() error { f.ended++; return nil }

func (f *fake) Processes() Walk { return &fakeWalk{f: f} }

type fakeWalk struct {
	f *fake
	i int
}

func (w *fakeWalk) Next(context.Context) (*Proc, error) {
	if w.i < len(w.f.procs) {
		w.i++
		p := *w.f.procs[w.i-1]
		return &p, nil
	}
	if w.f.broken != nil {
		return nil, w.f.broken
	}
	return nil, io.EOF
}

func (f *fake) User(_ context.Context, p *Proc) (remora.Target, error) {
	s := f.users[p.PID]
	if s == nil {
		return nil, fmt.Errorf("pid %d: %w", p.PID, remora.ErrGone)
	}
	f.opened++
	return &fakeUser{f, s}, nil
}

type fakeUser struct {
	f *fake
	s *memtest.Sparse
}

func (u *fakeUser) Memory() *remora.Memory { return u.s.Memory() }
func (u *fakeUser) Close() error           { u.f.closed++; return nil }

// fakeOpener opens files that begin with "FAKE", and gives fakes to make.
func fakeOpener(made *[]*fake, make func(*Config) *fake) Opener {
	return func(_ context.Context, c *Config) (Image, error) {
		b, err := os.ReadFile(c.Corefile)
		if err != nil {
			return nil, err
		}
		if !bytes.HasPrefix(b, []byte("FAKE")) {
			return nil, unknownImage(c.Corefile, "no fake")
		}
		f := make(c)
		*made = append(*made, f)
		return f, nil
	}
}

func pattern(r remora.Range) []byte {
	b := make([]byte, r.Size)
	for i := range b {
		a := uint64(r.Start) + uint64(i)
		b[i] = byte(a ^ a>>8 ^ a>>16*7 + 1)
	}
	return b
}

func writeFile(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// wantError checks that err is that of a call which C would see fail.
func wantError(t testing.TB, err error, number errno.Errno, is error) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("%v (%T): want an *Error", err, err)
	}
	if e.Errno != number || !errors.Is(err, is) || !errors.Is(err, number) {
		t.Fatalf("%v: errno %s, want %s and an error that Is %v", err, e.Errno.Name(), number.Name(), is)
	}
}

// wantFailed checks a transfer that C would see return -1.
func wantFailed(t testing.TB, n int, err error, number errno.Errno, is error) {
	t.Helper()
	if n != -1 {
		t.Fatalf("%d, %v: want -1", n, err)
	}
	wantError(t, err, number, is)
}

// wantShort checks a transfer that ended early at a, and for which C has no errno.
func wantShort(t testing.TB, n int, err error, want int, a remora.Addr, is error) {
	t.Helper()
	var f *remora.Fault
	var e *Error
	if n != want || !errors.As(err, &f) || f.Addr != a || !errors.Is(err, is) || errors.As(err, &e) {
		t.Fatalf("%d, %v: want %d and a fault at %v that Is %v", n, err, want, a, is)
	}
}

func wantAll(t testing.TB, n int, err error, want int) {
	t.Helper()
	if n != want || err != nil {
		t.Fatalf("%d, %v: want %d", n, err, want)
	}
}
