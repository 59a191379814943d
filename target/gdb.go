// SPDX-License-Identifier: Apache-2.0

package target

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/guest"
	"github.com/remora-go/remora/kernel"
	"github.com/remora-go/remora/proc"
)

// stubPrefix is before the address of a gdb stub.
const stubPrefix = "gdb:"

// viewVirt is memory as the stub sees it.
const viewVirt = "virt"

// splitStub takes apart ADDRESS@VIEW. The path of a socket that ends as a view does is
// taken for a path where it exists and the part before the @ does not.
func splitStub(spec string) (address, view string) {
	at := strings.LastIndexByte(spec, '@')
	if at < 0 || spec[at+1:] != viewPhys && spec[at+1:] != viewVirt && !allDigits(spec[at+1:]) {
		return spec, viewKernel
	}
	if exists(spec) && !exists(spec[:at]) {
		return spec, viewKernel
	}
	return spec[:at], spec[at+1:]
}

// openStub opens "gdb:HOST:PORT" or "gdb:SOCKET", with a view or none.
func openStub(ctx context.Context, spec string, o *Options) (remora.Target, error) {
	rest, ok := strings.CutPrefix(spec, stubPrefix)
	if !ok {
		return nil, errNotThis
	}
	address, view := splitStub(rest)
	if address == "" {
		return nil, &SpecError{Spec: spec, Why: "no address is named"}
	}
	given, err := vmcoreinfo(o.VMCoreInfo)
	if err != nil {
		return nil, err
	}
	so := &guest.StubOptions{Write: o.Write, Watchdog: o.StubWatchdog}
	if o.QMP != "" {
		so.Running = func(ctx context.Context) (bool, error) { return guest.Running(ctx, o.QMP) }
	}
	s, err := guest.OpenStub(ctx, address, so)
	if err != nil {
		return nil, err
	}
	t, err := stubView(ctx, s, view, given, o)
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("%s: %w", spec, err)
	}
	return t, nil
}

// stubView gives what the text behind the @ asks for. It keeps the stub where it does not
// fail.
func stubView(ctx context.Context, s *guest.Stub, view string, given *kernel.VMCoreInfo, o *Options) (remora.Target, error) {
	switch {
	case view == viewVirt:
		return s.Virtual(), nil
	case s.Kind() == guest.StubUser && view == viewKernel:
		return s.Process(proc.ParseMaps), nil
	case s.Kind() == guest.StubOther && view == viewKernel:
		return s.Virtual(), nil
	case s.Kind() != guest.StubMachine:
		return nil, fmt.Errorf("behind this stub is %v: it has no physical memory, in which the kernel and its processes would be: %w", s.Kind(), errors.ErrUnsupported)
	}
	cpus, err := s.CPUs(ctx)
	if err != nil {
		return nil, err
	}
	h := o.hints(s.Machine(), given)
	for i, c := range cpus {
		h.CPUs = append(h.CPUs, kernel.CPU{Name: c.Name, Index: i, Regs: c.Regs})
	}
	m := &machine{name: stubPrefix + s.Address(), hints: h}
	if len(o.Segments) > 0 {
		m.phys = s.PhysicalAt(&guest.StubRAM{Ranges: slices.Clone(o.Segments), How: "what was given"})
	} else {
		m.phys = s.Physical(func(ctx context.Context, whole remora.Space) (*guest.StubRAM, error) {
			return locate(ctx, s, whole, h)
		})
	}
	return m.view(ctx, view, o)
}

// locate finds where a machine has memory. First that is what the page tables of its
// processors map as memory; in that the kernel is found, and its tree of resources says
// what it has as memory.
func locate(ctx context.Context, s *guest.Stub, whole remora.Space, h *kernel.Hints) (*guest.StubRAM, error) {
	mapped, why := mappedMemory(ctx, whole, h)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if len(mapped) == 0 {
		return nil, &NoMemoryError{why}
	}
	ram := &guest.StubRAM{Ranges: mapped, How: "the page tables of " + h.CPUs[0].Name + " and others"}
	if len(h.CPUs) == 1 {
		ram.How = "the page tables of " + h.CPUs[0].Name
	}
	k := kernel.New(s.PhysicalAt(ram), "the kernel", h)
	defer k.Close()
	var all []remora.Range
	for r, err := range k.Resources(ctx) {
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case errors.Is(err, remora.ErrGone):
			return nil, err
		case err != nil:
			ram.How += fmt.Sprintf(" (%v)", err)
			return ram, nil
		case r.SystemRAM():
			all = append(all, wholePages(r.Range))
		}
	}
	if len(all) == 0 {
		ram.How += " (the kernel's tree of resources has no memory)"
		return ram, nil
	}
	return &guest.StubRAM{Ranges: all, How: "the kernel's own tree of resources"}, nil
}

// wholePages gives the pages of 4 KiB that lie in r: the kernel uses no part of one.
func wholePages(r remora.Range) remora.Range {
	const page = 4096
	first := (r.Start + page - 1) &^ (page - 1)
	end := (r.Last() + 1) &^ (page - 1)
	if first < r.Start || end <= first && end != 0 {
		return remora.Range{}
	}
	return remora.Between(first, end)
}

// NoMemoryError says that it is not known where a machine behind a stub has memory. It Is
// remora.ErrHole.
type NoMemoryError struct{ Why error }

func (e *NoMemoryError) Error() string {
	return fmt.Sprintf("where this machine has memory is not known: %v; a stub answers for any physical address, also of devices, so none is read; --segment says where memory is", e.Why)
}

// Unwrap gives why.
func (e *NoMemoryError) Unwrap() []error { return []error{remora.ErrHole, e.Why} }
