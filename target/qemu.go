// SPDX-License-Identifier: Apache-2.0

package target

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/guest"
	"github.com/remora-go/remora/kernel"
	"github.com/remora-go/remora/vmcore"
)

// qemuPrefix is before the socket or the process of a guest of QEMU.
const qemuPrefix = "qemu:"

// qemu is a guest of QEMU as the physical memory of a kernel.
type qemu struct {
	*guest.QEMU
	info string // how VMCOREINFO was come by
}

var _ noted = (*qemu)(nil)

// openQEMU opens "qemu:SOCKET" and "qemu:PID", each with a view behind it.
func openQEMU(ctx context.Context, spec string, o *Options) (remora.Target, error) {
	rest, ok := strings.CutPrefix(spec, qemuPrefix)
	if !ok {
		return nil, errNotThis
	}
	socket, view := splitView(rest)
	if socket == "" {
		return nil, &SpecError{Spec: spec, Why: "neither a QMP socket nor a process is named"}
	}
	opts := &guest.QEMUOptions{Write: o.Write, NoMap: o.NoMap, Watchdog: o.Watchdog, Process: func(pid int) (remora.Target, error) {
		p := *o
		p.FollowExec, p.Unchecked, p.MapShared, p.MapUnchecked = false, false, false, false
		return live(pid, &p)
	}}
	given, err := vmcoreinfo(o.VMCoreInfo)
	if err != nil {
		return nil, err
	}
	g, err := openGuest(ctx, spec, socket, opts)
	if err != nil {
		return nil, err
	}
	m := &machine{phys: g, name: g.Name(), hints: o.hints(machineNamed(g.Arch()), given)}
	if view != viewPhys {
		q := &qemu{QEMU: g}
		if err := q.learn(ctx, m.hints, o); err != nil {
			g.Close()
			return nil, err
		}
		m.phys = q
	}
	return m.view(ctx, view, o)
}

// openGuest opens a guest by the path of its socket, or by the number of its process.
func openGuest(ctx context.Context, spec, name string, o *guest.QEMUOptions) (*guest.QEMU, error) {
	if !allDigits(name) {
		return guest.OpenQEMU(ctx, name, o)
	}
	pid, err := strconv.ParseUint(name, 10, 64)
	if err != nil || pid > math.MaxInt32 {
		return nil, &SpecError{Spec: spec, Why: "not the number of a process"}
	}
	o.PID = int(pid)
	sockets, err := monitorsOf(o.PID)
	if err != nil {
		return nil, err
	}
	for _, s := range sockets { // one that is another client's, or another user's, is not the only one
		g, why := guest.OpenQEMU(ctx, s, o)
		if why == nil || !errors.Is(why, guest.ErrSilent) && !errors.Is(why, fs.ErrPermission) {
			return g, why
		}
		if err == nil {
			err = why
		}
	}
	return nil, err
}

// machineNamed gives the machine that QEMU calls so.
func machineNamed(arch string) elf.Machine {
	switch arch {
	case "x86_64":
		return elf.EM_X86_64
	case "aarch64":
		return elf.EM_AARCH64
	case "riscv64":
		return elf.EM_RISCV
	}
	return elf.EM_NONE
}

// learn finds out what QEMU can tell of the kernel.
func (q *qemu) learn(ctx context.Context, h *kernel.Hints, o *Options) error {
	why := "found by a scan, as it was asked for"
	if !h.Given && !o.Scan {
		found, took, err := q.notes(ctx, h)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			why = "looked for by a scan: " + err.Error()
		case !found:
			why = "looked for by a scan: QEMU knows of none, as the machine has no vmcoreinfo device, or its kernel has not used it"
		default:
			why = fmt.Sprintf("by an image of one byte, which stopped the guest for at most %v", took.Round(10*time.Microsecond))
		}
	}
	if !h.Given {
		q.info = why
	}
	if len(h.CPUs) > 0 {
		return nil
	}
	all, err := q.Registers(ctx)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err == nil {
		for i, regs := range all {
			h.CPUs = append(h.CPUs, kernel.CPU{Name: fmt.Sprintf("CPU %d", i), Index: i, Regs: regs})
		}
	}
	return nil
}

// notes takes from what QEMU knows what is of use for finding the kernel.
func (q *qemu) notes(ctx context.Context, h *kernel.Hints) (found bool, took time.Duration, err error) {
	m, took, err := q.meta(ctx)
	if err != nil {
		return false, took, err
	}
	for _, c := range m.CPUs {
		h.CPUs = append(h.CPUs, kernel.CPU{Name: fmt.Sprintf("CPU %d", c.Index), Index: c.Index, Regs: c.Regs})
	}
	if m.VMCoreInfo == nil {
		return false, took, nil
	}
	h.VMCoreInfo, h.InfoFrom = kernel.ParseVMCoreInfo(m.VMCoreInfo), "QEMU, which has it from the kernel"
	return true, took, nil
}

// meta has QEMU write an image of one byte, and gives what it says.
func (q *qemu) meta(ctx context.Context) (m vmcore.Meta, took time.Duration, err error) {
	f, took, err := q.Notes(ctx)
	if err != nil {
		return m, took, err
	}
	defer f.Close()
	img, err := vmcore.Open(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), nil)
	if err != nil {
		return m, took, err
	}
	defer img.Close()
	m = img.Meta()
	m.VMCoreInfo = slices.Clone(m.VMCoreInfo) // it and the notes go with the image
	m.Notes = slices.Clone(m.Notes)
	for i := range m.Notes {
		m.Notes[i].Desc = slices.Clone(m.Notes[i].Desc)
	}
	return m, took, nil
}

// Meta gives the notes that an image of the machine has. The guest stands still for a
// moment.
func (q *qemu) Meta(ctx context.Context) (vmcore.Meta, error) {
	m, _, err := q.meta(ctx)
	return m, err
}

// Describe adds how VMCOREINFO was come by.
func (q *qemu) Describe(ctx context.Context) ([]remora.Fact, error) {
	facts, err := q.QEMU.Describe(ctx)
	if q.info != "" {
		facts = append(facts, remora.Fact{Key: "VMCOREINFO is", Value: q.info})
	}
	return facts, err
}

// Unwrap gives the guest.
func (q *qemu) Unwrap() any { return q.QEMU }
