// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/sys/linux"
	"github.com/remora-go/remora/internal/xfer"
)

// maxAside is the largest number of system calls that may be under way in threads
// of their own, and so be left behind.
const maxAside = 8

// callers makes system calls aside: in a thread of their own, on a buffer of ours,
// so that a caller whose context ends can leave one behind.
type callers struct {
	once    sync.Once
	slots   chan struct{} // one for each call under way
	jobs    chan *job
	quit    chan struct{}
	workers atomic.Int32
	left    atomic.Int32 // calls left behind that have not ended
	pool    sync.Pool    // of *job
}

// job is a call made aside. It owns what the kernel reads and writes.
type job struct {
	call
	batch *batch // a vector from element from on; nil: one range
	from  int
	buf   []byte

	n     int
	errno linux.Errno
	state atomic.Int32
	done  chan struct{}
}

const (
	jobRunning int32 = iota
	jobDone
	jobLeft
)

func (c *callers) open() {
	c.slots = make(chan struct{}, maxAside)
	c.jobs = make(chan *job)
	c.quit = make(chan struct{})
}

func (c *callers) close() {
	c.once.Do(c.open)
	close(c.quit)
}

// stuck gives the number of calls that were left behind and have not ended.
func (c *callers) stuck() int { return int(c.left.Load()) }

func (c *callers) get() *job {
	c.once.Do(c.open)
	if j, _ := c.pool.Get().(*job); j != nil {
		return j
	}
	return &job{done: make(chan struct{}, 1)}
}

func (c *callers) put(j *job) {
	j.call, j.batch = call{}, nil
	c.pool.Put(j)
}

// start hands j to a worker. It gives false when ctx ended before there was room
// for one more call.
func (c *callers) start(ctx context.Context, j *job) bool {
	select {
	case c.slots <- struct{}{}:
	default:
		select {
		case c.slots <- struct{}{}:
		case <-ctx.Done():
			return false
		}
	}
	c.hand(j)
	return true
}

// tryStart is start for a call that can be done without.
func (c *callers) tryStart(j *job) bool {
	select {
	case c.slots <- struct{}{}:
		c.hand(j)
		return true
	default:
		return false
	}
}

func (c *callers) hand(j *job) {
	j.state.Store(jobRunning)
	select {
	case c.jobs <- j:
		return
	default:
	}
	if c.workers.Add(1) <= maxAside {
		go c.work(j)
		return
	}
	c.workers.Add(-1)
	c.jobs <- j
}

// work makes calls until Close.
func (c *callers) work(j *job) {
	for {
		j.make()
		<-c.slots
		if j.state.CompareAndSwap(jobRunning, jobDone) {
			j.done <- struct{}{}
		} else {
			c.left.Add(-1)
			c.put(j)
		}
		select {
		case j = <-c.jobs:
		case <-c.quit:
			return
		}
	}
}

func (j *job) make() {
	if b := j.batch; b != nil {
		j.n, j.errno = linux.VM(j.write, j.pid, b.local[j.from:b.n], b.remote[j.from:b.n])
		return
	}
	j.n, j.errno = j.call.make(j.buf)
	if j.as != nil {
		j.as.drop()
	}
}

// leave leaves j behind. It gives false when j has ended after all: its result
// then waits in done.
func (c *callers) leave(j *job) bool {
	c.left.Add(1)
	if j.state.CompareAndSwap(jobRunning, jobLeft) {
		return true
	}
	c.left.Add(-1)
	return false
}

// wait waits for j, and leaves it behind when ctx ends first.
func (c *callers) wait(ctx context.Context, j *job) (ended bool) {
	select {
	case <-j.done:
		return true
	case <-ctx.Done():
		if c.leave(j) {
			return false
		}
		<-j.done
		return true
	}
}

// aside makes one call for one range. err is set when the context ended first: the
// context's own, ErrInDoubt for a write, or ErrBusy.
func (r *run) aside(c call, buf []byte) (n int, errno linux.Errno, err error) {
	calls := &r.p.calls
	j := calls.get()
	j.call = c
	if cap(j.buf) < len(buf) {
		j.buf = make([]byte, min(2*len(buf), xfer.ChunkBytes))
	}
	j.buf = j.buf[:len(buf)]
	if c.write {
		copy(j.buf, buf)
	}
	if c.as != nil {
		c.as.hold() // until the call has ended, be it after Close
	}
	if !calls.start(r.ctx, j) {
		if c.as != nil {
			c.as.drop()
		}
		calls.put(j)
		return 0, 0, remora.ErrBusy
	}
	if !calls.wait(r.ctx, j) {
		if c.write {
			return 0, 0, remora.ErrInDoubt
		}
		return 0, 0, r.ctx.Err()
	}
	n, errno = j.n, j.errno
	if !c.write {
		copy(buf[:n], j.buf)
	}
	calls.put(j)
	return n, errno, nil
}

// vmAside is vm made aside. The batch goes with the call when it is left behind.
func (r *run) vmAside(segs []remora.Seg, i int) (n int, errno linux.Errno, left bool) {
	c := &r.p.calls
	j := c.get()
	j.call = call{write: r.write(), pid: r.p.call}
	j.batch, j.from = r.batch, i
	if !c.start(r.ctx, j) {
		c.put(j)
		r.leftAt(segs, i, 0, remora.ErrBusy)
		return 0, 0, true
	}
	elem, at, ended := i, 0, false
	if r.canCreep(i) {
		elem, at, ended = r.waitCreeping(segs, i, j)
	} else {
		ended = c.wait(r.ctx, j)
	}
	if !ended {
		cause := r.ctx.Err()
		if r.write() {
			cause = remora.ErrInDoubt
		}
		for k := i; k < elem; k++ {
			r.batch.settle(segs, k, int(r.batch.elems[k].size), cause, false)
		}
		r.leftAt(segs, elem, at, cause)
		r.batch = nil
		return 0, 0, true
	}
	n, errno = j.n, j.errno
	c.put(j)
	return n, errno, false
}

// leftAt ends element i with n bytes moved, and all after it with none.
func (r *run) leftAt(segs []remora.Seg, i, n int, cause error) {
	for ; i < r.batch.n; i++ {
		r.batch.settle(segs, i, n, cause, false)
		n = 0
	}
}
