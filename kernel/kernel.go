// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"math/bits"
	"sync"
	"sync/atomic"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/xfer"
	"github.com/remora-go/remora/paging"
)

// Kernel is the kernel in a physical memory: the Space of its virtual addresses. Its
// page tables are looked for when they are first needed. Where they are not found every
// transfer ends in remora.ErrNoTable, and Explain tells all that was tried.
type Kernel struct {
	gate  xfer.Gate
	phys  remora.Space
	hints Hints
	info  remora.Info
	mem   *remora.Memory
	cache *paging.Cache // of the kernel's tables and those of all its processes

	linear atomic.Pointer[[]Piece] // see pieces

	view  atomic.Pointer[paging.View] // nil: not found, or not looked for yet
	mu    sync.Mutex                  // of the search
	done  bool                        // it has ended
	found *Found
	why   error // nothing was found

	types      once[*Types]
	symbols    once[*Symbols]
	modules    once[*moduleFields]
	userFields once[*userFields]

	taskAnswers
	processAnswers
}

var (
	_ remora.Target     = (*Kernel)(nil)
	_ remora.Space      = (*Kernel)(nil)
	_ remora.Translator = (*Kernel)(nil)
	_ remora.Explainer  = (*Kernel)(nil)
	_ remora.Mapper     = (*Kernel)(nil)
	_ remora.Container  = (*Kernel)(nil)
	_ remora.Symbolizer = (*Kernel)(nil)
	_ xfer.Mover        = lacking{}
)

// New gives the kernel in phys, which stays open when the Kernel is closed. name is for
// messages. It does no I/O.
func New(phys remora.Space, name string, h *Hints) *Kernel {
	k := &Kernel{phys: phys, hints: *h, info: phys.Info(), cache: paging.NewCache(phys, nil)}
	k.info.Name = name
	if n, ok := h.VMCoreInfo.Value("PAGESIZE"); ok && n >= 4096 && n <= 1<<16 && n&(n-1) == 0 {
		k.info.Granule = min(k.info.Granule, uint32(n))
	} else {
		k.info.Granule = min(k.info.Granule, 4096)
	}
	k.mem = remora.New(k)
	return k
}

// Over gives the same kernel in another memory: one that takes the place of its own, such
// as a compose.Layer over that. Nothing that was found of k is taken for true of it.
func (k *Kernel) Over(phys remora.Space) *Kernel { return New(phys, k.info.Name, &k.hints) }

// Memory is the memory of the kernel, by virtual addresses. Kernel itself is its Space.
func (k *Kernel) Memory() *remora.Memory { return k.mem }

// Info gives the facts of the Space.
func (k *Kernel) Info() remora.Info { return k.info }

// VMCoreInfo is what the kernel says of itself, or nil. Where the image does not have it,
// Tables may find it.
func (k *Kernel) VMCoreInfo() *VMCoreInfo {
	if k.view.Load() != nil {
		return k.found.Info
	}
	return k.hints.VMCoreInfo
}

// release is that of the kernel, as VMCOREINFO has it or its banner; "" where it is not known.
func (k *Kernel) release() string {
	if k.view.Load() != nil {
		return k.found.Release
	}
	return k.hints.VMCoreInfo.Release()
}

// Tables finds the page tables, once. The end of a context is not kept as an answer.
func (k *Kernel) Tables(ctx context.Context) (*Found, error) {
	_, err := k.open(ctx)
	return k.found, err
}

// Found gives what Tables found, nil if nobody has asked for it yet, or nothing was found.
// It does no I/O.
func (k *Kernel) Found() *Found {
	if k.view.Load() == nil {
		return nil
	}
	return k.found
}

