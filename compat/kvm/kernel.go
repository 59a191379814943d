// SPDX-License-Identifier: Apache-2.0

package kvm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/compose"
	"github.com/remora-go/remora/kernel"
	"github.com/remora-go/remora/target"
)

// found is a kernel that is found in memory, of an image file or of a guest, as an Image.
type found struct {
	k     *kernel.Kernel
	in    *target.Kernel // what was opened
	layer *compose.Layer // what is written, with Config.Overlay; else nil
	phys  *remora.Memory
	swap  *os.File // nil: none
	swaps []kernel.SwapFile
	guest bool // that runs, and may stand still for as long as it is open
}

var (
	_ Image             = (*found)(nil)
	_ Refresher         = (*found)(nil)
	_ remora.Symbolizer = (*found)(nil)
	_ looker            = (*found)(nil)
	_ runner            = (*found)(nil)
)

// OpenImage is the Opener of kernel images: of all that package vmcore knows. It is tried
// by Open after those of Options.
func OpenImage(_ context.Context, c *Config) (Image, error) {
	k, err := target.OpenImage([]string{c.Corefile}, &target.Options{Write: c.Write})
	return c.image(k, err)
}

// openGuest opens a guest that runs.
func openGuest(ctx context.Context, c *Config) (Image, error) {
	k, err := openKernel(ctx, c.Corefile, c.Write)
	return c.image(k, err)
}

// image makes an Image of what was opened.
func (c *Config) image(k *target.Kernel, err error) (Image, error) {
	if err != nil {
		return nil, err
	}
	f, err := newFound(k, c)
	if err != nil {
		return nil, err
	}
	f.guest = isGuest(c.Corefile)
	return f, nil
}

// openKernel opens a kernel that package target has a name for.
func openKernel(ctx context.Context, name string, write bool) (*target.Kernel, error) {
	t, err := target.Open(ctx, name, &target.Options{Write: write})
	if err != nil {
		return nil, err
	}
	k, ok := t.(*target.Kernel)
	if !ok {
		return nil, errors.Join(unknownImage(name, "another target"), t.Close())
	}
	return k, nil
}

