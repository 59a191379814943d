// SPDX-License-Identifier: Apache-2.0

package kvm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/compat/errno"
)

// call is one transfer: who asked for it, and in which direction.
type call struct {
	name string // of the function in C
	op   remora.Op
}

// KRead is kvm_kread(3KVM): it reads the kernel's address space at a.
func (h *Handle) KRead(ctx context.Context, p []byte, a remora.Addr) (int, error) {
	return h.move(ctx, call{"kvm_kread", remora.Read}, KernelAS(), p, a)
}

// KWrite is kvm_kwrite(3KVM): it writes the kernel's address space at a.
func (h *Handle) KWrite(ctx context.Context, p []byte, a remora.Addr) (int, error) {
	return h.move(ctx, call{"kvm_kwrite", remora.Write}, KernelAS(), p, a)
}

// Read is kvm_read(3KVM), an older name of KRead (R94).
func (h *Handle) Read(ctx context.Context, p []byte, a remora.Addr) (int, error) {
	return h.move(ctx, call{"kvm_read", remora.Read}, KernelAS(), p, a)
}

// Write is kvm_write(3KVM), an older name of KWrite (R94). It never means the memory
// of a process, whatever its manual says.
func (h *Handle) Write(ctx context.Context, p []byte, a remora.Addr) (int, error) {
	return h.move(ctx, call{"kvm_write", remora.Write}, KernelAS(), p, a)
}

// URead is kvm_uread(3KVM): it reads the memory of the current process at a. A
// protected page is read all the same. In a live process 0 is the answer where
// nothing is mapped (R100).
func (h *Handle) URead(ctx context.Context, p []byte, a remora.Addr) (int, error) {
	return h.user(ctx, call{"kvm_uread", remora.Read}, p, a)
}

// UWrite is kvm_uwrite(3KVM): it writes the memory of the current process at a. A
// protected page is written all the same; a private mapping gets a copy of its own.
func (h *Handle) UWrite(ctx context.Context, p []byte, a remora.Addr) (int, error) {
	return h.user(ctx, call{"kvm_uwrite", remora.Write}, p, a)
}

func (h *Handle) user(ctx context.Context, c call, p []byte, a remora.Addr) (int, error) {
	if h.current == nil && len(p) > 0 {
		return -1, fail(c.name, ErrNoProcess)
	}
	var as AS
	if h.current != nil {
		as = h.current.AS()
	}
	return h.move(ctx, c, as, p, a)
}

// ARead is kvm_aread: it reads the address space as.
func (h *Handle) ARead(ctx context.Context, as AS, p []byte, a remora.Addr) (int, error) {
	return h.move(ctx, call{"kvm_aread", remora.Read}, as, p, a)
}

// AWrite is kvm_awrite: it writes the address space as.
func (h *Handle) AWrite(ctx context.Context, as AS, p []byte, a remora.Addr) (int, error) {
	return h.move(ctx, call{"kvm_awrite", remora.Write}, as, p, a)
}

// PRead is kvm_pread: it reads physical memory.
func (h *Handle) PRead(ctx context.Context, p []byte, a remora.Addr) (int, error) {
	return h.move(ctx, call{"kvm_pread", remora.Read}, PhysicalAS(), p, a)
}

// PWrite is kvm_pwrite: it writes physical memory.
func (h *Handle) PWrite(ctx context.Context, p []byte, a remora.Addr) (int, error) {
	return h.move(ctx, call{"kvm_pwrite", remora.Write}, PhysicalAS(), p, a)
}

// move moves p. Nothing is always 0, whatever the address and the handle (R95).
func (h *Handle) move(ctx context.Context, c call, as AS, p []byte, a remora.Addr) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if err := h.admit(c); err != nil {
		return -1, err
	}
	if as.kind == asProcess && as.proc.System {
		return system(c, as.proc)
	}
	if g, ok := remora.As[guarded](h.img); ok && c.op&remora.Write != 0 && as.kind != asProcess {
		if err := g.guard(ctx); err != nil {
			return -1, fail(c.name, err)
		}
	}
	n, live, err := 0, false, error(nil)
	got := h.with(ctx, as, func(m *remora.Memory) error {
		live = as.kind == asProcess && (m.Info().Live || isRunner(h.img))
		if n, err = move(ctx, c.op, m, p, a); n > 0 {
			return nil
		}
		return err
	})
	switch {
	case got != nil:
		return -1, fail(c.name, got)
	case n > 0 || err == nil:
		return n, err
	case !live:
		return -1, fail(c.name, err)
	}
	return c.nothing(err)
}

