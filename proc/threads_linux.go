// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/sys/linux"
)

// threads are those of one process, as its tracer knows them. All methods but
// reap, open and close belong to the tracer's thread.
//
// Whether a thread has stopped is asked by PTRACE_GETSIGINFO, not awaited by
// wait(2): the target may be a child of our own, for which others wait, and a report
// that one of them takes must not be missed here.
type threads struct {
	tgid int
	root *os.Root // /proc/TGID: bound to the process, and ESRCH after it
	task *os.File
	stat *os.File

	mu  sync.Mutex // guards all; not held during calls that may block
	all []thread   // in order of tid

	quit  <-chan struct{} // closed when the tracer is
	timer *time.Timer
	ids   []int
	text  [1 << 10]byte // /proc/PID/stat is shorter
	dir   [4 << 10]byte
	word  linux.Word
}

type thread struct {
	tid   int
	state threadState
	stray bool // in no list since it was seized: its number was used again
}

type threadState uint8

const (
	seized  threadState = iota // traced, and asked to stop
	stopped                    // traced, and in a stop event
	dead                       // a leader that is a zombie while its threads live
)

const (
	maxRounds = 1000 // of listing threads until no new one is found
	firstRest = 20 * time.Microsecond
	lastRest  = 5 * time.Millisecond
	spins     = 3 // looks before the first rest
)

var errRestless = errors.New("the process makes threads faster than they can be stopped")

// open finds the process that pid belongs to, once. A number may be a thread's.
func (g *threads) open(pid int) (err error) {
	if g.root != nil {
		return nil
	}
	var text []byte
	root, err := os.OpenRoot("/proc/" + strconv.Itoa(pid))
	if err == nil {
		if text, err = root.ReadFile("status"); err == nil {
			g.tgid = statusField(text, "Tgid:")
		}
		if err == nil && g.tgid != pid {
			_ = root.Close()
			root, err = os.OpenRoot("/proc/" + strconv.Itoa(g.tgid))
		}
	}
	if err != nil {
		return absent(err)
	}
	g.root = root
	if g.task, err = root.Open("task"); err == nil {
		g.stat, err = root.Open("stat")
	}
	if err == nil && g.tgid == os.Getpid() {
		err = &remora.AccessError{Target: "pid " + strconv.Itoa(pid), Act: "stop",
			Reason: "it is this very process, and a process cannot trace itself", Err: linux.EPERM}
	}
	if err != nil {
		g.close()
		return absent(err)
	}
	return nil
}

func (g *threads) close() {
	if g.root == nil {
		return
	}
	for _, f := range []*os.File{g.task, g.stat} {
		if f != nil {
			_ = f.Close()
		}
	}
	_ = g.root.Close()
	g.root, g.task, g.stat = nil, nil, nil
}

// absent makes one error of the ways in which /proc says that a process is gone.
func absent(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, linux.ESRCH) {
		return remora.ErrGone
	}
	return err
}

// stopAll stops every thread: those listed, and those that they made before they
// had all stopped. On error some may be seized or stopped: see release.
func (g *threads) stopAll(ctx context.Context) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	for round := range maxRounds {
		if err := g.over(ctx); err != nil {
			return err
		}
		moved, err := g.update(true)
		if err != nil {
			return err
		}
		if !moved && g.settled() {
			if complete, err := g.complete(); complete || err != nil {
				return err
			}
			// A thread ended while its list was read, which cuts the list short.
			if err := g.rest(ctx, round+spins); err != nil {
				return err
			}
		}
		if err := g.settle(ctx); err != nil {
			return err
		}
	}
	return errRestless
}

// over gives the reason to give up, if there is one.
func (g *threads) over(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case <-g.quit:
		return fs.ErrClosed
	default:
		return nil
	}
}

// probe seizes one thread, if that is permitted, and does not stop it.
func (g *threads) probe() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	for range spins { // a thread may end between the list and Seize
		if seized, err := g.update(false); seized || err != nil {
			return err
		}
	}
	return remora.ErrGone
}

// settled says whether every thread known has stopped.
func (g *threads) settled() bool {
	return !slices.ContainsFunc(g.all, func(t thread) bool { return t.state == seized || t.stray })
}

// complete says whether the threads known are all there are. They have all stopped,
// so none of them can have made another since it was listed.
func (g *threads) complete() (bool, error) {
	for i := range g.all {
		if t := &g.all[i]; t.state == stopped {
			if sig, errno := linux.Stopped(t.tid); sig != 0 || errno != 0 {
				t.state = seized
				return false, nil
			}
		}
	}
	state, count, err := g.leader()
	if err != nil {
		return false, err
	}
	if _, ok := g.first(); !ok {
		if count < 2 && gone(state) {
			return false, remora.ErrGone
		}
		return false, nil
	}
	return count == len(g.all) && count == len(g.ids), nil
}

// gone says whether a state letter means a thread that has ended.
func gone(state byte) bool { return state == 'Z' || state == 'X' }

