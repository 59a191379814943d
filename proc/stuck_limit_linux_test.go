// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/specimen"
)

// stuckJob reads a page that nobody serves, a thousand times, in a process of its own
// that nothing else goes on in, and writes to it; then it ends. Its arguments are the
// pid and the address.
var stuckJob = specimen.Job{Name: "stuck", Run: func(out io.Writer, args []string) error {
	pid, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	a, err := strconv.ParseUint(args[1], 0, 64)
	if err != nil {
		return err
	}
	p, err := Open(pid, &Options{Write: true})
	if err != nil {
		return err
	}
	busyThreads()
	before, _, err := threadsIn()
	if err != nil {
		return err
	}
	var count, busy atomic.Int32
	one := func(op remora.Op, patience time.Duration) {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		segs := []remora.Seg{{Addr: remora.Addr(a), Buf: make([]byte, 8)}}
		_, err := p.Memory().Transfer(ctx, op, segs)
		if err == context.DeadlineExceeded && segs[0].N == 0 {
			count.Add(1)
		}
		if segs[0].Err == remora.ErrBusy {
			busy.Add(1)
		}
	}
	one(remora.Write, time.Millisecond)
	for range 99 {
		one(remora.Read, time.Millisecond)
	}
	var all sync.WaitGroup
	for range 900 {
		all.Go(func() { one(remora.Read, 100*time.Millisecond) })
	}
	all.Wait()
	after, inside, err := threadsIn()
	if err != nil {
		return err
	}
	fmt.Fprintln(out, count.Load(), busy.Load(), before, after, inside, time.Now().UnixNano())
	return nil // with the calls left behind
}}

// busyThreads makes the runtime start the threads that it needs for ordinary work.
func busyThreads() {
	var all sync.WaitGroup
	for range 4 * runtime.GOMAXPROCS(0) {
		all.Go(func() {
			for range 1000 {
				runtime.Gosched()
			}
		})
	}
	all.Wait()
}

// threadsIn gives the number of threads of this process, which never have become fewer,
// and of those that are inside of process_vm_readv or process_vm_writev.
func threadsIn() (all, inside int, err error) {
	dirs, err := filepath.Glob("/proc/self/task/*")
	for _, dir := range dirs {
		text, err := os.ReadFile(dir + "/syscall")
		if err != nil {
			return 0, 0, err
		}
		number, _, _ := strings.Cut(string(text), " ")
		if number == strconv.Itoa(unix.SYS_PROCESS_VM_READV) || number == strconv.Itoa(unix.SYS_PROCESS_VM_WRITEV) {
			inside++
		}
	}
	return len(dirs), inside, err
}

// TestStuckThreads: a thousand calls that time out need at most 8 threads, and do not
// delay the end of the process that made them.
func TestStuckThreads(t *testing.T) {
	f := freeze(t, Options{}, 1, 1)
	out, err := specimen.Run(t.Context(), nil, stuckJob.Name, strconv.Itoa(f.Pid()), f.stuck.Start.String())
	end := time.Now()
	if err != nil {
		t.Fatal(err)
	}
	var count, busy, before, after, inside int
	var returned int64
	if _, err := fmt.Sscan(out, &count, &busy, &before, &after, &inside, &returned); err != nil {
		t.Fatal(out, err)
	}
	t.Logf("threads before and after: %d, %d; the process took %v to end", before, after, end.Sub(time.Unix(0, returned)))
	if count != 1000 || busy == 0 || busy > 1000-maxAside {
		t.Errorf("%d calls of 1000 timed out, %d of them busy", count, busy)
	}
	// The runtime starts some for work of its own: more on a busy machine, though not one
	// for each call.
	if inside != maxAside || after-before > 4*maxAside {
		t.Errorf("%d threads are stuck; there were %d threads, and are %d", inside, before, after)
	}
	// It has ended at all: Run waits for that, and the page was never brought. One
	// second is what is promised.
	if late := end.Sub(time.Unix(0, returned)); late > 10*time.Second {
		t.Errorf("it took %v to end", late)
	}
}

