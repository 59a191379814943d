// SPDX-License-Identifier: Apache-2.0

package paging

import (
	"cmp"
	"context"
	"errors"
	"iter"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/xfer"
)

// ViewOptions say what the tables do not.
type ViewOptions struct {
	Name string // Info.Name; empty: that of the physical memory, and "@" with the root
}

// View is the address space that tables make of a physical memory, as a Space.
//
// Protections are a fact of Translate and Regions, and no cause here: what is in
// memory can be read, PROT_NONE or not, and written where the physical memory can
// be. A write changes the page itself, whoever else maps it: nothing is copied.
//
// Tables of a process that are Live are walked once more behind each read: where a page
// has moved meanwhile, it is read again from where it is.
//
// After warm-up nothing is allocated, but for tables that are Live and cannot be
// read: each such translation makes its error.
type View struct {
	phys   remora.Space
	tables remora.Translator
	own    *Tables // what is below tables, or nil
	plan   xfer.Plan
	gate   xfer.Gate
	name   string
}

var (
	_ remora.Space      = (*View)(nil)
	_ remora.Translator = (*View)(nil)
	_ remora.Explainer  = (*View)(nil)
	_ remora.Mapper     = (*View)(nil)
)

// New gives the View of phys through t; nil options are the zero options. t is a
// *Tables of phys, or a Translator around one, with Unwrap, that knows more: where
// what is swapped out can be found, say. Spaces that it names in Extent.In must
// honour the op bits that phys honours.
func New(phys remora.Space, t remora.Translator, o *ViewOptions) *View {
	if o == nil {
		o = &ViewOptions{}
	}
	v := &View{phys: phys, tables: t}
	v.name = phys.Info().Name + "@virtual"
	below := phys
	if own, ok := remora.As[*Tables](t); ok {
		v.own = own
		v.name = phys.Info().Name + "@" + own.root.String()
		below = &watched{phys, own.cache}
	}
	v.name = cmp.Or(o.Name, v.name)
	v.plan = xfer.Plan{Table: (*lifted)(v), Below: below, Live: v.own != nil && v.own.live && v.own.half == Lower}
	return v
}

// Info gives the facts of the physical memory, with pages for the granule.
func (v *View) Info() remora.Info {
	in := v.phys.Info()
	in.Name, in.PtrSize, in.BigEndian, in.Last = v.name, 8, false, remora.MaxAddr
	page := uint32(4096)
	if t := v.own; t != nil {
		page, in.Last, in.Live = uint32(t.f.PageSize()), t.Last(), in.Live || t.live
	}
	if in.Granule == 0 || in.Granule > page {
		in.Granule = page
	}
	in.Atomic = uint8(min(uint32(in.Atomic), in.Granule))
	return in
}

// Transfer moves segments through the tables.
func (v *View) Transfer(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
	in := v.phys.Info()
	if err := v.gate.Admit(op, in.Ops, in.Writable); err != nil {
		return xfer.Refuse(segs, err)
	}
	defer v.gate.Leave()
	const pair = remora.Write | remora.Resident
	if op&pair == pair {
		if _, err := v.phys.Transfer(ctx, op, nil); errors.Is(err, errors.ErrUnsupported) {
			return xfer.Refuse(segs, errors.ErrUnsupported)
		}
	}
	return v.plan.Transfer(ctx, op, segs)
}

// Translate is that of the tables.
func (v *View) Translate(ctx context.Context, va remora.Addr) remora.Extent {
	return v.tables.Translate(ctx, va)
}

// Explain gives the fault in physical memory, or what the tables say.
func (v *View) Explain(ctx context.Context, op remora.Op, a remora.Addr, c error) error {
	return v.plan.Explain(ctx, op, a, c)
}

// Regions is that of the tables; see Tables.Regions. What is no Mapper has none.
func (v *View) Regions(ctx context.Context) iter.Seq2[remora.Region, error] {
	if m, ok := remora.As[remora.Mapper](v.tables); ok {
		return m.Regions(ctx)
	}
	return func(yield func(remora.Region, error) bool) { yield(remora.Region{}, errors.ErrUnsupported) }
}

// Close waits for calls that run, and refuses later ones with fs.ErrClosed. The
// physical memory stays open, and the Tables can be used.
func (v *View) Close() error {
	v.gate.Close()
	return nil
}

// lifted is the Translator of a View without protections.
type lifted View

func (l *lifted) Translate(ctx context.Context, va remora.Addr) remora.Extent {
	e := l.tables.Translate(ctx, va)
	e.Perm |= remora.PermRead | remora.PermWrite
	return e
}

func (l *lifted) Unwrap() any { return l.tables }

// watched is a physical memory in which writes are looked at: those into page tables
// make what is kept of them out of date.
type watched struct {
	remora.Space
	cache *Cache
}

func (w *watched) Transfer(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
	if op&remora.Write == 0 {
		return w.Space.Transfer(ctx, op, segs)
	}
	w.cache.write()
	n, err := w.Space.Transfer(ctx, op, segs)
	w.cache.wrote(segs)
	return n, err
}

func (w *watched) Unwrap() any { return w.Space }

func isFault(err error) bool { return errors.Is(err, remora.ErrFault) }
