// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/sys/linux"
)

// tracer stops the threads of a process by ptrace(2), and reads and writes its
// memory while they stand still. The kernel ties a tracee to one thread of its
// tracer, so there is a goroutine with a thread of its own: serve. It begins with
// the first stop and ends with close, or whenever only the end of the thread lets go
// of a tracee. If this process dies, the kernel lets them all go.
//
// A stop interrupts system calls of the target as a stop signal does: most go on,
// a few give EINTR (man 7 signal). One limit: while a child of our own is stopped,
// os.Process.Wait for it may return at once, for Linux reports stops to it too.
type tracer struct {
	pid int

	mu     sync.Mutex
	depth  int // stops that have not been resumed
	closed bool
	quit   chan struct{} // closed with closed
	solo   chan struct{} // held by the transfer that has the process stopped

	// turn is held by who uses what follows. A call that was given up keeps it until
	// serve is done with that call.
	turn  chan struct{}
	call  chan struct{} // to serve: req is ready
	done  chan struct{} // from serve: so is the result
	ended chan struct{} // closed when serve has ended; nil where there is none to wait for
	tid   int           // of serve
	tick  *time.Timer
	req   request
	group threads
}

// request is a call of serve, and its result.
type request struct {
	act  act
	ctx  context.Context // of actStop and actProbe
	buf  []byte          // of actPeek and actPoke
	addr remora.Addr

	state  atomic.Int32
	n      int
	errno  linux.Errno
	err    error
	ending bool // serve ends after this call
}

type act uint8

const (
	actStop act = iota
	actProbe
	actPeek
	actPoke
	actRelease
	actQuit
)

// The states of a request that can be given up.
const (
	reqRunning int32 = iota
	reqDone
	reqGivenUp
)

const (
	reapEvery  = 20 * time.Millisecond
	watchEvery = 50 * time.Millisecond  // for the death of a stopped target
	patience   = 250 * time.Millisecond // with a call that the kernel does not let end
)

var (
	errRunning = errors.New("the process is not stopped")
	errHeld    = errors.New("the tracing thread has not ended: the process may still be stopped")
)

// newTracer makes the tracer of the process that pid, or a thread of that number,
// belongs to. It does nothing yet.
func newTracer(pid int) *tracer {
	t := &tracer{
		pid:  pid,
		quit: make(chan struct{}),
		solo: make(chan struct{}, 1),
		turn: make(chan struct{}, 1),
		call: make(chan struct{}),
		done: make(chan struct{}, 1),
	}
	t.group.quit = t.quit
	return t
}

// stop stops every thread of the process; stops nest. It waits until the last one
// has stopped or ctx ends: a thread in an uninterruptible sleep stops only after it.
// On error the process runs as before. The error is the context's, remora.ErrGone,
// fs.ErrClosed, a *remora.AccessError that names another tracer, or wraps the
// Errno of PTRACE_SEIZE (EPERM: not permitted).
//
// The caller checks afterwards that the process is still the one it means.
func (t *tracer) stop(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if nested, err := t.nest(); nested || err != nil {
		return err
	}
	if err := t.enter(ctx, t.turn); err != nil {
		return err
	}
	if nested, err := t.nest(); nested || err != nil { // somebody else was first
		t.leave()
		return err
	}
	err := t.perform(ctx, actStop)
	if err == errGivenUp {
		return t.over(ctx)
	}
	if err == nil {
		t.mu.Lock()
		if t.closed {
			err = fs.ErrClosed
		} else {
			t.depth = 1
		}
		t.mu.Unlock()
	}
	t.leave()
	return err
}

// begin is stop for one transfer, and finish its resume. Transfers stop the process in
// turns: side by side, each within the stop of another, they would never let it run.
func (t *tracer) begin(ctx context.Context) error {
	if err := t.enter(ctx, t.solo); err != nil {
		return err
	}
	err := t.stop(ctx)
	if err != nil {
		<-t.solo
	}
	return err
}

func (t *tracer) finish() {
	_ = t.resume()
	<-t.solo
}

// nest counts a stop inside another.
func (t *tracer) nest() (bool, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false, fs.ErrClosed
	}
	if t.depth == 0 {
		return false, nil
	}
	t.depth++
	return true, nil
}

// allowed says whether the process may be traced: nil, or the error that stop
// would give. The process is not stopped for it.
func (t *tracer) allowed(ctx context.Context) error {
	if nested, err := t.nest(); nested {
		return t.resume()
	} else if err != nil {
		return err
	}
	if err := t.enter(ctx, t.turn); err != nil {
		return err
	}
	if depth, closed := t.held(); depth > 0 || closed {
		t.leave()
		return t.over(ctx)
	}
	err := t.perform(ctx, actProbe)
	if err == errGivenUp {
		return t.over(ctx)
	}
	t.leave()
	return err
}