// guarded is an Image of which only processes may be open for writing.
type guarded interface {
	// guard says why the kernel's memory, virtual and physical, cannot be written.
	guard(ctx context.Context) error
}

// runner is an Image of a system that may run although its memory is not Live: one that
// stands still for as long as it is looked at.
type runner interface{ runs() bool }

func isRunner(img Image) bool {
	r, ok := remora.As[runner](img)
	return ok && r.runs()
}

// admit refuses what needs no look at memory.
func (h *Handle) admit(c call) error {
	switch {
	case h.closed:
		return fail(c.name, fs.ErrClosed)
	case c.op&remora.Write != 0 && !h.write:
		return &Error{c.name, errno.EBADF, remora.ErrReadOnly}
	}
	return nil
}

// move moves p. Protections are those of the process, not of who looks at it (R100). They
// are overridden where there are some: for that a kernel may want the process to be stopped,
// or refuse it.
func move(ctx context.Context, op remora.Op, m *remora.Memory, p []byte, a remora.Addr) (int, error) {
	one := m.ReadAt
	if op&remora.Write != 0 {
		one = m.WriteAt
	}
	n, err := one(ctx, p, a)
	if !errors.Is(err, remora.ErrProtected) || m.Info().Ops&remora.Force == 0 {
		return n, err
	}
	m = m.With(remora.Force)
	if one = m.ReadAt; op&remora.Write != 0 {
		one = m.WriteAt
	}
	more, err := one(ctx, p[n:], a+remora.Addr(n))
	return n + more, err
}

// nothing is the answer of a live process of whose memory nothing was moved (R100):
// a read of what is not there ends at once, as a read at the end of a file does.
func (c call) nothing(err error) (int, error) {
	n := number(err)
	if n == errno.EFAULT && c.op&remora.Write == 0 {
		return 0, err
	}
	if n == errno.EFAULT {
		n = errno.EIO
	}
	return -1, &Error{c.name, n, err}
}

// system is the answer of a process that has no user memory (R100).
func system(c call, p *Proc) (int, error) {
	err := fmt.Errorf("pid %d is a kernel thread: it has no user memory: %w", p.PID, remora.ErrUnmapped)
	return c.nothing(err)
}

// with gives the memory of an address space to use. Its error is one of getting there.
func (h *Handle) with(ctx context.Context, as AS, use func(*remora.Memory) error) error {
	var m *remora.Memory
	var err error
	switch as.kind {
	case asPhysical:
		m, err = h.img.Physical(ctx)
	case asKernel:
		m, err = h.img.Kernel(ctx)
	case asProcess:
		return h.withProcess(ctx, as.proc, use)
	default:
		err = fmt.Errorf("no address space was named: %w", errno.EINVAL)
	}
	if err == nil {
		use(m)
	}
	return err
}

// PhysAddr is kvm_physaddr: the physical address of a in as. Where there is none the
// result is remora.MaxAddr, all ones, and an error (R105).
func (h *Handle) PhysAddr(ctx context.Context, as AS, a remora.Addr) (remora.Addr, error) {
	const name = "kvm_physaddr"
	if h.closed {
		return remora.MaxAddr, fail(name, fs.ErrClosed)
	}
	to, err := remora.MaxAddr, error(nil)
	got := h.with(ctx, as, func(m *remora.Memory) error {
		to, err = physical(ctx, m, a)
		return err
	})
	if err = errors.Join(got, err); err != nil {
		return remora.MaxAddr, fail(name, err)
	}
	return to, nil
}

func physical(ctx context.Context, m *remora.Memory, a remora.Addr) (remora.Addr, error) {
	t, ok := remora.As[remora.Translator](m)
	if !ok {
		return remora.MaxAddr, fmt.Errorf("%s: physical addresses: %w", m.Info().Name, errors.ErrUnsupported)
	}
	e := t.Translate(ctx, a)
	switch {
	case e.Err != nil:
		return remora.MaxAddr, &remora.Fault{Space: m.Info().Name, Addr: a, Err: e.Err}
	case e.In != nil:
		return remora.MaxAddr, fmt.Errorf("%s:%v is not in physical memory but in %s: %w", m.Info().Name, a, e.In.Info().Name, remora.ErrNotPresent)
	}
	return e.Phys + (a - e.Virt), nil
}
