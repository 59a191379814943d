// SPDX-License-Identifier: Apache-2.0

package target

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/vmcore"
)

// Content gives what there is to write a kernel image of t: all of an image, all memory
// of a machine that runs, or of another target what it has mapped, at its own addresses.
// A target that is none of them is an error that Is errors.ErrUnsupported.
func Content(ctx context.Context, t remora.Target) (*vmcore.Content, error) {
	if img, ok := t.(*vmcore.Image); ok {
		return imageMachine(img, img.Info().Name, nil, &Options{}).kernel().content(ctx)
	}
	if k, ok := t.(*Kernel); ok {
		return k.content(ctx)
	}
	return mapped(t)
}

// mapped is all that a target has mapped.
func mapped(t remora.Target) (*vmcore.Content, error) {
	m, ok := remora.As[remora.Mapper](t)
	if !ok {
		return nil, fmt.Errorf("%s: it has no list of what is there: %w", t.Memory().Info().Name, errors.ErrUnsupported)
	}
	in := t.Memory().Info()
	c := &vmcore.Content{Space: t.Memory(), Meta: vmcore.Meta{WordSize: int(in.PtrSize), BigEndian: in.BigEndian, Level: -1}}
	c.Runs = func(ctx context.Context) iter.Seq2[vmcore.Run, error] {
		return func(yield func(vmcore.Run, error) bool) {
			for r, err := range m.Regions(ctx) {
				run := vmcore.Run{Range: r.Range}
				if r.Perm&remora.PermRead == 0 {
					run.Err = remora.ErrNotSaved
				}
				if !yield(run, err) || err != nil {
					return
				}
			}
		}
	}
	return c, nil
}

// noted is physical memory that knows the notes which an image of its machine has: the
// Notes, CPUs and VMCoreInfo of a Meta.
type noted interface {
	Meta(context.Context) (vmcore.Meta, error)
}

// machine gives what there is of physical memory.
func (k *Kernel) machine(ctx context.Context) (*vmcore.Content, error) {
	if img, ok := k.Phys.(*vmcore.Image); ok {
		c := img.Content()
		c.PhysBase = c.Meta.PhysBase
		return c, nil
	}
	c, err := mapped(k.Phys)
	if err != nil {
		return nil, err
	}
	if n, ok := remora.As[noted](k.Phys); ok {
		m, err := n.Meta(ctx)
		if err != nil {
			return nil, err
		}
		c.Meta.Notes, c.Meta.CPUs, c.Meta.VMCoreInfo = m.Notes, m.CPUs, m.VMCoreInfo
	}
	c.Meta.PageSize, c.Meta.Time = int(k.Info().Granule), time.Now()
	return c, nil
}

// content adds to what is known of the machine what its kernel knows: where it has memory
// mapped, without which debuggers do not open an ELF image, and the names of uname(2). Where
// nothing tells of a kernel it is searched for, which is one pass more over all memory, also
// where there turns out to be none.
func (k *Kernel) content(ctx context.Context) (*vmcore.Content, error) {
	c, err := k.machine(ctx)
	if err != nil {
		return nil, err
	}
	if n, ok := k.VMCoreInfo().Number("phys_base"); ok {
		c.PhysBase = n
	}
	l, err := k.Layout(ctx)
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil: // an image can be written without
		return c, nil
	}
	if c.Meta.VMCoreInfo == nil && k.VMCoreInfo() != nil { // it was found in memory
		c.Meta.VMCoreInfo = k.VMCoreInfo().Bytes()
	}
	if c.Meta.Machine == elf.EM_NONE {
		c.Meta.Machine = k.Machine()
	}
	if names, err := k.Uname(ctx); err == nil {
		for i := range names {
			if c.Meta.Uname[i] == "" {
				c.Meta.Uname[i] = names[i]
			}
		}
	}
	c.Direct, c.DirectBase = l.Direct, l.DirectBase
	for _, p := range l.Image {
		c.Kernel = append(c.Kernel, vmcore.Mapped(p))
	}
	return c, nil
}
