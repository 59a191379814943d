// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"context"
	"os"
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
// so that a caller whose context ends can leave one behind. All that it needs is made
// with the first call, so that no later one allocates, however long it takes.
type callers struct {
	once  sync.Once
	first int           // the number of the process, and of its first thread
	slots chan struct{} // one for each job that is not idle
	mu    sync.Mutex
	idle  []*job // the one used last is at the end
	jobs  chan *job
	quit  chan struct{}
	left  atomic.Int32 // calls left behind that have not ended
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
	c.first = os.Getpid()
	c.slots = make(chan struct{}, maxAside)
	c.jobs = make(chan *job)
	c.quit = make(chan struct{})
	page := os.Getpagesize()
	pages := make([]byte, maxAside*page) // what creep needs
	for i := range maxAside {
		c.idle = append(c.idle, &job{done: make(chan struct{}, 1), buf: pages[i*page : (i+1)*page : (i+1)*page]})
		go c.work()
	}
}

func (c *callers) close() {
	c.once.Do(func() { c.quit = make(chan struct{}) })
	close(c.quit)
}

// stuck gives the number of calls that were left behind and have not ended.
func (c *callers) stuck() int { return int(c.left.Load()) }

// get gives a job to fill in and hand over, or nil when ctx ended before there was
// room for one more call. It ends with put.
func (c *callers) get(ctx context.Context) *job {
	if j := c.tryGet(); j != nil {
		return j
	}
	select {
	case c.slots <- struct{}{}:
		return c.pop()
	case <-ctx.Done():
		return nil
	}
}

// tryGet is get for a call that can be done without.
func (c *callers) tryGet() *job {
	c.once.Do(c.open)
	select {
	case c.slots <- struct{}{}:
		return c.pop()
	default:
		return nil
	}
}

func (c *callers) pop() *job {
	c.mu.Lock()
	defer c.mu.Unlock()
	last := len(c.idle) - 1
	j := c.idle[last]
	c.idle = c.idle[:last]
	return j
}

func (c *callers) put(j *job) {
	j.call, j.batch = call{}, nil
	c.mu.Lock()
	c.idle = append(c.idle, j)
	c.mu.Unlock()
	<-c.slots
}

// hand hands j to a worker. There are as many as jobs, so one of them is free.
func (c *callers) hand(j *job) {
	j.state.Store(jobRunning)
	c.jobs <- j
}

// work makes calls until Close.
func (c *callers) work() {
	for {
		var j *job
		select {
		case j = <-c.jobs:
		case <-c.quit:
			return
		}
		undisturbed(c.first, j.make)
		if j.state.CompareAndSwap(jobRunning, jobDone) {
			j.done <- struct{}{}
		} else {
			c.left.Add(-1)
			c.put(j)
		}
	}
}

func (j *job) make() {
	if b := j.batch; b != nil {
		local, remote := b.from(nil, j.from) // all of it is in bounce
		j.n, j.errno = linux.VM(j.write, j.pid, local, remote)
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
	j := calls.get(r.ctx)
	if j == nil {
		return 0, 0, remora.ErrBusy
	}
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
	calls.hand(j)
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
	j := c.get(r.ctx)
	if j == nil {
		r.leftAt(segs, i, 0, remora.ErrBusy)
		return 0, 0, true
	}
	j.call = call{write: r.write(), pid: r.p.call}
	j.batch, j.from = r.batch, i
	c.hand(j)
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
			r.batch.settle(segs, k, r.batch.size(k), cause, false)
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
