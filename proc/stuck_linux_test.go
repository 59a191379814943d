// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/specimen"
	"github.com/remora-go/remora/internal/specimen/specimentest"
)

// frozen is a specimen with pages in the middle of its memory that nobody serves:
// the kernel waits for them (R49).
type frozen struct {
	*specimen.Specimen
	t      *testing.T
	p      *Process
	before area
	stuck  area
	after  area
}

// freeze lays out some pages before the ones that are stuck, and two after them.
func freeze(t *testing.T, o Options, before, stuck int) *frozen {
	t.Helper()
	t.Cleanup(func() { goleak.VerifyNone(t, goleak.IgnoreCurrent()) })
	s := specimentest.Start(t, nil)
	areas := layOut(t, s, specimen.Piece{Kind: specimen.Touched, Pages: before},
		specimen.Piece{Kind: specimen.Missing, Pages: stuck}, specimen.Piece{Kind: specimen.Touched, Pages: 2})
	o.Write = true
	return &frozen{s, t, openProcess(t, s.Pid(), &o), areas[0], areas[1], areas[2]}
}

// waits waits until the kernel waits for a page, n times more, and gives the
// address of the last.
func (f *frozen) waits(n int) (last remora.Addr) {
	f.t.Helper()
	for range n {
		await(f.t, "the kernel waits for a page", func() bool {
			a, _, ok, err := f.Waiter()
			if err != nil {
				f.t.Fatal(err)
			}
			if ok {
				last = a
			}
			return ok
		})
	}
	return last
}

// resolve brings all pages that are stuck, and gives what they hold now.
func (f *frozen) resolve() []byte {
	f.t.Helper()
	data := make([]byte, f.stuck.Size)
	specimen.Pattern(data, f.stuck.Start, 77)
	if err := f.Resolve(data, f.stuck.Start); err != nil {
		f.t.Fatal(err)
	}
	return data
}

// ended waits until no call is left behind.
func (f *frozen) ended() {
	f.t.Helper()
	await(f.t, "the calls that were left behind end", func() bool { return f.p.calls.stuck() == 0 })
}

// contents gives what lies in all three areas when those pages are not brought.
func (f *frozen) contents(stuck []byte) []byte {
	all := append([]byte(nil), f.Contents(f.before.kind, f.before.Range)...)
	all = append(all, stuck...)
	return append(all, f.Contents(f.after.kind, f.after.Range)...)
}

// expiring is a context that ends when its test says so, and says that its deadline
// has passed.
type expiring struct{ context.Context }

func (c expiring) Err() error {
	if c.Context.Err() != nil {
		return context.DeadlineExceeded
	}
	return nil
}

// endings are the ways in which a context ends.
func endings(t *testing.T, f func(t *testing.T, ctx context.Context, end func(), want error)) {
	t.Run("canceled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		f(t, ctx, cancel, context.Canceled)
	})
	t.Run("deadline", func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		f(t, expiring{ctx}, cancel, context.DeadlineExceeded)
	})
}

// transfer is a Transfer under way.
type transfer struct {
	segs []remora.Seg
	done chan struct{}
	n    int64
	err  error
}

func (f *frozen) start(ctx context.Context, op remora.Op, segs ...remora.Seg) *transfer {
	tr := &transfer{segs: segs, done: make(chan struct{})}
	go func() {
		defer close(tr.done)
		tr.n, tr.err = f.p.Memory().Transfer(ctx, op, segs)
	}()
	return tr
}

// wait waits for what must not hang. It is how every test here tells that a call did.
func wait(t *testing.T, what string, done <-chan struct{}) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		t.Fatalf("%s hangs", what)
	}
}

func (f *frozen) wait(tr *transfer) {
	f.t.Helper()
	wait(f.t, "the transfer", tr.done)
}

// closes closes the process while calls may be stuck.
func (f *frozen) closes() {
	f.t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := f.p.Close(); err != nil {
			f.t.Error(err)
		}
	}()
	wait(f.t, "Close", done)
}

