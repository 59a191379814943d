// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"

	"github.com/remora-go/remora"
)

// Resource is a range of physical addresses, and what is there: a line of /proc/iomem.
type Resource struct {
	remora.Range
	Name  string
	Flags uint64 // IORESOURCE_* of the kernel's include/linux/ioport.h
	Depth int    // 0: it is in no other one
}

// The bits of what the kernel uses as memory (IORESOURCE_SYSTEM_RAM).
const (
	resourceMem    = 0x00000200
	resourceSysRAM = 0x01000000 // since 4.6
)

// SystemRAM says whether the kernel has the range as memory. What lies within it may have a
// name of its own.
func (r *Resource) SystemRAM() bool {
	return r.Flags&(resourceMem|resourceSysRAM) == resourceMem|resourceSysRAM || r.Name == "System RAM"
}

// Limits of the tree.
const (
	maxResources     = 1 << 18
	maxResourceDepth = 64
	maxResourceName  = 256
)

// Resources gives the kernel's tree of physical addresses (iomem_resource), each range
// before those within it, in the order of addresses. An error ends it.
func (k *Kernel) Resources(ctx context.Context) iter.Seq2[Resource, error] {
	return func(yield func(Resource, error) bool) {
		if !k.gate.Enter() {
			yield(Resource{}, fs.ErrClosed)
			return
		}
		defer k.gate.Leave()
		w := resourceWalk{k: k, r: k.reader(ctx), yield: yield, seen: map[remora.Addr]bool{}}
		err := w.begin(ctx)
		if err != nil && !errors.Is(err, errEnough) {
			yield(Resource{}, fmt.Errorf("the tree of resources: %w", err))
		}
	}
}

// errEnough says that the caller wants no more.
var errEnough = errors.New("no more are wanted")

// resourceWalk is one way through the tree.
type resourceWalk struct {
	k     *Kernel
	r     *reader
	yield func(Resource, error) bool
	seen  map[remora.Addr]bool

	start, end, name, flags, sibling, child field // struct resource
}

func (w *resourceWalk) begin(ctx context.Context) error {
	t, err := w.k.Types(ctx)
	if err != nil {
		return err
	}
	if err := t.fields(ctx, wanted{&w.start, "resource.start", false}, wanted{&w.end, "resource.end", false},
		wanted{&w.name, "resource.name", false}, wanted{&w.flags, "resource.flags", false},
		wanted{&w.sibling, "resource.sibling", false}, wanted{&w.child, "resource.child", false}); err != nil {
		return err
	}
	root, err := w.k.symbol(ctx, "iomem_resource")
	if err != nil {
		return err
	}
	first := w.r.ptr(root, w.child)
	if w.r.err != nil {
		return w.r.err
	}
	return w.level(ctx, first, 0)
}

// level gives a resource, and those beside it.
func (w *resourceWalk) level(ctx context.Context, a remora.Addr, depth int) error {
	for ; a != 0; a = w.r.ptr(a, w.sibling) {
		switch {
		case w.seen[a] || len(w.seen) >= maxResources:
			return fmt.Errorf("it comes back to %v, or does not end: %w", a, remora.ErrCorrupt)
		case depth > maxResourceDepth:
			return fmt.Errorf("it is deeper than %d at %v: %w", maxResourceDepth, a, remora.ErrCorrupt)
		}
		w.seen[a] = true
		first, last := w.r.uint(a, w.start), w.r.uint(a, w.end)
		name, child := w.r.ptr(a, w.name), w.r.ptr(a, w.child)
		res := Resource{Depth: depth, Flags: w.r.uint(a, w.flags)}
		if w.r.err != nil {
			return w.r.err
		}
		if last < first || last-first == ^uint64(0) {
			return fmt.Errorf("it has a range from %#x to %#x at %v: %w", first, last, a, remora.ErrCorrupt)
		}
		res.Range = remora.Range{Start: remora.Addr(first), Size: last - first + 1}
		if name != 0 {
			text, err := w.k.mem.CString(ctx, name, maxResourceName)
			if err != nil {
				return fmt.Errorf("the name of the range at %#x: %w", first, err)
			}
			res.Name = text
		}
		if !w.yield(res, nil) {
			return errEnough
		}
		if child == 0 {
			continue
		}
		if err := w.level(ctx, child, depth+1); err != nil {
			return err
		}
	}
	return w.r.err
}
