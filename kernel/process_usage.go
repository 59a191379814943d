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

// PageUsage is a mapping, and where its pages are. The amounts are in bytes, and are all of
// the mapping together.
type PageUsage struct {
	remora.Region
	Resident  uint64 // the page tables lead to memory
	Cached    uint64 // memory that they do not lead to: of the file, or of the swap cache
	Swapped   uint64 // in a swap area, zswap or zram
	SwapZero  uint64 // swapped out as zeros, which are noted and not written
	Untouched uint64 // never touched: zeros
	Absent    uint64 // none of these: of a file that is not in memory, a guard page, what cannot be found out
}

// PageUsage gives the mappings, and where their pages are.
func (p *Process) PageUsage(ctx context.Context) iter.Seq2[PageUsage, error] {
	return func(yield func(PageUsage, error) bool) {
		if !p.gate.Enter() {
			yield(PageUsage{}, fs.ErrClosed)
			return
		}
		defer p.gate.Leave()
		all, bad := p.VMAs(ctx)
		for i := range all {
			u, err := p.pager.usage(ctx, &all[i])
			if !yield(u, err) || err != nil {
				return
			}
		}
		if bad != nil {
			yield(PageUsage{}, bad)
		}
	}
}

// usage counts the pages of one mapping.
func (t *pager) usage(ctx context.Context, v *VMA) (PageUsage, error) {
	u := PageUsage{Region: v.Region}
	for a, left := v.Start, v.Size; left > 0; {
		if err := ctx.Err(); err != nil {
			return u, err
		}
		e, at := t.page(ctx, a)
		e = clip(e, remora.Range{Start: a, Size: left})
		count := &u.Resident
		if e.Err != nil || at.where != inTables {
			count = u.of(at.where)
		}
		n := min(max(e.Size, 1), left)
		*count += n
		a, left = a+remora.Addr(n), left-n
	}
	return u, nil
}

// of gives the amount that a page counts for.
func (u *PageUsage) of(w whereabouts) *uint64 {
	switch w {
	case inSwapCache, inPageCache:
		return &u.Cached
	case inSwapZero:
		return &u.SwapZero
	case inZswap, inZram, inArea:
		return &u.Swapped
	case untouched, inFileHole:
		return &u.Untouched
	}
	return &u.Absent
}

// Explain adds to the cause of a fault where the page is, or would be.
func (t *pager) Explain(ctx context.Context, op remora.Op, a remora.Addr, c error) error {
	if !errors.Is(c, remora.ErrFault) {
		return c
	}
	_, at := t.page(ctx, a)
	why := ""
	switch at.where {
	case nowhere:
		return t.tables.Explain(ctx, op, a, fmt.Errorf("%w: no mapping of the process holds it", c))
	case inTables:
		return t.tables.Explain(ctx, op, a, c)
	case inArea:
		why = fmt.Sprintf("swapped out: page 0x%x of swap area %s; --swap %d=FILE gives a copy of it", at.off, t.areaName(at.area), at.area)
		if t.files[at.area] != nil {
			why = fmt.Sprintf("swapped out: page 0x%x of swap area %s", at.off, t.areaName(at.area))
		}
	case inZswap:
		why = fmt.Sprintf("swapped out: page 0x%x of area %d is packed in zswap, which is not supported", at.off, at.area)
	case inZram:
		why = fmt.Sprintf("swapped out: page 0x%x of swap area %s is packed in zram, which is not supported", at.off, t.areaName(at.area))
	case notInCache:
		why = fmt.Sprintf("page 0x%x of %q is not in memory", (at.vma.page<<t.shift+uint64(a-at.vma.Start))>>t.shift, at.vma.Name)
	case beyondFile:
		why = fmt.Sprintf("%q has 0x%x bytes", at.vma.Name, at.vma.file.size)
	case notMade:
		why = fmt.Sprintf("%q: a page that the kernel would have made when it was touched", at.vma.Name)
	case notKnown:
		why = t.unknown(at)
	default: // a page is there, and it is not the process's own
		why = "no page of the process's own, which the kernel would have made for a write"
	}
	return fmt.Errorf("%w: %s", c, why)
}

// unknown says what kept a page from being found.
func (t *pager) unknown(at pagePlace) string {
	switch {
	case at.vma == nil:
		return fmt.Sprintf("it is not known whether a mapping holds it: %v", at.err)
	case at.off != 0:
		return fmt.Sprintf("swapped out: page 0x%x of swap area %d; whether memory has it: %v", at.off, at.area, at.err)
	}
	return fmt.Sprintf("looked for in the page cache of %q: %v", at.vma.Name, at.err)
}

// areaName says what a swap area is.
func (t *pager) areaName(i int) string {
	if s, ok := t.k.processAnswers.swap.kept(); ok && i < swapTypes {
		return fmt.Sprintf("%d (%q)", i, s.areas[i].Path)
	}
	return fmt.Sprint(i)
}

// PageRun is a run of pages that share one fate.
type PageRun struct {
	remora.Range
	Table bool // the page tables lead to them, or say what they are
	Zero  bool // never touched: zeros
	Err   error
	// None says that with them nothing of the process's own is missing: they are of a file
	// that has them still, or there is no such page.
	None bool
}

// Runs gives what became of the pages of a range, without reading them.
func (p *Process) Runs(ctx context.Context, r remora.Range) iter.Seq2[PageRun, error] {
	return func(yield func(PageRun, error) bool) {
		if !p.gate.Enter() {
			yield(PageRun{}, fs.ErrClosed)
			return
		}
		defer p.gate.Leave()
		t := p.pager
		t.turn.Add(1)
		for r.Size > 0 {
			if err := ctx.Err(); err != nil {
				yield(PageRun{}, err)
				return
			}
			e, at := t.page(ctx, r.Start)
			e = clip(e, r)
			run := PageRun{Range: remora.Range{Start: e.Virt, Size: e.Size}, Table: at.where == inTables, Zero: at.where == untouched || at.where == inFileHole, Err: e.Err}
			run.None = e.Err != nil && (at.where == notInCache || at.where == notMade || at.where == beyondFile || e.Err == remora.ErrGuard)
			if e.Size == 0 {
				run.Range = remora.Range{Start: r.Start, Size: min(r.Size, 1<<t.shift)}
			}
			if !yield(run, nil) {
				return
			}
			r.Start, r.Size = r.Start+remora.Addr(run.Size), r.Size-run.Size
		}
	}
}
