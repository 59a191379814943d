// SPDX-License-Identifier: Apache-2.0

package vmcore

import (
	"context"
	"errors"
	"iter"

	"github.com/remora-go/remora"
)

// pageClass is what a kdump-compressed image says of a page.
type pageClass uint8

const (
	pageSaved pageClass = iota
	pageLeft            // memory, not saved
	pageLost            // to be here, and lost
)

// pageRun is a run of pages of one class.
type pageRun struct {
	first, count uint64 // page frame numbers
	class        pageClass
}

// pages gives the runs of the source by whole pages, in order; not the holes. Partial
// is told how much of saved memory is in no whole page, and rest that there is a Run.Rest.
func (wr *writing) pages(ctx context.Context, partial func(bytes uint64), rest func()) iter.Seq2[pageRun, error] {
	return func(yield func(pageRun, error) bool) {
		p := pager{page: wr.page, yield: yield, partial: partial}
		for r, err := range wr.c.Runs(ctx) {
			if err != nil {
				yield(pageRun{}, err)
				return
			}
			if r.Rest {
				rest()
				continue
			}
			if r.Size > 0 && !errors.Is(r.Err, remora.ErrHole) && !p.add(&r) {
				return
			}
		}
		if p.flushPage() {
			p.flush()
		}
	}
}

// pager joins runs to pages, and pages to runs of pages.
type pager struct {
	page    uint64
	yield   func(pageRun, error) bool
	partial func(bytes uint64)

	run pageRun // not given yet; count 0: none

	// A page that several runs share.
	pfn         uint64
	open, lost  bool
	have, known uint64 // bytes saved, and bytes that are memory
}

func classOf(err error) pageClass {
	switch {
	case err == nil:
		return pageSaved
	case errors.Is(err, remora.ErrNotSaved):
		return pageLeft
	}
	return pageLost
}

// add takes the next run.
func (p *pager) add(r *Run) bool {
	class := classOf(r.Err)
	first, last := uint64(r.Start), uint64(r.Last())
	pfn, lastPfn := first/p.page, last/p.page
	if first%p.page != 0 || pfn == lastPfn && last%p.page != p.page-1 {
		size := min(last-first+1, p.page-first%p.page)
		if !p.part(pfn, size, class) {
			return false
		}
		if pfn == lastPfn {
			return true
		}
		pfn++
	}
	whole := lastPfn - pfn + 1
	if last%p.page != p.page-1 {
		whole--
	}
	if whole > 0 && (!p.flushPage() || !p.pages(pageRun{pfn, whole, class})) {
		return false
	}
	if last%p.page != p.page-1 {
		return p.part(lastPfn, last%p.page+1, class)
	}
	return true
}

// part takes a part of a page.
func (p *pager) part(pfn, size uint64, class pageClass) bool {
	if p.open && p.pfn != pfn && !p.flushPage() {
		return false
	}
	p.pfn, p.open = pfn, true
	p.known += size
	switch class {
	case pageSaved:
		p.have += size
	case pageLost:
		p.lost = true
	}
	return true
}

// flushPage decides what a page is that came in parts.
func (p *pager) flushPage() bool {
	if !p.open {
		return true
	}
	class := pageLeft
	switch {
	case p.have == p.page:
		class = pageSaved
	case p.lost:
		class = pageLost
	}
	if class != pageSaved && p.partial != nil {
		p.partial(p.have)
	}
	r := pageRun{p.pfn, 1, class}
	p.open, p.lost, p.have, p.known = false, false, 0, 0
	return p.pages(r)
}

// pages takes a run of whole pages.
func (p *pager) pages(r pageRun) bool {
	if p.run.count > 0 && p.run.class == r.class && p.run.first+p.run.count == r.first {
		p.run.count += r.count
		return true
	}
	ok := p.flush()
	p.run = r
	return ok
}

func (p *pager) flush() bool {
	r := p.run
	p.run.count = 0
	return r.count == 0 || p.yield(r, nil)
}
