// SPDX-License-Identifier: Apache-2.0

package processvm

import (
	"context"
	"fmt"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/compat/errno"
	"github.com/remora-go/remora/memtest"
)

// both runs a test between two different memories, where long runs are moved at once, and
// between two that may be the same, where it goes piece by piece.
func both(t *testing.T, f func(t *testing.T, w *world)) {
	for _, live := range []bool{false, true} {
		t.Run(fmt.Sprintf("live=%t", live), func(t *testing.T) {
			w := newWorld(t, nil)
			w.local = memtest.NewSparse(&memtest.SparseOptions{Live: live})
			w.remote = memtest.NewSparse(&memtest.SparseOptions{Live: live})
			w.caller = &Process{PID: callerPID, Memory: w.local.Memory()}
			w.target = &Process{PID: targetPID, Memory: w.remote.Memory()}
			w.set(w.caller)
			w.set(w.target)
			w.fill(w.local, localBase, 8, rw)
			w.fill(w.remote, base, 4, rw)
			f(t, w)
		})
	}
}

func TestR20TheAmountIsTheSmallerTotal(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		w.check(w.readv(targetPID, one(localBase, 30), one(base, 10)), moved(10))
		w.check(w.readv(targetPID, one(localBase, 10), one(base, 30)), moved(10))
		w.holds(w.local, localBase, base, 10)
		w.holds(w.local, localBase+10, localBase+10, 30)
		w.check(w.writev(targetPID, iov(at(localBase+ps, 3), at(localBase+19, 4)), iov(at(base+ps, 5), at(base+3*ps, 90))), moved(7))
		w.holds(w.remote, base+ps, localBase+ps, 3)
		w.holds(w.remote, base+ps+3, localBase+19, 2)
		w.holds(w.remote, base+3*ps, localBase+21, 2)
		w.holds(w.remote, base+ps+5, base+ps+5, 8)
		w.holds(w.remote, base+3*ps+2, base+3*ps+2, 8)
	})
}

func TestR21EmptyRemoteElementsAreSkipped(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		w.check(w.readv(targetPID, one(localBase, 10), iov(at(kernelAddr, 0), at(base, 4), at(0, 0), at(hole, 0), at(base+100, 6), at(hole, 0))), moved(10))
		w.holds(w.local, localBase, base, 4)
		w.holds(w.local, localBase+4, base+100, 6)
	})
}

func TestR22NothingMovedIsAnError(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		w.check(w.readv(targetPID, one(localBase, 1), one(hole, 1)), failed(errno.EFAULT))
		w.check(w.writev(targetPID, one(hole, 1), one(base, 1)), failed(errno.EFAULT))
		w.check(w.readv(targetPID, one(localBase, 0), one(hole, 1)), moved(0))
		w.check(w.readv(targetPID, one(localBase, 1), one(hole, 0)), moved(0))
	})
}

func TestR23RemoteFaultInTheMiddle(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		const end = base + 4*ps
		for _, from := range []uint64{end - 1, end - 100, end - ps, end - ps - 1, base} {
			w.check(w.readv(targetPID, one(localBase, 5*ps), one(from, 5*ps)), moved(int(end-from)))
			w.holds(w.local, localBase, remora.Addr(from), int(end-from))
			w.check(w.writev(targetPID, one(localBase, 5*ps), one(from, 5*ps)), moved(int(end-from)))
		}
		w.check(w.readv(targetPID, iov(at(localBase, 10), at(localBase+10, 10)), iov(at(base, 5), at(end-3, 9), at(base, 9))), moved(8))
		w.check(w.readv(targetPID, one(localBase, 5), one(end, 5)), failed(errno.EFAULT))
	})
}

func TestR24AShortCountHasNoErrno(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		r := w.readv(targetPID, one(localBase, 2*ps), one(base+3*ps, 2*ps))
		w.check(r, moved(ps))
		if err := Outcome(false, targetPID, one(localBase, 2*ps), one(base+3*ps, 2*ps), r.n, r.e); err == nil {
			t.Error("Outcome has no error for a short count")
		}
	})
}

