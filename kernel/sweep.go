// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"errors"
	"iter"
	"runtime"
	"sync"

	"github.com/remora-go/remora"
)

// What a sweep reads at a time: chunkBytes in at most chunkRuns runs, and of a run that
// goes on sweepOverlap bytes more, so that what lies across two chunks is seen.
const (
	chunkBytes   = 1 << 20
	chunkRuns    = 256
	sweepOverlap = 64
	sweepWorkers = 16
	largestPage  = 64 << 10
)

// saved gives the runs of physical memory that can be read, in address order, within a
// range. What phys does not list is not among them: phys must be a remora.Mapper.
func saved(ctx context.Context, phys remora.Space, in remora.Range) iter.Seq2[remora.Range, error] {
	return func(yield func(remora.Range, error) bool) {
		m, ok := remora.As[remora.Mapper](phys)
		if !ok {
			yield(remora.Range{}, errors.ErrUnsupported)
			return
		}
		var run remora.Range
		for g, err := range m.Regions(ctx) {
			if err != nil {
				yield(remora.Range{}, err)
				return
			}
			r := g.Range.Intersect(in)
			switch {
			case g.Perm&remora.PermRead == 0 || r.Empty():
				continue
			case !run.Empty() && run.Start+remora.Addr(run.Size) == r.Start:
				run.Size += r.Size
				continue
			case !run.Empty() && !yield(run, nil):
				return
			}
			run = r
		}
		if !run.Empty() {
			yield(run, nil)
		}
	}
}

// stretch is memory to be read in one piece. What begins in the first own bytes of it is
// looked for.
type stretch struct {
	remora.Range
	own uint64
}

// chunk is what a worker reads at once.
type chunk[T any] struct {
	parts []stretch
	hits  []T
	err   error
	done  chan struct{}
}

// looker says what is found in memory that begins at an address. What begins at own or
// behind is for another one.
type looker[T any] func(at remora.Addr, b []byte, own int) []T

// sweep reads all memory in a range that is saved, once, on all processors, and hands what
// look finds to found in the order of addresses until that gives false. It gives the number
// of bytes that were read. Memory that cannot be read after all is passed over.
func sweep[T any](ctx context.Context, phys remora.Space, in remora.Range, look looker[T], found func(T) bool) (uint64, error) {
	ctx, cancel := context.WithCancel(ctx)
	workers := min(runtime.GOMAXPROCS(0), sweepWorkers)
	work, order := make(chan *chunk[T], workers), make(chan *chunk[T], 2*workers)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	for range workers {
		wg.Go(func() {
			buf := make([]byte, chunkBytes+chunkRuns*sweepOverlap)
			for c := range work {
				c.hits, c.err = lookAt(ctx, phys, c.parts, buf, look)
				close(c.done)
			}
		})
	}
	var failed error
	wg.Go(func() {
		defer close(order)
		defer close(work)
		failed = cut(ctx, phys, in, func(parts []stretch) bool {
			c := &chunk[T]{parts: parts, done: make(chan struct{})}
			select {
			case order <- c:
			case <-ctx.Done():
				return false
			}
			select {
			case work <- c:
				return true
			case <-ctx.Done():
				c.err = ctx.Err()
				close(c.done)
				return false
			}
		})
	})
	var total uint64
	for c := range order {
		<-c.done
		if c.err != nil {
			return total, c.err
		}
		for _, p := range c.parts {
			total += p.own
		}
		for _, h := range c.hits {
			if !found(h) {
				return total, nil
			}
		}
	}
	return total, failed
}

// cut divides what is saved into chunks until yield gives false.
func cut(ctx context.Context, phys remora.Space, in remora.Range, yield func([]stretch) bool) error {
	var parts []stretch
	size := uint64(0)
	for run, err := range saved(ctx, phys, in) {
		if err != nil {
			return err
		}
		for !run.Empty() {
			end := run.Start + remora.Addr(min(run.Size, chunkBytes-size))
			if uint64(end-run.Start) < run.Size { // what follows begins at a page of any size
				end = max(end&^(largestPage-1), run.Start)
			}
			if own := uint64(end - run.Start); own > 0 {
				parts = append(parts, stretch{remora.Range{Start: run.Start, Size: min(run.Size, own+sweepOverlap)}, own})
				run.Start, run.Size, size = end, run.Size-own, size+own
				if run.Empty() && size < chunkBytes && len(parts) < chunkRuns {
					break
				}
			}
			if !yield(parts) {
				return nil
			}
			parts, size = nil, 0
		}
	}
	if len(parts) > 0 {
		yield(parts)
	}
	return nil
}

// lookAt reads the parts into buf, and looks at them.
func lookAt[T any](ctx context.Context, phys remora.Space, parts []stretch, buf []byte, look looker[T]) (hits []T, err error) {
	segs := make([]remora.Seg, len(parts))
	for i, p := range parts {
		segs[i], buf = remora.Seg{Addr: p.Start, Buf: buf[:p.Size:p.Size]}, buf[p.Size:]
	}
	if _, err := phys.Transfer(ctx, remora.Read, segs); err != nil && !errors.Is(err, remora.ErrFault) {
		return nil, err
	}
	for i, p := range parts {
		s := &segs[i]
		for {
			own := p.own - uint64(s.Addr-p.Start)
			hits = append(hits, look(s.Addr, s.Buf[:s.N], int(min(own, uint64(s.N))))...)
			// Behind a page that cannot be read it goes on.
			next := (s.Addr+remora.Addr(s.N))&^(notePage-1) + notePage
			if s.Err == nil || next < s.Addr || uint64(next-p.Start) >= p.own {
				break
			}
			*s = remora.Seg{Addr: next, Buf: s.Buf[next-s.Addr:]}
			if _, err := phys.Transfer(ctx, remora.Read, segs[i:i+1]); err != nil && !errors.Is(err, remora.ErrFault) {
				return nil, err
			}
		}
	}
	return hits, nil
}