func (t *tracer) held() (depth int, closed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.depth, t.closed
}

// over gives the reason to give up, if there is one.
func (t *tracer) over(ctx context.Context) error { return t.group.over(ctx) }

// resume ends one stop. With the last one every thread runs on, or stays in the
// group-stop (SIGSTOP) in which it was found, and signals that came in between are
// delivered. It is not an error that the process has died, or the tracer been closed.
func (t *tracer) resume() error {
	t.mu.Lock()
	depth, closed := t.depth, t.closed
	if depth > 1 {
		t.depth--
	}
	t.mu.Unlock()
	switch {
	case closed || depth > 1:
		return nil
	case depth == 0:
		return errRunning
	}
	t.turn <- struct{}{}
	defer t.leave()
	t.mu.Lock()
	last := t.depth == 1
	t.depth = max(t.depth-1, 0)
	t.mu.Unlock()
	if !last {
		return nil
	}
	return t.letGo()
}

// peek reads the memory of the stopped process, whatever the protection, and grows
// its stack where that is asked for (R66, R68): who wants less looks at the map
// first. It gives the exact prefix and, if that is not all of buf, EIO at the first
// byte that cannot be read, ESRCH when the process is gone or not stopped, or ERANGE
// for an address beyond the pointers of this build.
func (t *tracer) peek(buf []byte, a remora.Addr) (int, linux.Errno) {
	return t.words(actPeek, buf, a)
}

// poke writes, like peek, and changes no byte outside the prefix. One limit: of a
// word that is written in part, the rest is written back as it was read, so a change
// made in between by a process that shares the page is lost.
func (t *tracer) poke(buf []byte, a remora.Addr) (int, linux.Errno) {
	return t.words(actPoke, buf, a)
}

func (t *tracer) words(what act, buf []byte, a remora.Addr) (int, linux.Errno) {
	if len(buf) == 0 {
		return 0, 0
	}
	t.turn <- struct{}{}
	defer t.leave()
	if depth, _ := t.held(); depth == 0 {
		return 0, linux.ESRCH
	}
	t.req.act, t.req.buf, t.req.addr = what, buf, a
	if !t.send() {
		return 0, linux.ESRCH
	}
	<-t.done
	t.req.buf = nil
	return t.req.n, t.req.errno
}

// move stops the process, moves buf, and resumes it. It gives the exact prefix and
// what peek gives, or, with nothing moved, EINTR when ctx ended before the process
// had stopped, and EPERM or another Errno when it may not be stopped.
func (t *tracer) move(ctx context.Context, write bool, buf []byte, a remora.Addr) (n int, errno linux.Errno) {
	if err := t.stop(ctx); err != nil {
		return 0, errnoOfStop(ctx, err)
	}
	if write {
		n, errno = t.poke(buf, a)
	} else {
		n, errno = t.peek(buf, a)
	}
	if err := t.resume(); err != nil && errno == 0 {
		errno = linux.EAGAIN
	}
	return n, errno
}

// errnoOfStop gives the number for an error of stop.
func errnoOfStop(ctx context.Context, err error) linux.Errno {
	var errno linux.Errno
	switch {
	case ctx.Err() != nil:
		return linux.EINTR
	case errors.As(err, &errno):
		return errno
	}
	return linux.ESRCH
}

// enter takes a turn.
func (t *tracer) enter(ctx context.Context, turn chan<- struct{}) error {
	select {
	case turn <- struct{}{}:
		return nil
	case <-ctx.Done():
	case <-t.quit:
	}
	return t.over(ctx)
}

// leave gives the turn back; who leaves a closed tracer clears up.
func (t *tracer) leave() {
	if _, closed := t.held(); closed {
		t.clear()
	}
	<-t.turn
}

// errGivenUp is the result of a call that the kernel does not let end: serve
// releases what it has seized, and gives back the turn, as soon as it can.
var errGivenUp = errors.New("given up")

// perform has serve stop or probe the process.
func (t *tracer) perform(ctx context.Context, what act) error {
	if err := t.group.open(t.pid); err != nil {
		return err
	}
	t.start()
	t.req.act, t.req.ctx = what, ctx
	t.req.state.Store(reqRunning)
	if !t.send() {
		return remora.ErrGone
	}
	if !t.wait(ctx) {
		return errGivenUp
	}
	t.req.ctx = nil
	err := t.req.err
	if t.req.ending {
		if held := t.join(); err == nil {
			err = held
		}
	}
	return err
}

