// SPDX-License-Identifier: Apache-2.0

package kvm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/compat/errno"
)

// process is the current one. Its memory is opened when it is first needed.
type process struct {
	Proc
	target remora.Target // nil: not opened yet
}

// NextProc is kvm_nextproc(3KVM): the next process of the list, which becomes the
// current one. At the end of the list the error is io.EOF, and the current process
// stays as it is.
func (h *Handle) NextProc(ctx context.Context) (*Proc, error) {
	p, err := h.next(ctx, "kvm_nextproc")
	if err != nil {
		return nil, err
	}
	return p, h.setCurrent(p)
}

func (h *Handle) next(ctx context.Context, name string) (*Proc, error) {
	if h.closed {
		return nil, fail(name, fs.ErrClosed)
	}
	if h.walk == nil {
		h.walk = h.img.Processes()
	}
	p, err := h.walk.Next(ctx)
	if err != nil && err != io.EOF {
		return nil, fail(name, err)
	}
	return p, err
}

// GetProc is kvm_getproc(3KVM): the process with that number, which becomes the
// current one. It looks from the start of the list, and NextProc goes on behind what
// it found (R102). When there is no such process none is current.
func (h *Handle) GetProc(ctx context.Context, pid int) (*Proc, error) {
	const name = "kvm_getproc"
	if err := h.SetProc(); err != nil {
		return nil, err
	}
	for {
		p, err := h.next(ctx, name)
		switch {
		case err == io.EOF:
			return nil, &Error{name, errno.ESRCH, fmt.Errorf("pid %d: %w", pid, fs.ErrNotExist)}
		case err != nil:
			return nil, err
		case p.PID == pid:
			return p, h.setCurrent(p)
		}
	}
}

// SetProc is kvm_setproc(3KVM): NextProc begins anew, and no process is current.
// The number that C returns is 0 in any case (R93).
func (h *Handle) SetProc() error {
	h.walk = nil
	return h.setCurrent(nil)
}

// GetU is kvm_getu(3KVM): the user area of p, which is inside p and not copied. p
// becomes the current process, as the manual has it (R98). The result is nil only
// when p is.
func (h *Handle) GetU(p *Proc) *User {
	if p == nil {
		return nil
	}
	if !h.closed && (h.current == nil || !h.current.same(p)) {
		h.setCurrent(p)
	}
	return &p.User
}

// setCurrent makes p the current process, and lets go of the one before it.
func (h *Handle) setCurrent(p *Proc) error {
	before := h.current
	h.current = nil
	if p != nil {
		h.current = &process{Proc: *p}
	}
	if before == nil || before.target == nil {
		return nil
	}
	if p != nil && before.same(p) {
		h.current.target = before.target
		return nil
	}
	return before.target.Close()
}

// withProcess gives the memory of p to use, which says whether it reached it. That of the
// current process stays open. Where it is gone it is opened once more: the process may have
// begun another program, which is followed (R99).
func (h *Handle) withProcess(ctx context.Context, p *Proc, use func(*remora.Memory) error) error {
	c := h.current
	if c == nil || !c.same(p) {
		t, err := h.img.User(ctx, p)
		if err != nil {
			return err
		}
		use(t.Memory())
		return t.Close()
	}
	if c.target != nil {
		if err := use(c.target.Memory()); !errors.Is(err, remora.ErrGone) {
			return nil
		}
		before := c.target
		c.target = nil
		if err := before.Close(); err != nil {
			return err
		}
	}
	t, err := h.img.User(ctx, p)
	if err != nil {
		return err
	}
	c.target = t
	use(t.Memory())
	return nil
}

// maxCommand bounds what GetCmd reads of one vector, in bytes. Linux itself gives a
// new program at most 6 MiB.
const maxCommand = 64 << 20

// GetCmd is kvm_getcmd(3KVM): the arguments and the environment of p, read from its
// memory as they stand there now, which the process may have changed. u is its user
// area; nil is that inside p. A process without user memory, or whose vectors cannot be
// read whole, is an error (R104).
func (h *Handle) GetCmd(ctx context.Context, p *Proc, u *User) (argv, envp []string, err error) {
	const name = "kvm_getcmd"
	switch {
	case h.closed:
		return nil, nil, fail(name, fs.ErrClosed)
	case p == nil:
		return nil, nil, fail(name, errno.EINVAL)
	case p.System:
		_, err := system(call{name, remora.Write}, p)
		return nil, nil, err
	}
	if u == nil {
		u = &p.User
	}
	got := h.withProcess(ctx, p, func(m *remora.Memory) error {
		argv, envp, err = u.vectors(ctx, m)
		return err
	})
	if err = errors.Join(got, err); err == nil {
		err = h.unchanged(ctx, p, u)
	}
	if err != nil {
		return nil, nil, fail(name, err)
	}
	return argv, envp, nil
}

// unchanged makes sure that the process did not put its vectors elsewhere, by execve
// or prctl, after it was looked up: what was read may be anything then.
func (h *Handle) unchanged(ctx context.Context, p *Proc, u *User) error {
	r, ok := remora.As[Refresher](h.img)
	if !ok {
		return nil
	}
	now, err := r.Refresh(ctx, p)
	if err != nil {
		return err
	}
	if now.User != *u {
		return fmt.Errorf("pid %d has moved its arguments, or runs another program, since it was looked up: %w", p.PID, errno.EAGAIN)
	}
	return nil
}