// newFound keeps k, and closes it where it fails.
func newFound(k *target.Kernel, c *Config) (*found, error) {
	f := &found{k: k.Kernel, in: k, phys: k.Phys.Memory()}
	if c.Overlay {
		f.layer = compose.Overlay(f.phys)
		f.phys = remora.New(overlaidMemory(f.layer, f.phys))
		f.k = k.Over(f.phys)
	}
	if err := f.openSwap(c.Swapfile); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// mappedLayer is a layer over memory of which there is a list. A layer changes what lies
// where, and not where there is something.
type mappedLayer struct {
	*compose.Layer
	remora.Mapper
}

// overlaidMemory gives what is read and written of below with a layer over it. A kernel
// that does not say where it is is looked for in the list of its memory.
func overlaidMemory(l *compose.Layer, below *remora.Memory) remora.Space {
	if m, ok := remora.As[remora.Mapper](below); ok {
		return &mappedLayer{l, m}
	}
	return l
}

// openSwap opens the file of a swap area, if there is one.
func (f *found) openSwap(name string) (err error) {
	if name == "" {
		return nil
	}
	if f.swap, err = os.Open(name); err != nil {
		return err
	}
	size, err := f.swap.Seek(0, io.SeekEnd) // of a device, too
	f.swaps = []kernel.SwapFile{{Type: -1, R: f.swap, Size: size, Name: name}}
	return err
}

// Kernel gives the kernel's address space.
func (f *found) Kernel(ctx context.Context) (*remora.Memory, error) {
	if _, err := f.k.Tables(ctx); err != nil {
		return nil, err
	}
	return f.k.Memory(), nil
}

// Physical gives physical memory.
func (f *found) Physical(context.Context) (*remora.Memory, error) { return f.phys, nil }

// Processes begins a walk over the list of processes that the kernel had.
func (f *found) Processes() Walk { return &tasks{of: f} }

// tasks walks over the processes of an image.
type tasks struct {
	of     *found
	listed bool
	left   []*kernel.Task
	err    error // what the list ends with
}

// Next gives the next process, but for one that has exited since the walk began. What could
// not be read of the list is told at its end.
func (w *tasks) Next(ctx context.Context) (*Proc, error) {
	if err := w.list(ctx); err != nil {
		return nil, err
	}
	for len(w.left) > 0 {
		p, err := w.of.steady(ctx, w.left[0])
		if err != nil {
			return nil, err
		}
		if w.left = w.left[1:]; p != nil {
			return p, nil
		}
	}
	return nil, w.err
}

// list reads the list, once. The idle tasks of processors are no processes.
func (w *tasks) list(ctx context.Context) error {
	if w.listed {
		return nil
	}
	var all []*kernel.Task
	var errs []error
	for t, err := range w.of.k.Tasks(ctx) {
		switch {
		case err != nil:
			errs = append(errs, err)
		case !t.Idle():
			all = append(all, t)
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	w.listed, w.left, w.err = true, all, errors.Join(errs...)
	if w.err == nil {
		w.err = io.EOF
	}
	return nil
}

// tick is the unit of Proc.Start, that of /proc/PID/stat: USER_HZ is 100 everywhere.
const tick = 10 * time.Millisecond

// proc makes a Proc of a task. What could not be read of it is not there.
func (f *found) proc(ctx context.Context, t *kernel.Task) (*Proc, error) {
	p := &Proc{
		PID: t.PID, PPID: t.PPID, Command: t.Comm, State: byte(t.State), System: t.KernelThread(), Start: uint64(t.StartBoot / tick),
	}
	u, err := f.k.TaskUser(ctx, t)
	if err != nil {
		return p, ctx.Err()
	}
	p.PGID, p.SID = u.Group, u.Session
	p.User = User{ArgStart: u.ArgStart, ArgEnd: u.ArgEnd, EnvStart: u.EnvStart, EnvEnd: u.EnvEnd}
	return p, nil
}

// steady makes a Proc of a task. In a kernel that runs it makes sure that the task was
// there, with the same memory, after all was read; nil where it is no more.
func (f *found) steady(ctx context.Context, t *kernel.Task) (*Proc, error) {
	const tries = 10
	for range tries {
		p, err := f.proc(ctx, t)
		if err != nil || !f.live() {
			return p, err
		}
		now, err := f.k.Task(ctx, t.PID)
		switch {
		case noTask(err), err == nil && now.StartBoot != t.StartBoot:
			return nil, nil
		case err != nil:
			return nil, err
		case now.Addr == t.Addr && now.MM == t.MM:
			return p, nil
		}
		t = now
	}
	return nil, fmt.Errorf("pid %d begins one program after another: %w", t.PID, remora.ErrBusy)
}

// User opens the memory of a process.
func (f *found) User(ctx context.Context, p *Proc) (remora.Target, error) {
	if p.System {
		return nil, fmt.Errorf("pid %d is a kernel thread: %w", p.PID, fs.ErrNotExist)
	}
	u, err := f.k.Process(ctx, p.PID, &kernel.ProcessOptions{Swaps: f.swaps})
	if err != nil {
		if f.runs() && errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%w: %w", err, remora.ErrGone)
		}
		return nil, err
	}
	if uint64(u.Task.StartBoot/tick) != p.Start {
		return nil, errors.Join(errGone(p), u.Close())
	}
	return u, nil
}

// live says whether this is a kernel that runs meanwhile.
func (f *found) live() bool { return f.phys.Info().Live }

func (f *found) runs() bool { return f.guest || f.live() }

// Refresh looks a process of a guest up again. Those of an image stay as they are.
func (f *found) Refresh(ctx context.Context, p *Proc) (*Proc, error) {
	if !f.live() {
		return p, nil
	}
	t, err := f.k.Task(ctx, p.PID)
	if noTask(err) {
		return nil, errGone(p)
	}
	if err != nil {
		return nil, err
	}
	now, err := f.steady(ctx, t)
	if err != nil {
		return nil, err
	}
	if now == nil || !now.same(p) {
		return nil, errGone(p)
	}
	return now, nil
}

// noTask says whether the kernel is there, and the task is not.
func noTask(err error) bool {
	_, ok := errors.AsType[*kernel.NoTaskError](err)
	return ok
}

// errGone says that a process is not there, or is another one now.
func errGone(p *Proc) error {
	return fmt.Errorf("pid %d of that start is not in the kernel's list: %w", p.PID, remora.ErrGone)
}

// look looks names up, and what the symbols are.
func (f *found) look(ctx context.Context, list []Nlist) error {
	all, err := f.k.Symbols(ctx)
	if err != nil {
		return err
	}
	for i := range list {
		named, err := all.Lookup(ctx, list[i].Name)
		if err != nil {
			return err
		}
		best := -1
		for j := range named {
			if best < 0 || rank(&named[j]) > rank(&named[best]) {
				best = j
			}
		}
		if best >= 0 {
			list[i].Value, list[i].Size, list[i].Type = named[best].Addr, named[best].Size, named[best].Type
		}
	}
	return nil
}

// Symbol gives the symbols of a name.
func (f *found) Symbol(ctx context.Context, name string) ([]remora.Symbol, error) {
	return f.k.Symbol(ctx, name)
}

// SymbolAt gives the symbol that is at an address, or before it.
func (f *found) SymbolAt(ctx context.Context, a remora.Addr) (remora.Symbol, bool) {
	return f.k.SymbolAt(ctx, a)
}

// Close closes the image.
func (f *found) Close() error {
	err := errors.Join(f.k.Close(), f.in.Close())
	if f.layer != nil {
		err = errors.Join(err, f.layer.Close())
	}
	if f.swap != nil {
		err = errors.Join(err, f.swap.Close())
	}
	return err
}