// wait waits for the end of a stop, and reaps meanwhile. It gives false when it gave
// the call up: it ought to end, and serve does not notice.
func (t *tracer) wait(ctx context.Context) bool {
	if t.tick == nil {
		t.tick = time.NewTimer(reapEvery)
	} else {
		t.tick.Reset(reapEvery)
	}
	for late := time.Duration(0); ; {
		select {
		case <-t.done:
			t.tick.Stop()
			return true
		case <-t.tick.C:
		}
		if late += reapEvery; t.over(ctx) == nil {
			late = 0
		}
		if late > patience && t.req.state.CompareAndSwap(reqRunning, reqGivenUp) {
			return false
		}
		t.group.reap()
		t.tick.Reset(reapEvery)
	}
}

// send hands the request to serve. It gives false when there is no serve.
func (t *tracer) send() bool {
	if t.ended == nil {
		return false
	}
	select {
	case t.call <- struct{}{}:
		return true
	case <-t.ended:
		return false
	}
}

// start makes sure that there is a serve.
func (t *tracer) start() {
	if t.ended != nil {
		select {
		case <-t.ended:
			_ = t.join() // else Seize finds the target traced, and says so
		default:
			return
		}
	}
	t.ended = make(chan struct{})
	up := make(chan struct{})
	go t.serve(up)
	<-up
}

// letGo lets the process run on.
func (t *tracer) letGo() error {
	if t.ended == nil {
		return nil
	}
	t.req.act = actRelease
	if t.send() {
		<-t.done
		if !t.req.ending {
			return nil
		}
	}
	return t.join()
}

// join waits until the thread of serve is no more, and so has let go of all.
func (t *tracer) join() error {
	const tries = 2000 // about two seconds; the thread has nothing left to do
	for range tries {
		if linux.ThreadEnded(t.tid) {
			t.ended = nil
			return nil
		}
		time.Sleep(time.Millisecond)
	}
	return errHeld
}

// close lets the process run on and ends the thread. Resumes after it do nothing.
// It does not wait for a call that is stuck in the kernel: the thread then ends
// with that call.
func (t *tracer) close() {
	t.mu.Lock()
	first := !t.closed
	t.closed, t.depth = true, 0
	t.mu.Unlock()
	if !first {
		return
	}
	close(t.quit)
	late := time.NewTimer(2 * patience)
	defer late.Stop()
	select {
	case t.turn <- struct{}{}:
		t.leave()
	case <-late.C:
	}
}

// clear ends serve and closes what is open. It is for who has the turn.
func (t *tracer) clear() {
	t.req.act = actQuit
	if t.send() {
		<-t.done
	}
	// A call that was given up is cleared up after by serve itself.
	if t.ended != nil && linux.ThreadID() != t.tid {
		_ = t.join()
	}
	t.group.close()
}

// serve is the thread that traces.
func (t *tracer) serve(up chan<- struct{}) {
	runtime.LockOSThread() // for good: the end of the goroutine is that of the thread
	if linux.ThreadID() == os.Getpid() {
		// The main thread does not end with its goroutine, so take another one.
		second := make(chan struct{})
		go t.serve(second)
		<-second
		close(up)
		runtime.UnlockOSThread()
		return
	}
	ended := t.ended
	t.tid = linux.ThreadID()
	close(up)
	watch := time.NewTimer(watchEvery)
	defer watch.Stop()
	for {
		select {
		case <-t.call:
			if t.handle(ended) {
				return
			}
		case <-watch.C:
			if len(t.group.all) > 0 && !t.group.alive() {
				t.group.release()
				close(ended)
				return
			}
		}
		if len(t.group.all) > 0 {
			watch.Reset(watchEvery)
		} else {
			watch.Stop()
		}
	}
}

// handle does what a request asks for, and says whether serve ends with it.
func (t *tracer) handle(ended chan<- struct{}) bool {
	r, g := &t.req, &t.group
	r.n, r.errno, r.err, r.ending = 0, 0, nil, false
	revocable := false
	switch r.act {
	case actStop:
		revocable = true
		if r.err = g.stopAll(r.ctx); r.err != nil {
			r.ending = !g.release()
		}
	case actProbe:
		revocable = true
		r.err = g.probe()
		r.ending = !g.release()
	case actPeek:
		r.n, r.errno = g.peek(r.buf, uint64(r.addr))
	case actPoke:
		r.n, r.errno = g.poke(r.buf, uint64(r.addr))
	case actRelease:
		r.ending = !g.release()
	case actQuit:
		g.release()
		r.ending = true
	}
	if revocable && !r.state.CompareAndSwap(reqRunning, reqDone) {
		g.release()
		r.ctx = nil
		close(ended)
		t.leave()
		return true
	}
	ending := r.ending // r is the caller's from here on
	if ending {
		close(ended)
	}
	t.done <- struct{}{}
	return ending
}
