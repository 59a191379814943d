// SPDX-License-Identifier: Apache-2.0

package kvm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/compose"
	"github.com/remora-go/remora/proc"
	"github.com/remora-go/remora/target"
)

// running is the running Linux system as an Image: processes are those of /proc, and the
// kernel is the one that package target finds in this machine's memory.
type running struct {
	root    string // "/proc"
	read    func(path string) ([]byte, error)
	kernel  func(ctx context.Context, write bool) (*target.Kernel, error)
	write   bool // processes are opened for writing, and the kernel where it can be
	overlay bool
	memory  *found            // of the kernel, when it is open
	refused error             // why that is read only, though write is set
	kept    map[key]*overlaid // processes with changes that are kept in memory
}

var (
	_ Image     = (*running)(nil)
	_ Refresher = (*running)(nil)
	_ guarded   = (*running)(nil)
	_ looker    = (*running)(nil)
)

// key says which process: a number can come to mean another one.
type key struct {
	pid   int
	start uint64
}

// newRunning gives the system whose processes are listed in root.
func newRunning(root string, c *Config) *running {
	return &running{
		root: root, read: os.ReadFile, write: c.Write, overlay: c.Overlay, kept: map[key]*overlaid{},
		kernel: func(ctx context.Context, write bool) (*target.Kernel, error) { return openKernel(ctx, "kernel", write) },
	}
}

// open opens the kernel's memory once. Where that cannot be opened for writing it is opened
// for reading.
func (r *running) open(ctx context.Context) (*found, error) {
	if r.memory != nil {
		return r.memory, nil
	}
	k, err := r.kernel(ctx, r.write)
	var refused error
	if err != nil && r.write && ctx.Err() == nil {
		refused = err
		k, err = r.kernel(ctx, false)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist): // no process is missing, and no file that was named
		return nil, fmt.Errorf("%v: %w", err, errors.ErrUnsupported)
	case err != nil:
		return nil, err
	}
	f, err := newFound(k, &Config{Overlay: r.overlay})
	if err != nil {
		return nil, err
	}
	r.memory, r.refused = f, refused
	return f, nil
}

// Kernel gives the kernel's address space.
func (r *running) Kernel(ctx context.Context) (*remora.Memory, error) {
	f, err := r.open(ctx)
	if err != nil {
		return nil, err
	}
	return f.Kernel(ctx)
}

// Physical gives the memory of the machine.
func (r *running) Physical(ctx context.Context) (*remora.Memory, error) {
	f, err := r.open(ctx)
	if err != nil {
		return nil, err
	}
	return f.Physical(ctx)
}

// guard says why the memory of the kernel cannot be written.
func (r *running) guard(ctx context.Context) error {
	if _, err := r.open(ctx); err != nil {
		return err
	}
	return r.refused
}

// look looks up names in the kernel's memory, where the setting kernel.kptr_restrict hides
// nothing, and in its /proc/kallsyms where that cannot be had.
func (r *running) look(ctx context.Context, list []Nlist) error {
	f, err := r.open(ctx)
	if err == nil {
		err = f.look(ctx, list)
	}
	if err == nil || ctx.Err() != nil {
		return err
	}
	reset(list)
	if other := (&namelist{filepath.Join(r.root, "kallsyms")}).find(ctx, list); other != nil {
		return fmt.Errorf("%w; and not from memory: %v", other, err)
	}
	return nil
}

// Processes begins a walk over /proc.
func (r *running) Processes() Walk { return &pids{of: r} }

// pids walks over the processes that were there at its start. One that has exited
// since is left out.
type pids struct {
	of     *running
	listed bool
	left   []int
}

// Next gives the next process by its number.
func (w *pids) Next(ctx context.Context) (*Proc, error) {
	if !w.listed {
		list, err := w.of.list()
		if err != nil {
			return nil, err
		}
		w.left, w.listed = list, true
	}
	for len(w.left) > 0 {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		pid := w.left[0]
		p, err := w.of.stat(pid)
		if errors.Is(err, fs.ErrPermission) { // listed, and hidden otherwise: hidepid=1 in proc(5)
			p, err = &Proc{PID: pid, State: '?'}, nil
		}
		if err != nil && !errors.Is(err, remora.ErrGone) {
			return nil, err
		}
		w.left = w.left[1:]
		if err == nil {
			return p, nil
		}
	}
	return nil, io.EOF
}

// list gives the numbers of all processes, in order.
func (r *running) list() ([]int, error) {
	d, err := os.Open(r.root)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var out []int
	for _, n := range names {
		if pid, err := strconv.Atoi(n); err == nil && pid > 0 {
			out = append(out, pid)
		}
	}
	slices.Sort(out)
	return out, nil
}

// stat looks a process up. The error Is remora.ErrGone where there is none.
func (r *running) stat(pid int) (*Proc, error) {
	path := filepath.Join(r.root, strconv.Itoa(pid), "stat")
	b, err := r.read(path)
	if err != nil {
		if gone(err) {
			return nil, fmt.Errorf("pid %d does not exist: %w", pid, remora.ErrGone)
		}
		return nil, err
	}
	return parseStat(path, b)
}

// Refresh looks a process up again.
func (r *running) Refresh(_ context.Context, p *Proc) (*Proc, error) {
	now, err := r.stat(p.PID)
	if err == nil && !now.same(p) {
		return nil, fmt.Errorf("pid %d has exited, and its number is another process's now: %w", p.PID, remora.ErrGone)
	}
	return now, err
}

// User opens the memory of a process. An execve is followed (R99).
func (r *running) User(ctx context.Context, p *Proc) (remora.Target, error) {
	if o := r.kept[key{p.PID, p.Start}]; o != nil {
		return o, nil
	}
	t, err := proc.Open(p.PID, &proc.Options{Write: r.write, FollowExec: true})
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w: %w", err, remora.ErrGone)
	}
	if err != nil {
		return nil, err
	}
	if _, err := r.Refresh(ctx, p); err != nil { // held now, so that this look is not too early
		return nil, errors.Join(err, t.Close())
	}
	if !r.overlay {
		return t, nil
	}
	layer := compose.Overlay(t.Memory())
	return &overlaid{of: r, key: key{p.PID, p.Start}, below: t, layer: layer, mem: remora.New(layer)}, nil
}

// overlaid is a process of which changes are kept in memory.
type overlaid struct {
	of    *running
	key   key
	below remora.Target
	layer *compose.Layer
	mem   *remora.Memory
}

// Memory gives the memory with the changes.
func (o *overlaid) Memory() *remora.Memory { return o.mem }

// Close keeps the process open for as long as the Image is when there are changes,
// so that they are there the next time.
func (o *overlaid) Close() error {
	if len(o.layer.Changes()) > 0 {
		o.of.kept[o.key] = o
		return nil
	}
	return o.end()
}

func (o *overlaid) end() error { return errors.Join(o.layer.Close(), o.below.Close()) }

// Close lets go of the kernel's memory and of all processes.
func (r *running) Close() error {
	var errs []error
	for _, o := range r.kept {
		errs = append(errs, o.end())
	}
	if r.memory != nil {
		errs = append(errs, r.memory.Close())
	}
	return errors.Join(errs...)
}
