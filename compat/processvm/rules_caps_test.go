// SPDX-License-Identifier: Apache-2.0

package processvm

import (
	"context"
	"errors"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/compat/errno"
	"github.com/remora-go/remora/memtest"
)

// The tests in this file are of checks and caps that the plain use of a rule does not reach.

func TestR05TheAddressOfNoElementsIsNotLookedAt(t *testing.T) {
	w, a := ordinary(t, nil)
	a.Lvec, a.Liovcnt = kernelAddr, 0
	w.check(w.syscall(false, a), moved(0))
	_, a = ordinary(t, nil)
	a.Rvec, a.Riovcnt = kernelAddr, 0
	w.check(w.syscall(false, a), moved(0))
}

// A caller that has no memory, as a kernel thread has none, has nothing that can be named.
func TestR06ACallerWithoutMemory(t *testing.T) {
	w, a := ordinary(t, nil)
	w.caller = &Process{PID: 30}
	w.set(w.caller)
	w.check(w.syscall(false, a), failed(errno.EFAULT))
	w.check(w.syscall(true, Args{PID: targetPID}), moved(0))
	w.check(w.readv(targetPID, one(localBase, 8), one(hole, 8)), failed(errno.EFAULT))
	w.check(w.readv(targetPID, one(localBase, 8), one(base, 8)), failed(errno.EFAULT))
	w.check(w.writev(targetPID, one(localBase, 8), one(base, 8)), failed(errno.EFAULT))
	w.set(&Process{PID: 31, Memory: memtest.NewSparse(&memtest.SparseOptions{Live: true}).Memory()})
	w.check(w.readv(31, one(localBase, 8), one(base, 8)), failed(errno.EFAULT))
	w.sys = NewSystem(&Options{Permit: func(*Process, *Process) bool { return false }})
	w.set(w.target)
	w.check(w.readv(targetPID, one(localBase, 8), one(base, 8)), failed(errno.EPERM))
}

func TestR08LocalRangesDoNotWrap(t *testing.T) {
	w, _ := ordinary(t, nil)
	for _, v := range []Iovec{at(^uint64(0)-7, 16), at(^uint64(0)-7, 8), at(^uint64(0), 1)} {
		w.check(w.readv(targetPID, iov(at(localBase, 8), v), one(base, 8)), failed(errno.EFAULT))
		w.check(w.readv(targetPID, iov(v), one(base, 8)), failed(errno.EFAULT))
	}
}

func TestR14EmptyElementsHaveNoPages(t *testing.T) {
	w, _ := ordinary(t, nil)
	for _, a := range []uint64{0, base + 1, kernelAddr + 5, ^uint64(0)} {
		w.check(w.readv(noOne, one(localBase, 16), one(a, 0)), moved(0))
	}
}

func TestR15TheLargestElementCounts(t *testing.T) {
	w, _ := ordinary(t, &Options{Allocate: func(uint64) bool { return false }})
	w.check(w.readv(targetPID, one(localBase, 8), iov(at(base, 1), at(base, 17*ps), at(base, 1))), failed(errno.ENOMEM))
	w.check(w.readv(targetPID, one(localBase, 8), iov(at(base, 16*ps), at(base, 16*ps))), moved(8))
}

// pinned is memory that has every address, and pins those below end.
type pinned struct {
	endless
	end uint64
}

func (p *pinned) Pin(_ context.Context, _ remora.Op, r remora.Range) (uint64, error) {
	if uint64(r.Start) >= p.end {
		return 0, remora.ErrUnmapped
	}
	return min(r.Size, p.end-uint64(r.Start)), nil
}

// What was not pinned is not copied, even if it could be.
func TestR23OnlyWhatIsPinnedIsCopied(t *testing.T) {
	w := newWorld(t, nil)
	w.set(&Process{PID: targetPID, Memory: remora.New(&pinned{end: base + ps})})
	w.check(w.readv(targetPID, one(localBase, 3*ps), one(base, 3*ps)), moved(ps))
	w.check(w.writev(targetPID, one(localBase, 3*ps), one(base+100, 3*ps)), moved(ps-100))
}

// counted is a Space that counts what it is asked.
type counted struct {
	plain
	asked int
}

func (s *counted) Transfer(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
	s.asked++
	return s.plain.Transfer(ctx, op, segs)
}