func TestR25NothingIsTriedAfterAFault(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		w.check(w.readv(targetPID, one(localBase, 100), iov(at(hole, 10), at(base, 10))), failed(errno.EFAULT))
		w.holds(w.local, localBase, localBase, 100)
		w.check(w.writev(targetPID, one(localBase, 30), iov(at(base, 10), at(hole, 10), at(base+50, 10))), moved(10))
		w.holds(w.remote, base+50, base+50, 10)
		w.check(w.readv(targetPID, iov(at(hole, 10), at(localBase, 10)), one(base, 20)), failed(errno.EFAULT))
		w.holds(w.local, localBase, localBase, 100)
	})
}

// What pages copies ends where the local side faults, and not before (R64).
func TestR26LocalFaultToTheByte(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		const end = localBase + 8*ps
		for _, tail := range []uint64{1, 5, 100, 3000, ps, ps + 1, 3 * ps} {
			w.check(w.readv(targetPID, one(end-tail, 4*ps), one(base+3, 4*ps-3)), moved(int(tail)))
			w.holds(w.local, remora.Addr(end-tail), base+3, int(tail))
		}
		w.fill(w.remote, base+0x100000, 8, rw)
		w.check(w.writev(targetPID, iov(at(localBase, 10), at(end-5, 90), at(localBase+10, 10)), one(base+0x100000, 8*ps)), moved(15))
		w.holds(w.remote, base+0x100000, localBase, 10)
		w.holds(w.remote, base+0x100000+15, base+0x100000+15, 100)
		w.check(w.writev(targetPID, iov(at(localBase, 10), at(end, 9)), one(base, 8*ps)), moved(10))
		w.check(w.readv(targetPID, iov(at(end, 9), at(localBase, 10)), one(base, 8*ps)), failed(errno.EFAULT))
	})
}

func TestR27RemotePagesComeFirst(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		w.check(w.readv(targetPID, one(hole, 5), one(hole, 5)), failed(errno.EFAULT))
		w.empty(w.remote, base+4*ps, 1, rw)
		w.check(w.writev(targetPID, one(hole, 5), one(base+4*ps, 5)), failed(errno.EFAULT))
		if n := presentPages(w, base+4*ps, 1); n != 1 {
			t.Errorf("the remote page was not pinned before the local one was read")
		}
	})
}

// presentPages counts the remote pages that are in memory.
func presentPages(w *world, a remora.Addr, pages int) (n int) {
	b := make([]byte, 1)
	for i := range pages {
		if _, err := w.remote.Memory().With(remora.Resident).ReadAt(context.Background(), b, a+remora.Addr(i*ps)); err == nil {
			n++
		}
	}
	return n
}

// The largest element is what core sizes its arrays by, and singleVec pins (R62, R63).
func TestR28AWholeBatchIsPinned(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		const far = 0x10000000
		w.empty(w.remote, far, 3000, rw)
		w.check(w.writev(targetPID, one(localBase, 1), one(far+5, 8*ps-5)), moved(1))
		if n := presentPages(w, far, 3000); n != 8 {
			t.Errorf("%d pages for a byte into an element of 8", n)
		}
		w.empty(w.remote, far, 3000, rw)
		w.check(w.writev(targetPID, one(localBase, 1), iov(at(far+5, 2048*ps), at(far+2500*ps, ps))), moved(1))
		if n := presentPages(w, far, 3000); n != 1024 {
			t.Errorf("%d pages for a byte into an element of 8 MiB", n)
		}
		if n := presentPages(w, far, 1024); n != 1024 {
			t.Errorf("only %d of them are the first", n)
		}
		w.empty(w.remote, far, 3000, rw)
		w.check(w.readv(targetPID, one(localBase, 1), one(far, 8*ps)), moved(1)) // a Sparse maps nothing for a read
		w.check(w.writev(targetPID, one(localBase, 8), iov(at(far, 8), at(far+ps, 8))), moved(8))
		if n := presentPages(w, far, 3000); n != 1 {
			t.Errorf("%d pages, though the local memory ends with the first element", n)
		}
	})
}