// TestStuckLimit: beyond the limit a call waits until another one ends.
func TestStuckLimit(t *testing.T) {
	f := freeze(t, Options{}, 1, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	seg := func() remora.Seg { return remora.Seg{Addr: f.stuck.Start, Buf: make([]byte, 8)} }
	var all []*transfer
	for range maxAside {
		all = append(all, f.start(ctx, remora.Read, seg()))
	}
	f.waits(maxAside)
	cancel()
	for _, tr := range all {
		f.wait(tr)
		tr.check(t, context.Canceled, remora.Seg{Err: context.Canceled})
	}
	if n := f.p.calls.stuck(); n != maxAside {
		t.Fatalf("%d calls are left behind", n)
	}
	endings(t, func(t *testing.T, ctx context.Context, end func(), want error) {
		good := remora.Seg{Addr: f.before.Start, Buf: make([]byte, 8)}
		read, write := f.start(ctx, remora.Read, good, good), f.start(ctx, remora.Write, good)
		forced := f.start(ctx, remora.Force, good)
		end()
		for _, tr := range []*transfer{read, write, forced} {
			f.wait(tr)
			if got := tr.segs[0]; got.N != 0 || got.Err != remora.ErrBusy && got.Err != want || tr.err != want {
				t.Errorf("%d, %v, %v", got.N, got.Err, tr.err)
			}
		}
	})
	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	tr := f.start(ctx, remora.Read, seg())
	page := f.resolve()
	f.wait(tr)
	tr.check(t, nil, remora.Seg{N: 8, Buf: page})
	f.ended()
}

// TestStuckClose: Close does not wait for calls that were left behind, and waits for
// those that run, which end with their contexts.
func TestStuckClose(t *testing.T) {
	f := freeze(t, Options{}, 1, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	buf := make([]byte, pageSize+8)
	left := f.start(ctx, remora.Read, remora.Seg{Addr: f.before.Start, Buf: buf})
	f.waits(2)
	cancel()
	f.wait(left)

	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	running := f.start(ctx, remora.Write, remora.Seg{Addr: f.stuck.Start, Buf: []byte("late")})
	f.waits(1)
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		if err := f.p.Close(); err != nil {
			t.Error(err)
		}
		select {
		case <-running.done:
		default:
			if !f.p.gate.Closed() { // running may not have been told yet
				t.Error("Close has returned before a call that runs")
			}
		}
	}()
	await(t, "Close begins", f.p.gate.Closed)
	select {
	case <-closed:
		t.Error("Close has not waited for a call that runs")
	default:
	}
	cancel()
	f.wait(running)
	running.check(t, context.Canceled, remora.Seg{Err: remora.ErrInDoubt})
	wait(t, "Close", closed)

	clear(buf)
	page := f.resolve()
	f.ended()
	if !bytes.Equal(buf, make([]byte, len(buf))) {
		t.Error("the buffer was written after Close")
	}
	got := make([]byte, len(page))
	copy(page, "late")
	if err := f.Peek(got, f.stuck.Start); err != nil || !bytes.Equal(got, page) {
		t.Errorf("%q, %v", got[:8], err)
	}
	if _, err := f.p.Memory().ReadAt(t.Context(), got, f.before.Start); !errors.Is(err, os.ErrClosed) {
		t.Error(err)
	}
}

// TestStuckResident: what is not present is not waited for, whatever the context.
func TestStuckResident(t *testing.T) {
	f := freeze(t, Options{}, 1, 1)
	good := f.contents(nil)
	all := make([]byte, len(good)+pageSize)
	tr := f.start(context.Background(), remora.Resident,
		remora.Seg{Addr: f.before.Start, Buf: all}, remora.Seg{Addr: f.after.Start, Buf: make([]byte, 4)})
	f.wait(tr)
	tr.check(t, remora.ErrNotPresent, remora.Seg{N: pageSize, Err: remora.ErrNotPresent, Buf: good},
		remora.Seg{N: 4, Buf: good[pageSize:]})
	if _, _, ok, err := f.Waiter(); ok || err != nil {
		t.Errorf("somebody waits for the page, %v", err)
	}
}

// TestStuckQuestions: what does not touch the memory is answered while calls are stuck.
func TestStuckQuestions(t *testing.T) {
	f := freeze(t, Options{}, 1, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	tr := f.start(ctx, remora.Read, remora.Seg{Addr: f.stuck.Start, Buf: make([]byte, 8)})
	f.waits(1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		found := false
		for reg, err := range f.p.Regions(context.Background()) {
			if err != nil {
				t.Error(err)
			}
			found = found || reg.Contains(f.stuck.Start)
		}
		if !found {
			t.Error("the map lacks the page")
		}
		if _, err := f.p.Describe(context.Background()); err != nil {
			t.Error(err)
		}
		_, err := f.p.Memory().ReadAt(context.Background(), make([]byte, 1), 8)
		if !errors.Is(err, remora.ErrUnmapped) || !strings.Contains(err.Error(), "the first mapping begins at") {
			t.Error(err)
		}
		resume, err := f.p.Pause(context.Background())
		if err != nil {
			t.Error(err)
		} else if err := resume(); err != nil {
			t.Error(err)
		}
	}()
	wait(t, "a question", done)
	cancel()
	f.wait(tr)
}