// Between two memories of which one is nobody else's, long runs are moved at once.
func TestR33OnlyMemoryThatMayBeTheSameGoesByPage(t *testing.T) {
	for _, c := range []struct {
		local, remote bool // Live
		asked         int
	}{{false, false, 1}, {true, false, 1}, {false, true, 1}, {true, true, 4}} {
		w := newWorld(t, nil)
		w.local = memtest.NewSparse(&memtest.SparseOptions{Live: c.local})
		w.remote = memtest.NewSparse(&memtest.SparseOptions{Live: c.remote})
		w.fill(w.local, localBase, 8, rw)
		w.fill(w.remote, base, 4, rw)
		remote := &counted{plain: plain{w.remote}}
		w.caller = &Process{PID: callerPID, Memory: w.local.Memory()}
		w.set(w.caller)
		w.set(&Process{PID: targetPID, Memory: remora.New(remote)})
		w.check(w.readv(targetPID, one(localBase, 4*ps), one(base, 4*ps)), moved(4*ps))
		if remote.asked != c.asked {
			t.Errorf("%+v: asked %d times", c, remote.asked)
		}
	}
}

// What one local element gets may be what the next one is read from.
func TestR33AnElementIsReadAfterTheOneBeforeItWasWritten(t *testing.T) {
	w := newWorld(t, nil)
	w.check(w.readv(callerPID, iov(at(localBase+100, 10), at(localBase+200, 10)), one(localBase+90, 20)), moved(20))
	w.holds(w.local, localBase+100, localBase+90, 10)
	w.holds(w.local, localBase+200, localBase+90, 10)
}

// A Space need not be a pointer to be known again in one Memory.
func TestR34OneMemoryOfASpaceThatIsNoPointer(t *testing.T) {
	w := newWorld(t, nil)
	m := remora.New(plain{w.local})
	w.caller = &Process{PID: callerPID, Memory: m}
	w.set(w.caller)
	w.check(w.readv(callerPID, one(localBase+ps, 5*ps), one(localBase, 5*ps)), moved(5*ps))
	w.holds(w.local, localBase+5*ps, localBase, ps)
	w.caller = &Process{PID: callerPID, Memory: remora.New(odd{plain{w.local}, nil})}
	w.set(w.caller)
	w.set(&Process{PID: 31, Memory: remora.New(odd{plain{w.local}, nil})})
	w.check(w.readv(31, one(localBase, 5), one(localBase+2*ps, 5)), moved(5))
}

func TestR23PagesLargerThanTheBuffer(t *testing.T) {
	const large, from, size = 256 << 10, 70 << 10, 100 << 10
	w := newWorld(t, &Options{PageSize: large})
	w.fill(w.local, far, size/ps, rw)
	w.remote = memtest.NewSparse(&memtest.SparseOptions{PageSize: large})
	w.set(&Process{PID: targetPID, Memory: remora.New(plain{w.remote})})
	w.fill(w.remote, large, large/ps, rw)
	w.check(w.readv(targetPID, one(far, size), one(large+from, size)), moved(size))
	w.holds(w.local, far, large+from, size)
	w.check(w.readv(targetPID, one(far, size), one(2*large-3*ps, size)), moved(3*ps))
}

func TestR46AddressZeroIsAnAddress(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		w.fill(w.remote, 0, 1, rw)
		w.check(w.readv(targetPID, one(localBase, 8), one(0, 8)), moved(8))
		w.check(w.readv(targetPID, one(localBase, 2*ps), one(0, 1<<63-1)), moved(ps))
	})
}

// Who the other process's memory is gone for is told so; of one's own it is a fault.
func TestR50OnlyTheOtherProcessCanBeGone(t *testing.T) {
	w := newWorld(t, nil)
	w.fill(w.remote, base, 4, rw)
	w.must(w.remote.Map(remora.Range{Start: base + 4*ps, Size: ps}, memtest.MapOptions{Perm: rw, Fault: remora.ErrGone}))
	w.check(w.readv(targetPID, one(localBase, 5), one(base+4*ps, 5)), failed(errno.ESRCH))
	w.must(w.local.Close())
	w.check(w.readv(targetPID, one(localBase, 5), one(base, 5)), failed(errno.EFAULT))
	w.check(w.writev(targetPID, one(localBase, 5), one(base, 5)), failed(errno.EFAULT))
}

// What a local memory that is no Mapper, or has no Force, protects cannot be loaded.
func TestR38WhatCannotBeKnownIsProtected(t *testing.T) {
	for _, opaque := range []bool{false, true} {
		w := newWorld(t, nil)
		w.fill(w.remote, base, 4, rw)
		w.local = memtest.NewSparse(&memtest.SparseOptions{Refuse: remora.Force})
		w.fill(w.local, localBase, 2, rw)
		w.must(w.local.Protect(remora.Range{Start: localBase + ps, Size: ps}, remora.PermWrite))
		w.caller = &Process{PID: callerPID, Memory: w.local.Memory()}
		if opaque {
			w.caller.Memory = remora.New(plain{w.local})
		}
		w.set(w.caller)
		w.check(w.writev(targetPID, one(localBase+ps, 5), one(base, 5)), failed(errno.EFAULT))
		w.check(w.writev(targetPID, one(localBase+ps-5, 10), one(base, 10)), moved(5))
	}
}