func TestR28BatchesBeginWhereTheElementDoes(t *testing.T) {
	w := newWorld(t, nil)
	const far = 0x10000000
	w.empty(w.remote, far, 3000, rw)
	w.empty(w.local, 0x20000000, 1025, rw)
	w.check(w.writev(targetPID, one(0x20000000, 1024*ps-100), one(far+100, 2900*ps)), moved(1024*ps-100))
	if n := presentPages(w, far, 3000); n != 1024 {
		t.Errorf("%d pages for what the first batch has room for", n)
	}
	w.check(w.writev(targetPID, one(0x20000000, 1024*ps-99), one(far+100, 2900*ps)), moved(1024*ps-99))
	if n := presentPages(w, far, 3000); n != 2048 {
		t.Errorf("%d pages for a byte more", n)
	}
}

func TestR28ReadsMakePagesPresent(t *testing.T) {
	w := newWorld(t, nil)
	w.remote = memtest.NewSparse(&memtest.SparseOptions{ReadMaps: true})
	w.set(&Process{PID: targetPID, Memory: w.remote.Memory()})
	w.empty(w.remote, base, 3000, rw)
	w.check(w.readv(targetPID, one(localBase, 1), one(base, 1400*ps)), moved(1))
	if n := presentPages(w, base, 3000); n != 1024 {
		t.Errorf("%d pages for a byte of an element of 1,400", n)
	}
}

func TestR29AHoleBehindTheEndIsNoError(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		w.check(w.readv(targetPID, one(localBase, 1), one(base+3*ps, 3*ps)), moved(1))
		w.check(w.readv(targetPID, one(localBase, ps), one(base+3*ps, 3*ps)), moved(ps))
		w.check(w.writev(targetPID, one(localBase, ps), iov(at(base+3*ps, ps), at(hole, 5))), moved(ps))
	})
}

func TestR30PagesStayPinnedWhenTheLocalMemoryFaults(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		const far = 0x10000000
		w.empty(w.remote, far, 10, rw)
		w.check(w.writev(targetPID, one(hole, 5), one(far, 3*ps)), failed(errno.EFAULT))
		if n := presentPages(w, far, 10); n != 3 {
			t.Errorf("%d pages were made present, want 3", n)
		}
		for _, b := range w.peek(w.remote, far, 3*ps) {
			if b != 0 {
				t.Fatal("a byte was written")
			}
		}
	})
}

func TestR31EveryPinningFailureIsEFAULT(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		for _, cause := range []remora.Cause{remora.ErrPoisoned, remora.ErrGuard, remora.ErrIO, remora.ErrDevice, remora.ErrNotSaved} {
			w.must(w.remote.Map(remora.Range{Start: base + ps, Size: ps}, memtest.MapOptions{Perm: rw, Fault: cause}))
			w.check(w.readv(targetPID, one(localBase, 10), one(base+ps, 10)), failed(errno.EFAULT))
			w.check(w.writev(targetPID, one(localBase, 2*ps), one(base, 2*ps)), moved(ps))
		}
	})
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// A context that ends is a signal that kills the caller.
func TestR31AKilledCaller(t *testing.T) {
	w := newWorld(t, nil)
	w.fill(w.remote, base, 4, rw)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	n, e := w.sys.Readv(ctx, w.caller, targetPID, one(localBase, 10), one(base, 10), 0)
	w.check(result{n, e}, failed(errno.EINTR))
}

