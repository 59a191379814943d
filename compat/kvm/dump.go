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
	"github.com/remora-go/remora/sym"
	"github.com/remora-go/remora/target"
)

// dump is a kernel image as an Image.
type dump struct {
	k     *target.Kernel
	layer *compose.Layer // what is written, with Config.Overlay; else nil
	phys  *remora.Memory
	swap  *os.File // nil: none
	swaps []kernel.SwapFile
}

var (
	_ Image             = (*dump)(nil)
	_ remora.Symbolizer = (*dump)(nil)
	_ typed             = (*dump)(nil)
)

// OpenImage is the Opener of kernel images: of all that package vmcore knows. It is tried
// by Open after those of Options.
func OpenImage(_ context.Context, c *Config) (Image, error) {
	d := &dump{}
	over := func(phys remora.Space) remora.Space {
		if c.Overlay {
			d.layer = compose.Overlay(phys)
			phys = d.layer
		}
		d.phys = remora.New(phys)
		return phys
	}
	var err error
	if d.k, err = target.OpenImage([]string{c.Corefile}, &target.Options{Write: c.Write}, over); err != nil {
		return nil, err
	}
	if err := d.openSwap(c.Swapfile); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// openSwap opens the file of a swap area, if there is one.
func (d *dump) openSwap(name string) (err error) {
	if name == "" {
		return nil
	}
	if d.swap, err = os.Open(name); err != nil {
		return err
	}
	size, err := d.swap.Seek(0, io.SeekEnd) // of a device, too
	d.swaps = []kernel.SwapFile{{Type: -1, R: d.swap, Size: size, Name: name}}
	return err
}

// Kernel gives the kernel's address space.
func (d *dump) Kernel(ctx context.Context) (*remora.Memory, error) {
	if _, err := d.k.Tables(ctx); err != nil {
		return nil, err
	}
	return d.k.Memory(), nil
}

// Physical gives physical memory.
func (d *dump) Physical(context.Context) (*remora.Memory, error) { return d.phys, nil }

// Processes begins a walk over the list of processes that the kernel had.
func (d *dump) Processes() Walk { return &tasks{of: d} }

// tasks walks over the processes of an image.
type tasks struct {
	of     *dump
	listed bool
	left   []*kernel.Task
	err    error // what the list ends with
}

// Next gives the next process. What could not be read of the list is told at its end.
func (w *tasks) Next(ctx context.Context) (*Proc, error) {
	if err := w.list(ctx); err != nil {
		return nil, err
	}
	if len(w.left) == 0 {
		return nil, w.err
	}
	t := w.left[0]
	p, err := w.of.proc(ctx, t)
	if err != nil {
		return nil, err
	}
	w.left = w.left[1:]
	return p, nil
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
func (d *dump) proc(ctx context.Context, t *kernel.Task) (*Proc, error) {
	p := &Proc{
		PID: t.PID, PPID: t.PPID, Command: t.Comm, State: byte(t.State), System: t.KernelThread(), Start: uint64(t.StartBoot / tick),
	}
	u, err := d.k.TaskUser(ctx, t)
	if err != nil {
		return p, ctx.Err()
	}
	p.PGID, p.SID = u.Group, u.Session
	p.User = User{ArgStart: u.ArgStart, ArgEnd: u.ArgEnd, EnvStart: u.EnvStart, EnvEnd: u.EnvEnd}
	return p, nil
}

// User opens the memory of a process.
func (d *dump) User(ctx context.Context, p *Proc) (remora.Target, error) {
	if p.System {
		return nil, fmt.Errorf("pid %d is a kernel thread: %w", p.PID, fs.ErrNotExist)
	}
	u, err := d.k.Process(ctx, p.PID, &kernel.ProcessOptions{Swaps: d.swaps})
	if err != nil {
		return nil, err
	}
	if uint64(u.Task.StartBoot/tick) != p.Start {
		return nil, errors.Join(fmt.Errorf("pid %d of that start is not in the image: %w", p.PID, remora.ErrGone), u.Close())
	}
	return u, nil
}

// find gives the symbols of a name with all that is known of them.
func (d *dump) find(ctx context.Context, name string) ([]sym.Symbol, error) {
	s, err := d.k.Symbols(ctx)
	if err != nil {
		return nil, err
	}
	return s.Lookup(ctx, name)
}

// Symbol gives the symbols of a name.
func (d *dump) Symbol(ctx context.Context, name string) ([]remora.Symbol, error) {
	return d.k.Symbol(ctx, name)
}

// SymbolAt gives the symbol that is at an address, or before it.
func (d *dump) SymbolAt(ctx context.Context, a remora.Addr) (remora.Symbol, bool) {
	return d.k.SymbolAt(ctx, a)
}

// Close closes the image.
func (d *dump) Close() error {
	err := d.k.Close()
	if d.layer != nil {
		err = errors.Join(err, d.layer.Close())
	}
	if d.swap != nil {
		err = errors.Join(err, d.swap.Close())
	}
	return err
}