// update lists the threads and seizes those that are new; moved says whether there
// were any. With one set false it leaves them running, and ends after the first.
func (g *threads) update(interrupt bool) (moved bool, err error) {
	var errno linux.Errno
	g.ids, errno = linux.AppendTasks(g.ids[:0], int(g.task.Fd()), g.dir[:])
	if errno == linux.ENOENT || errno == linux.ESRCH {
		return false, remora.ErrGone
	} else if errno != 0 {
		return false, fmt.Errorf("list the threads of pid %d: %w", g.tgid, errno)
	}
	slices.Sort(g.ids)
	g.ids = slices.Compact(g.ids)
	known := len(g.all)
	for i := range g.all {
		t := &g.all[i]
		if _, listed := slices.BinarySearch(g.ids, t.tid); !listed {
			// A list can be cut short; a look-up cannot.
			_, err := g.root.Lstat("task/" + strconv.Itoa(t.tid))
			t.stray = err != nil
		}
	}
	for _, id := range g.ids {
		if _, found := slices.BinarySearchFunc(g.all[:known], id, byID); found {
			continue
		}
		got, err := g.seize(id)
		if err != nil {
			return moved, err
		}
		if got && interrupt {
			linux.Interrupt(id) // where it fails, look finds out why
		}
		moved = moved || got
		if got && !interrupt {
			break
		}
	}
	slices.SortFunc(g.all, func(a, b thread) int { return a.tid - b.tid })
	return moved, nil
}

func byID(t thread, id int) int { return t.tid - id }

// seize begins to trace one thread. It gives false when that has ended.
func (g *threads) seize(id int) (bool, error) {
	for again := false; ; again = true {
		g.mu.Unlock()
		errno := linux.Seize(id)
		g.mu.Lock()
		switch errno {
		case linux.OK:
			g.all = append(g.all, thread{tid: id})
			return true, nil
		case linux.ESRCH:
			return false, nil
		case linux.EPERM:
		default:
			return false, fmt.Errorf("attach to thread %d: %w", id, errno)
		}
		text, err := g.root.ReadFile("task/" + strconv.Itoa(id) + "/status")
		if err != nil {
			return false, nil
		}
		tracer := statusField(text, "TracerPid:")
		switch {
		case bytes.Contains(text, []byte("\nState:\tZ")) || bytes.Contains(text, []byte("\nState:\tX")):
			if id == g.tgid {
				g.all = append(g.all, thread{tid: id, state: dead})
			}
			return false, nil
		case tracer == linux.ThreadID(): // the thread that called execve took this number over
			g.all = append(g.all, thread{tid: id})
			return true, nil
		case tracer != 0:
			return false, g.traced(tracer)
		case again: // not refused for a tracer that has just let go
			return false, fmt.Errorf("attach to thread %d: %w", id, errno)
		}
	}
}

// traced is the refusal when another process traces the target.
func (g *threads) traced(tracer int) error {
	who := "pid " + strconv.Itoa(tracer)
	if text, err := os.ReadFile("/proc/" + strconv.Itoa(tracer) + "/status"); err == nil {
		who = "pid " + strconv.Itoa(statusField(text, "Tgid:"))
		if name, _, ok := strings.Cut(strings.TrimPrefix(string(text), "Name:\t"), "\n"); ok {
			who += " (" + name + ")"
		}
	}
	return &remora.AccessError{
		Target: "pid " + strconv.Itoa(g.tgid), Act: "attach to",
		Reason: "it is traced already, by " + who,
		Remedy: "a process can have one tracer: end that one first",
		Err:    linux.EPERM,
	}
}

// settle waits until every thread known has stopped or ended. One may sleep for long
// before it does; threads that the others made before they stopped are not left to run
// meanwhile.
func (g *threads) settle(ctx context.Context) error {
	for pass := 0; ; pass++ {
		kept := g.all[:0]
		waiting := false
		for _, t := range g.all {
			if g.look(&t, pass) {
				kept = append(kept, t)
				waiting = waiting || t.state == seized
			}
		}
		g.all = kept
		if !waiting {
			return nil
		}
		if err := g.rest(ctx, pass); err != nil {
			return err
		}
		if pass >= spins {
			if _, err := g.update(true); err != nil {
				return err
			}
		}
	}
}

// look brings one thread up to date. It gives false when that is no more, or has
// been let go because it is not of this process.
func (g *threads) look(t *thread, pass int) bool {
	if t.state == dead {
		// The thread that calls execve takes over the number of the leader.
		state, _, err := g.leader()
		return err == nil && gone(state)
	}
	sig, errno := linux.Stopped(t.tid)
	if errno == 0 && sig == 0 && t.state == stopped && !t.stray {
		return true
	}
	t.state = seized // one that had stopped has been killed, if only by an execve
	switch {
	case errno != 0:
	case sig != 0:
		// It stopped for a signal first. Its report is left where it is, so that the
		// signal is not lost whenever we die; then it runs into the stop asked for.
		linux.Cont(t.tid, sig)
		return true
	case t.stray:
		return linux.Detach(t.tid) != 0
	default:
		linux.TakeStop(t.tid)
		t.state = stopped
		return true
	}
	if t.tid == g.tgid {
		// Not for us to reap, and not even waitable while other threads live.
		if pass >= spins {
			if state, _, err := g.leader(); err == nil && gone(state) {
				t.state = dead
				return true
			}
		}
	} else if linux.Reap(t.tid) {
		return false
	}
	return linux.Interrupt(t.tid) == 0
}