func TestR33LaterBytesWin(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		w.check(w.readv(targetPID, iov(at(localBase, 10), at(localBase+5, 10), at(localBase+2, 2)), one(base, 22)), moved(22))
		w.holds(w.local, localBase, base, 2)
		w.holds(w.local, localBase+2, base+20, 2)
		w.holds(w.local, localBase+4, base+4, 1)
		w.holds(w.local, localBase+5, base+10, 10)
		w.check(w.writev(targetPID, one(localBase+ps, 20), iov(at(base, 10), at(base+5, 10))), moved(20))
		w.holds(w.remote, base, localBase+ps, 5)
		w.holds(w.remote, base+5, localBase+ps+10, 10)
	})
}

// The kernel copies a page before it looks at the next one: what it has written is what it reads
// later.
func TestR33APageIsReadAfterTheOneBeforeItWasWritten(t *testing.T) {
	w := newWorld(t, nil)
	w.check(w.readv(callerPID, one(localBase+ps, 5*ps), one(localBase, 5*ps)), moved(5*ps))
	for i := range remora.Addr(6) {
		w.holds(w.local, localBase+i*ps, localBase, ps)
	}
	w.fill(w.local, localBase, 8, rw)
	w.check(w.writev(callerPID, one(localBase, 5*ps), one(localBase+ps, 5*ps)), moved(5*ps))
	for i := range remora.Addr(6) {
		w.holds(w.local, localBase+i*ps, localBase, ps)
	}
}

// One memory is one memory, whatever bits it is used with.
func TestR33OneSpaceTwoMemories(t *testing.T) {
	w := newWorld(t, nil)
	w.set(&Process{PID: 30, Memory: w.local.Memory().With(remora.Force)})
	w.check(w.readv(30, one(localBase+ps, 5*ps), one(localBase, 5*ps)), moved(5*ps))
	for i := range remora.Addr(6) {
		w.holds(w.local, localBase+i*ps, localBase, ps)
	}
	w.must(w.local.Protect(remora.Range{Start: localBase, Size: ps}, 0))
	w.check(w.readv(30, one(localBase+ps, 5), one(localBase, 5)), moved(5)) // and the bits hold
	w.check(w.readv(callerPID, one(localBase+ps, 5), one(localBase, 5)), failed(errno.EFAULT))
	uncomparable := remora.New(odd{plain{w.local}, nil})
	w.set(&Process{PID: 31, Memory: uncomparable})
	w.check(w.readv(31, one(localBase+ps, 5), one(localBase+2*ps, 5)), moved(5))
}

// odd is a Space of a type whose values cannot be compared.
type odd struct {
	plain
	_ func()
}

// Two processes that map one object, at different places.
func TestR33SharedPages(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		if !w.local.Info().Live {
			return // memory that others change is Live
		}
		o := memtest.NewObject(8 * ps)
		shared := memtest.MapOptions{Perm: rw, Shared: true, Object: o}
		w.must(w.local.Map(remora.Range{Start: localBase, Size: 8 * ps}, shared))
		w.must(w.remote.Map(remora.Range{Start: base, Size: 8 * ps}, shared))
		w.must(w.local.Poke(pattern(base, 8*ps), localBase))
		w.check(w.readv(targetPID, one(localBase+ps, 5*ps), one(base, 5*ps)), moved(5*ps))
		for i := range remora.Addr(6) {
			w.holds(w.remote, base+i*ps, base, ps)
		}
	})
}

func TestR34OnesOwnPid(t *testing.T) {
	w := newWorld(t, nil)
	w.check(w.readv(callerPID, one(localBase, 10), one(localBase+100, 10)), moved(10))
	w.holds(w.local, localBase, localBase+100, 10)
	w.check(w.writev(callerPID, one(localBase+ps, 10), one(localBase+2*ps, 10)), moved(10))
	w.holds(w.local, localBase+2*ps, localBase+ps, 10)
	w.check(w.readv(callerPID, one(localBase, 10), one(hole, 10)), failed(errno.EFAULT))
}