// check compares the results of a transfer.
func (tr *transfer) check(t *testing.T, err error, segs ...remora.Seg) {
	t.Helper()
	var sum int64
	for i, want := range segs {
		got := tr.segs[i]
		sum += int64(want.N)
		if got.N != want.N || got.Err != want.Err {
			t.Errorf("segment %d: %d bytes, %v, want %d, %v", i, got.N, got.Err, want.N, want.Err)
		}
		if want.Buf != nil && !bytes.Equal(got.Buf[:got.N], want.Buf[:want.N]) {
			t.Errorf("segment %d holds other bytes", i)
		}
	}
	if tr.n != sum || tr.err != err {
		t.Errorf("%d, %v, want %d, %v", tr.n, tr.err, sum, err)
	}
}

// TestStuckReadEnds: the context ends while the kernel waits for a page (R49). What lies
// before the page has been read; the page comes after the return, or never.
func TestStuckReadEnds(t *testing.T) {
	endings(t, func(t *testing.T, ctx context.Context, end func(), want error) {
		f := freeze(t, Options{}, 3, 2)
		all := make([]byte, f.before.Size+f.stuck.Size+f.after.Size)
		tr := f.start(ctx, remora.Read, remora.Seg{Addr: f.before.Start, Buf: all})
		f.waits(2) // the read, and what creeps beside it
		end()
		f.wait(tr)
		good := f.contents(nil)
		tr.check(t, want, remora.Seg{N: int(f.before.Size), Err: want, Buf: good})
		if f.p.calls.stuck() == 0 {
			t.Fatal("no call was left behind")
		}

		// The buffer is the caller's: nothing reaches it when the page comes.
		for i := range all {
			all[i] = 0xee
		}
		page := f.resolve()
		f.ended()
		if !bytes.Equal(all, bytes.Repeat([]byte{0xee}, len(all))) {
			t.Error("the buffer was written after the return")
		}
		n, err := f.p.Memory().ReadAt(t.Context(), all, f.before.Start)
		if n != len(all) || err != nil || !bytes.Equal(all, f.contents(page)) {
			t.Errorf("then: %d, %v", n, err)
		}
	})
}

// TestStuckReadGoesOn: the page comes in mid-call, under a context that can end and
// under one that cannot.
func TestStuckReadGoesOn(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for _, row := range []struct {
		name   string
		ctx    context.Context
		o      Options
		before int
	}{
		{"can end", ctx, Options{}, 3},
		{"cannot end", context.Background(), Options{}, 3},
		{"can end, two threads", ctx, Options{Parallel: 2}, 1500},
		{"cannot end, two threads", context.Background(), Options{Parallel: 2}, 1500},
	} {
		t.Run(row.name, func(t *testing.T) {
			f := freeze(t, row.o, row.before, 2)
			all := make([]byte, f.before.Size+f.stuck.Size+f.after.Size)
			tr := f.start(row.ctx, remora.Read, remora.Seg{Addr: f.before.Start, Buf: all})
			f.waits(1)
			select {
			case <-tr.done:
				t.Fatal("it did not wait")
			default:
			}
			page := f.resolve()
			f.wait(tr)
			tr.check(t, nil, remora.Seg{N: len(all), Buf: f.contents(page)})
			f.ended()
		})
	}
}

// TestStuckLargeRead: the prefix is exact where the read takes many calls.
func TestStuckLargeRead(t *testing.T) {
	for _, threads := range []int{1, 2} {
		endings(t, func(t *testing.T, ctx context.Context, end func(), want error) {
			f := freeze(t, Options{Parallel: threads}, 1500, 1)
			all := make([]byte, f.before.Size+f.stuck.Size+f.after.Size)
			tr := f.start(ctx, remora.Read, remora.Seg{Addr: f.before.Start + 5, Buf: all[5:]})
			f.waits(2)
			end()
			f.wait(tr)
			tr.check(t, want, remora.Seg{N: int(f.before.Size) - 5, Err: want, Buf: f.contents(nil)[5:]})
			f.closes()
		})
	}
}

// TestStuckDeadline is TestStuckReadEnds by the clock, with the words of the error.
func TestStuckDeadline(t *testing.T) {
	f := freeze(t, Options{}, 1, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		var fault *remora.Fault
		n, err := f.p.Memory().ReadAt(ctx, make([]byte, 16), f.stuck.Start)
		if n != 0 || !errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &fault) || fault.Addr != f.stuck.Start {
			t.Errorf("%d, %v", n, err)
		}
	}()
	wait(t, "the read", done)
}