func TestR38ALoadStopsAtAFault(t *testing.T) {
	w := newWorld(t, nil)
	w.fill(w.remote, base, 4, rw)
	w.must(w.local.Map(remora.Range{Start: localBase + ps, Size: ps}, memtest.MapOptions{Perm: remora.PermWrite, Fault: remora.ErrGuard}))
	w.must(w.local.Protect(remora.Range{Start: localBase, Size: ps}, remora.PermWrite))
	w.check(w.writev(targetPID, one(localBase+ps-5, 10), one(base, 10)), moved(5))
	w.check(w.writev(targetPID, one(localBase+ps, 10), one(base, 10)), failed(errno.EFAULT))
}

// What a Memory adds to every operation is not lost on the way.
func TestR35TheBitsOfAMemoryHold(t *testing.T) {
	w := newWorld(t, nil)
	w.fill(w.remote, base, 2, rw)
	w.empty(w.remote, base+2*ps, 1, rw)
	w.set(&Process{PID: targetPID, Memory: w.remote.Memory().With(remora.Resident)})
	w.check(w.readv(targetPID, one(localBase, 3*ps), one(base, 3*ps)), moved(2*ps))
	w.check(w.readv(targetPID, one(localBase, 5), one(base+2*ps, 5)), failed(errno.EFAULT))
}

// taker is memory to which bytes could be moved without a buffer. It counts who asks, and moves none.
type taker struct {
	endless
	asked int
}

func (m *taker) MoveFrom(context.Context, remora.Addr, remora.Space, remora.Addr, uint64) uint64 {
	m.asked++
	return 0
}

// A Space is not passed by where its Memory adds to every operation, nor where the two are one.
func TestR35NothingIsMovedPastAMemory(t *testing.T) {
	to := new(taker)
	direct, other := remora.New(to), remora.New(new(endless))
	for _, c := range []struct {
		name          string
		local, remote *remora.Memory
		write, asked  bool
	}{
		{"a read", direct, other, false, true},
		{"a read from it", other, direct, false, false},
		{"a write", other, direct, true, true},
		{"a write from it", direct, other, true, false},
		{"a read with bits", direct.With(remora.Force), other, false, false},
		{"a read from a memory with bits", direct, other.With(remora.Force), false, false},
		{"a write with bits", other, direct.With(remora.Force), true, false},
		{"a write from a memory with bits", other.With(remora.Force), direct, true, false},
		{"one memory", direct, direct, false, false},
	} {
		w := newWorld(t, nil)
		w.caller = &Process{PID: callerPID, Memory: c.local}
		w.set(w.caller)
		w.set(&Process{PID: targetPID, Memory: c.remote})
		call := w.readv
		if c.write {
			call = w.writev
		}
		to.asked = 0
		w.check(call(targetPID, one(base, 10), one(base, 10)), moved(10))
		if (to.asked > 0) != c.asked {
			t.Errorf("%s: asked %d times", c.name, to.asked)
		}
	}
}

func TestR51AProcessThatWasSetAgainIsItself(t *testing.T) {
	w, _ := ordinary(t, &Options{Permit: func(*Process, *Process) bool { return false }})
	old := w.caller
	w.set(&Process{PID: callerPID, Memory: w.remote.Memory()})
	w.caller = old
	w.check(w.readv(callerPID, one(localBase, 8), one(base, 8)), moved(8))
	w.check(w.readv(targetPID, one(localBase, 8), one(base, 8)), failed(errno.EPERM))
}

func TestR52WithoutASubjectThereIsNoRefusal(t *testing.T) {
	w, _ := ordinary(t, nil)
	w.set(&Process{PID: targetPID, Memory: w.remote.Memory(), Subject: user(targetPID, 0, 0, nil)})
	w.check(w.readv(targetPID, one(localBase, 8), one(base, 8)), moved(8))
	w.set(&Process{PID: targetPID, Memory: w.remote.Memory()})
	w.caller = &Process{PID: callerPID, Memory: w.local.Memory(), Subject: user(callerPID, 1, 1, nil)}
	w.check(w.readv(targetPID, one(localBase, 8), one(base, 8)), moved(8))
}