// rest sleeps, longer with each pass, and holds no lock meanwhile.
func (g *threads) rest(ctx context.Context, pass int) error {
	if err := g.over(ctx); err != nil || pass < spins {
		return err
	}
	d := lastRest
	if shift := pass - spins; shift < 8 {
		d = min(firstRest<<shift, lastRest)
	}
	if g.timer == nil {
		g.timer = time.NewTimer(d)
	} else {
		g.timer.Reset(d)
	}
	g.mu.Unlock()
	defer g.mu.Lock()
	select {
	case <-g.timer.C:
		return nil
	case <-ctx.Done():
	case <-g.quit:
	}
	return g.over(ctx)
}

// release lets every thread go. It gives false when some can only be let go by the
// end of the tracing thread: those that have not stopped, and those that were
// killed, which the kernel then hands to their parent.
func (g *threads) release() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	all := true
	for _, t := range g.all {
		all = t.state == stopped && linux.Detach(t.tid) == 0 && all
	}
	g.all = g.all[:0]
	return all
}

// reap takes the exit status of threads that have ended. It may be called from any
// thread. A thread inside execve waits until its siblings have been reaped, and
// Seize waits for that execve: so somebody else must reap while Seize blocks.
func (g *threads) reap() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, t := range g.all {
		if t.tid != g.tgid {
			linux.Reap(t.tid)
		}
	}
}

// alive says whether the stopped process is still there; only SIGKILL ends it.
func (g *threads) alive() bool {
	tid, ok := g.first()
	if !ok {
		return false
	}
	_, errno := linux.Stopped(tid)
	return errno == 0
}

// first gives a stopped thread.
func (g *threads) first() (tid int, ok bool) {
	for i := range g.all {
		if g.all[i].state == stopped {
			return g.all[i].tid, true
		}
	}
	return 0, false
}

// leader gives the state of the first thread and the number of threads, zombies
// included: fields 3 and 20 of /proc/PID/stat (man 5 proc).
func (g *threads) leader() (state byte, count int, err error) {
	n, err := g.stat.ReadAt(g.text[:], 0)
	text := g.text[:n]
	if n == 0 {
		return 0, 0, absent(err)
	}
	// The name, field 2, may hold spaces and parentheses.
	text = text[bytes.LastIndexByte(text, ')')+1:]
	for field := 2; len(text) > 0; field++ {
		end := bytes.IndexByte(text, ' ')
		if end < 0 {
			break
		}
		switch field {
		case 3:
			state = text[0]
		case 20:
			return state, number(text[:end]), nil
		}
		text = text[end+1:]
	}
	return 0, 0, fmt.Errorf("/proc/%d/stat: fewer than 20 fields", g.tgid)
}

// statusField gives the number on one line of /proc/PID/status, or 0.
func statusField(text []byte, name string) int {
	_, rest, _ := bytes.Cut(text, []byte("\n"+name+"\t"))
	return number(rest)
}

// number gives the decimal number at the start of b.
func number(b []byte) int {
	n := 0
	for _, c := range b {
		if c < '0' || c > '9' || n > 1<<26 {
			break
		}
		n = n*10 + int(c-'0')
	}
	return n
}

// peek reads words of the target until buf is full or one cannot be read. No word
// spans two pages, so a fault is at the first byte of one: n is exact.
func (g *threads) peek(buf []byte, a uint64) (n int, errno linux.Errno) {
	tid, ok := g.first()
	if !ok {
		return 0, linux.ESRCH
	}
	for n < len(buf) {
		at := a + uint64(n)
		off := at % linux.WordSize
		if errno := linux.Peek(tid, at-off, &g.word); errno != 0 {
			return n, errno
		}
		n += copy(buf[n:], g.word[off:])
	}
	return n, 0
}

// poke writes words into the target until all of buf is there or one cannot be
// written. Of a word that is written in part, the rest is read first: the target
// has stopped, so nobody but a sharer of the page can change that in between.
func (g *threads) poke(buf []byte, a uint64) (n int, errno linux.Errno) {
	tid, ok := g.first()
	if !ok {
		return 0, linux.ESRCH
	}
	for n < len(buf) {
		at := a + uint64(n)
		off := at % linux.WordSize
		if off != 0 || len(buf)-n < linux.WordSize {
			if errno := linux.Peek(tid, at-off, &g.word); errno != 0 {
				return n, errno
			}
		}
		part := copy(g.word[off:], buf[n:])
		if errno := linux.Poke(tid, at-off, &g.word); errno != 0 {
			return n, errno
		}
		n += part
	}
	return n, 0
}
