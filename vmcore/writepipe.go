// SPDX-License-Identifier: Apache-2.0

package vmcore

import (
	"context"
	"errors"
	"iter"
	"runtime"
	"sync"

	"github.com/remora-go/remora"
)

// jobBytes is how much memory is read, compressed and written at once.
const jobBytes = 256 << 10

// job is a run of memory on its way from the source to the file. Its buffers are used
// again.
type job struct {
	remora.Range
	off  int64 // in the file, where the format knows it before
	buf  []byte
	gaps []Gap
	err  error // not a fault: nothing more can be done
	done chan struct{}

	packed []packed // of a kdump-compressed image: page by page
	out    []byte   // what packed counts from
}

// pipe reads jobs and works on them by all processors, and puts them into the file in
// order.
type pipe struct {
	space remora.Space
	page  uint64
	n     int // workers
	// work gives what each worker does with a job that was read; nil: nothing.
	work func() (func(*job), error)
	put  func(*job) error
}

func (p *pipe) run(ctx context.Context, list iter.Seq2[job, error]) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if p.n <= 0 {
		p.n = runtime.GOMAXPROCS(0)
	}
	jobs := 2*p.n + 1
	free, todo, order := make(chan *job, jobs), make(chan *job, jobs), make(chan *job, jobs)
	for range jobs {
		free <- &job{buf: make([]byte, 0, jobBytes), done: make(chan struct{}, 1)}
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	for range p.n {
		work := func(*job) {}
		if p.work != nil {
			var err error
			if work, err = p.work(); err != nil {
				close(todo)
				return err
			}
		}
		wg.Go(func() {
			for j := range todo {
				if p.read(ctx, j); j.err == nil {
					work(j)
				}
				j.done <- struct{}{}
			}
		})
	}
	var listed error
	wg.Go(func() {
		defer close(order)
		defer close(todo)
		for next, err := range list {
			if err != nil {
				listed = err
				return
			}
			select {
			case j := <-free:
				j.Range, j.off = next.Range, next.off
				order <- j
				todo <- j
			case <-ctx.Done():
				listed = ctx.Err()
				return
			}
		}
	})
	return p.drain(cancel, order, free, &listed)
}

// drain puts the jobs in order. After an error the rest are only waited for.
func (p *pipe) drain(cancel func(), order <-chan *job, free chan<- *job, listed *error) error {
	var failed error
	for j := range order {
		<-j.done
		if failed == nil {
			if failed = j.err; failed == nil {
				failed = p.put(j)
			}
			if failed != nil {
				cancel()
			}
		}
		free <- j
	}
	if failed == nil {
		failed = *listed
	}
	return failed
}

// read reads the memory of a job. After a gap it goes on with the next page.
func (p *pipe) read(ctx context.Context, j *job) {
	j.buf, j.gaps, j.err = j.buf[:j.Size], j.gaps[:0], ctx.Err()
	for pos := uint64(0); pos < j.Size && j.err == nil; {
		segs := [1]remora.Seg{{Addr: j.Start + remora.Addr(pos), Buf: j.buf[pos:]}}
		_, _ = p.space.Transfer(ctx, remora.Read, segs[:]) // it is in the segment
		s := &segs[0]
		pos += uint64(s.N)
		switch {
		case s.Err == nil:
		case !errors.Is(s.Err, remora.ErrFault):
			j.err = s.Err
		default:
			at := j.Start + remora.Addr(pos)
			size := min(p.page-uint64(at)%p.page, j.Size-pos)
			j.gap(Gap{remora.Range{Start: at, Size: size}, s.Err})
			pos += size
		}
	}
}

func (j *job) gap(g Gap) {
	if n := len(j.gaps); n > 0 && j.gaps[n-1].Last()+1 == g.Start && j.gaps[n-1].Err == g.Err {
		j.gaps[n-1].Size += g.Size
		return
	}
	j.gaps = append(j.gaps, g)
}