func TestR52VerdictsAreRememberedUpToACap(t *testing.T) {
	w, _ := ordinary(t, nil)
	w.target = &Process{PID: targetPID, Memory: w.remote.Memory(), Subject: user(targetPID, 1, 1, nil)}
	w.set(w.target)
	for range mostVerdicts + 10 {
		w.caller = &Process{PID: callerPID, Memory: w.local.Memory(), Subject: user(callerPID, 1, 1, nil)}
		w.check(w.readv(targetPID, one(localBase, 8), one(base, 8)), moved(8))
		if n := len(w.target.verdicts); n > mostVerdicts {
			t.Fatalf("%d verdicts are kept", n)
		}
	}
	w.target.verdicts[w.caller.Subject] = false // what is remembered is what counts
	w.check(w.readv(targetPID, one(localBase, 8), one(base, 8)), failed(errno.EPERM))
}

func TestPageSizes(t *testing.T) {
	for _, c := range []struct {
		size uint64
		good bool
	}{{8, false}, {16, true}, {48, false}, {1 << 30, true}, {1 << 31, false}} {
		func() {
			defer func() {
				if got := recover() == nil; got != c.good {
					t.Errorf("page size %d: taken is %t", c.size, got)
				}
			}()
			NewSystem(&Options{PageSize: c.size})
		}()
	}
}

func TestOutcomeAtTheEdges(t *testing.T) {
	huge := one(base, 1<<40)
	for _, c := range []struct {
		name          string
		local, remote []Iovec
		n             uint64
		e             errno.Errno
		want          error // nil: none, or else what it Is
		addr          remora.Addr
		past          bool
	}{
		{name: "the local total is smaller", local: one(localBase, 10), remote: one(base, 15), n: 10},
		{name: "the remote total is smaller", local: one(localBase, 15), remote: one(base, 10), n: 10},
		{name: "nothing was wanted of a wild address", local: one(kernelAddr, 0), remote: one(base, 8), e: errno.EFAULT, want: errno.EFAULT, addr: base},
		{name: "a fault at the cap", local: huge, remote: huge, n: MaxRW, e: errno.EFAULT, want: errno.EFAULT, addr: base + MaxRW},
		{name: "no more than the cap", local: one(localBase, MaxRW), remote: huge, n: MaxRW},
		{name: "address 0", local: one(localBase, 8), remote: one(0, 8), e: errno.EFAULT, want: errno.EFAULT},
		{name: "an empty element at the end", local: one(localBase, 8), remote: iov(at(base, 3), at(7, 0)), n: 3},
	} {
		err := outcome(false, targetPID, c.local, c.remote, c.n, c.e)
		var f *remora.Fault
		if !errors.Is(err, c.want) || errors.As(err, &f) && (f.Addr != c.addr || f.Past != c.past) {
			t.Errorf("%s: %#v", c.name, err)
		}
	}
	if got := At(iov(at(0x100, 3), at(7, 0)), 3); got != 0x103 {
		t.Errorf("the end of a vector is %v", got)
	}
}

func TestAllEndsWithTheShorterVector(t *testing.T) {
	w, _ := ordinary(t, nil)
	for _, size := range []uint64{5, 16, 20} {
		for _, write := range []bool{false, true} {
			all := w.sys.ReadAll
			if write {
				all = w.sys.WriteAll
			}
			n, err := all(context.Background(), w.caller, targetPID, iov(at(kernelAddr, 0), at(localBase, 16), at(kernelAddr, 0)), one(base, size))
			if n != min(size, 16) || err != nil {
				t.Errorf("%d bytes: %d, %v", size, n, err)
			}
		}
	}
	w.must(w.remote.Map(remora.Range{Start: base, Size: ps}, memtest.MapOptions{Perm: remora.PermRead}))
	if n, err := w.sys.WriteAll(context.Background(), w.caller, targetPID, one(localBase, 8), one(base, 8)); n != 0 || !errors.Is(err, errno.EFAULT) {
		t.Errorf("%d, %v", n, err)
	}
}

// In the mode of the manual all local memory is looked at first, as the processor sees it.
func TestElementLoadsLocalMemory(t *testing.T) {
	w := modeWorld(t, Element, false)
	w.must(w.local.Protect(remora.Range{Start: localBase + ps, Size: ps}, remora.PermWrite))
	w.check(w.writev(targetPID, iov(at(localBase, 10), at(localBase+ps, 10)), one(base, 20)), moved(20))
	w.must(w.local.Protect(remora.Range{Start: localBase + ps, Size: ps}, remora.PermRead))
	w.check(w.readv(targetPID, iov(at(localBase, 10), at(localBase+ps, 10)), one(base, 20)), failed(errno.EFAULT))
}