// open gives the view through the page tables.
func (k *Kernel) open(ctx context.Context) (*paging.View, error) {
	if v := k.view.Load(); v != nil {
		return v, nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.done {
		return k.view.Load(), k.why
	}
	found, err := find(ctx, k.phys, &k.hints, k.options(paging.Whole))
	if err != nil && ctx.Err() != nil {
		return nil, ctx.Err()
	}
	k.done, k.found, k.why = true, found, err
	if err == nil {
		tables := &fallback{k, k.TablesAt(found.Format, found.Root, paging.Whole)}
		k.view.Store(paging.New(k.phys, tables, &paging.ViewOptions{Name: k.info.Name}))
	}
	return k.view.Load(), k.why
}

// pageSize is the size of a page in bytes.
func (k *Kernel) pageSize(ctx context.Context) uint64 {
	if found, err := k.Tables(ctx); err == nil {
		return found.Format.PageSize()
	}
	return 4096
}

// pageShift is the size of a page as a power of two. The page tables must have been found.
func (k *Kernel) pageShift() uint {
	if k.found == nil {
		return 12
	}
	return uint(bits.TrailingZeros64(k.found.Format.PageSize()))
}

// TablesAt gives the page tables of a format whose top one is at a physical address. They
// know where memory is: see paging.Options.RAM.
func (k *Kernel) TablesAt(f *paging.Format, root remora.Addr, half paging.Half) *paging.Tables {
	return paging.NewTables(k.phys, f, root, k.options(half))
}

// options are those of all tables in the memory: they share one cache.
func (k *Kernel) options(half paging.Half) *paging.Options {
	return &paging.Options{Half: half, RAM: k.ram, Cache: k.cache}
}

// look is what it takes to look at one byte.
type look struct {
	seg  [1]remora.Seg
	byte [1]byte
}

var looks = sync.Pool{New: func() any { return new(look) }}

// ram says whether there is memory at a physical address, saved or not.
func (k *Kernel) ram(a remora.Addr) bool {
	l := looks.Get().(*look)
	defer looks.Put(l)
	l.seg[0] = remora.Seg{Addr: a, Buf: l.byte[:]}
	_, _ = k.phys.Transfer(context.Background(), remora.Read, l.seg[:]) // it is in the segment
	return !errors.Is(l.seg[0].Err, remora.ErrHole) && !errors.Is(l.seg[0].Err, remora.ErrUnmapped)
}

// Transfer moves memory through the page tables, and keeps the contract of
// remora.Space.
func (k *Kernel) Transfer(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
	if err := k.gate.Admit(op, k.info.Ops, k.info.Writable); err != nil {
		return xfer.Refuse(segs, err)
	}
	defer k.gate.Leave()
	view, err := k.open(ctx)
	switch {
	case err == nil:
		return view.Transfer(ctx, op, segs)
	case !errors.Is(err, remora.ErrNoTable):
		return xfer.Refuse(segs, err)
	}
	return xfer.Each(ctx, op, segs, lacking{})
}

// lacking has no byte of memory.
type lacking struct{}

func (lacking) Move(context.Context, remora.Op, remora.Addr, []byte) (int, error) {
	return 0, remora.ErrNoTable
}

// Translate gives the run of addresses around va, and where in physical memory it lies.
func (k *Kernel) Translate(ctx context.Context, va remora.Addr) remora.Extent {
	view, err := k.open(ctx)
	if err != nil {
		return remora.Extent{Virt: va, Size: 1, Err: err}
	}
	return view.Translate(ctx, va)
}

// Explain says what the page tables say of a, or why there are none.
func (k *Kernel) Explain(ctx context.Context, op remora.Op, a remora.Addr, cause error) error {
	if !errors.Is(cause, remora.ErrFault) || !k.gate.Enter() {
		return cause
	}
	defer k.gate.Leave()
	view, err := k.open(ctx)
	if err != nil {
		return err
	}
	return view.Explain(ctx, op, a, cause)
}

// Regions gives what the page tables map.
func (k *Kernel) Regions(ctx context.Context) iter.Seq2[remora.Region, error] {
	return func(yield func(remora.Region, error) bool) {
		if !k.gate.Enter() {
			yield(remora.Region{}, fs.ErrClosed)
			return
		}
		defer k.gate.Leave()
		view, err := k.open(ctx)
		if err != nil {
			yield(remora.Region{}, err)
			return
		}
		for r, err := range view.Regions(ctx) {
			if !yield(r, err) {
				return
			}
		}
	}
}

// Close waits for running calls. The physical memory stays open.
func (k *Kernel) Close() error {
	k.gate.Close()
	return nil
}
