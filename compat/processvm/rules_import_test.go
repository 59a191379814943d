// SPDX-License-Identifier: Apache-2.0

package processvm

import (
	"context"
	"encoding/binary"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/compat/errno"
	"github.com/remora-go/remora/memtest"
)

// ordinary is a world with 4 pages of remote memory and both vectors of an ordinary call in the caller's
// memory: 16 bytes.
func ordinary(t *testing.T, o *Options) (*world, Args) {
	w := newWorld(t, o)
	w.fill(w.remote, base, 4, rw)
	return w, Args{
		PID:  targetPID,
		Lvec: w.array(localBase+ps, at(localBase, 16)), Liovcnt: 1,
		Rvec: w.array(localBase+2*ps, at(base+8, 16)), Riovcnt: 1,
	}
}

const hole = localBase + 9*ps // nothing is there, nor behind it

func TestR01OnlyTheLowerHalfOfPidCounts(t *testing.T) {
	w, a := ordinary(t, nil)
	a.PID += 5 << 32
	w.check(w.syscall(false, a), moved(16))
	w.holds(w.local, localBase, base+8, 16)
	a.PID = 1<<32 - targetPID
	w.check(w.syscall(false, a), failed(errno.ESRCH))
}

func TestR02FlagsMustBeZero(t *testing.T) {
	w, a := ordinary(t, nil)
	for _, flags := range []uint64{1, 1 << 31, 1 << 32, 1 << 63, ^uint64(0)} {
		a.Flags = flags
		w.check(w.syscall(false, a), failed(errno.EINVAL))
		w.check(w.syscall(true, Args{Flags: flags}), failed(errno.EINVAL))
		n, e := w.sys.Readv(context.Background(), w.caller, targetPID, nil, nil, flags)
		w.check(result{n, e}, failed(errno.EINVAL))
	}
	w.holds(w.local, localBase, localBase, 16)
}

func TestR03LocalCountIsCutToHalfARegister(t *testing.T) {
	w, a := ordinary(t, nil)
	for _, c := range []struct {
		local, remote uint64
		want          result
	}{
		{1 << 32, 1, moved(0)},
		{1<<32 + 1, 1, moved(16)},
		{1 << 63, 1, moved(0)},
		{^uint64(0), 1, failed(errno.EINVAL)},
		{1, 1 << 32, failed(errno.EINVAL)},
		{1, 1<<32 + 1, failed(errno.EINVAL)},
		{1, 1 << 63, failed(errno.EINVAL)},
	} {
		a.Liovcnt, a.Riovcnt = c.local, c.remote
		w.check(w.syscall(false, a), c.want)
	}
}

func TestR04CountsUpTo1024(t *testing.T) {
	w, a := ordinary(t, nil)
	var local, remote []Iovec
	for i := range uint64(1025) {
		local = append(local, at(localBase+i, 1))
		remote = append(remote, at(base+i, 1))
	}
	a.Lvec, a.Liovcnt, a.Riovcnt = 0, 1025, 1 // the array is not touched
	w.check(w.syscall(false, a), failed(errno.EINVAL))
	_, a = ordinary(t, nil)
	a.Rvec, a.Riovcnt = kernelAddr, 1025
	w.check(w.syscall(false, a), failed(errno.EINVAL))
	w.check(w.readv(targetPID, local, remote[:1]), failed(errno.EINVAL))
	w.check(w.readv(targetPID, local[:1], remote), failed(errno.EINVAL))
	w.check(w.readv(targetPID, local[:1024], remote[:1024]), moved(1024))
	w.holds(w.local, localBase, base, 1024)
	w.array(localBase+ps, local[:256]...)
	w.array(localBase+2*ps, remote[:256]...)
	a = Args{PID: targetPID, Lvec: localBase + ps, Liovcnt: 256, Rvec: localBase + 2*ps, Riovcnt: 256}
	w.check(w.syscall(false, a), moved(256))
}

func TestR05NoLocalElementIsNothingToDo(t *testing.T) {
	w, a := ordinary(t, nil)
	a.Lvec, a.Liovcnt = 0, 0
	w.check(w.syscall(false, a), moved(0))
	w.check(w.syscall(true, Args{PID: noOne, Rvec: kernelAddr, Riovcnt: 5000}), moved(0))
	w.check(w.readv(noOne, nil, one(base, 1)), moved(0))
}

func TestR06LocalArrayMustBeReadable(t *testing.T) {
	w, a := ordinary(t, nil)
	w.array(localBase+8*ps-16, at(localBase, 8))
	for _, c := range []struct{ addr, count uint64 }{
		{0, 1}, {kernelAddr, 1}, {^uint64(0) - 7, 1}, {hole, 1},
		{localBase + 8*ps - 16, 2}, // the second element is not there
		{localBase + 8*ps - 8, 1},  // nor is the half of the first
	} {
		a.Lvec, a.Liovcnt = c.addr, c.count
		w.check(w.syscall(false, a), failed(errno.EFAULT))
	}
	w.holds(w.local, localBase, localBase, 8)
}

func TestR06ArrayIsReadBeforeItIsOverwritten(t *testing.T) {
	w, a := ordinary(t, nil)
	a.Lvec, a.Liovcnt = w.array(localBase+ps, at(localBase+ps, 32), at(localBase, 32)), 2
	a.Rvec = w.array(localBase+2*ps, at(base, 64))
	w.check(w.syscall(false, a), moved(64))
	w.holds(w.local, localBase+ps, base, 32)
	w.holds(w.local, localBase, base+32, 32)
}

func TestR07LengthsAreNotNegative(t *testing.T) {
	w, a := ordinary(t, nil)
	a.Lvec = w.array(localBase+ps, at(localBase, 1<<63))
	w.check(w.syscall(false, a), failed(errno.EINVAL))
	a.Lvec, a.Liovcnt = w.array(localBase+ps, at(localBase, 8), at(localBase, ^uint64(0))), 2
	w.check(w.syscall(false, a), failed(errno.EINVAL))
	// what comes first decides: the length at 0, or the entry at 1 that is not there
	a.Lvec = w.array(localBase+8*ps-16, at(localBase, 1<<63))
	w.check(w.syscall(false, a), failed(errno.EINVAL))
	a.Lvec = w.array(localBase+8*ps-16, at(localBase, 1<<63-1))
	w.check(w.syscall(false, a), failed(errno.EFAULT))
	w.check(w.readv(targetPID, iov(at(localBase, 8), at(localBase, 1<<63)), one(base, 8)), failed(errno.EINVAL))
}

func TestR07R10BeforeLinux6_4(t *testing.T) {
	w, a := ordinary(t, &Options{ArrayFirst: true})
	a.Lvec, a.Liovcnt = w.array(localBase+8*ps-16, at(localBase, 1<<63)), 2
	w.check(w.syscall(false, a), failed(errno.EFAULT))
	a.Liovcnt = 1
	w.check(w.syscall(false, a), failed(errno.EINVAL))
	w.check(w.readv(targetPID, one(localBase, 1<<63-1), one(base, 8)), failed(errno.EFAULT))
	w.check(w.readv(targetPID, one(localBase, 1<<46), one(base, 8)), moved(8))
	w.check(w.readv(targetPID, one(localBase, 1<<63), one(base, 8)), failed(errno.EINVAL))
}

func TestR07AnArrayOutOfRangeIsNotLookedInto(t *testing.T) {
	w, a := ordinary(t, &Options{UserEnd: localBase + 8*ps})
	a.Lvec, a.Liovcnt = w.array(localBase+8*ps-16, at(localBase, 1<<63)), 2
	w.check(w.syscall(false, a), failed(errno.EFAULT))
}

func TestR08LocalRangesAreCheckedAfterAllLengths(t *testing.T) {
	w, a := ordinary(t, nil)
	w.check(w.readv(targetPID, iov(at(localBase, 8), at(kernelAddr, 8)), one(base, 16)), failed(errno.EFAULT))
	w.check(w.readv(targetPID, one(kernelAddr, 8), one(base, 16)), failed(errno.EFAULT))
	w.holds(w.local, localBase, localBase, 8)
	w.check(w.readv(targetPID, iov(at(kernelAddr, 8), at(localBase, 1<<63)), one(base, 16)), failed(errno.EINVAL))
	a.Lvec, a.Liovcnt = w.array(localBase+ps, at(kernelAddr, 8), at(localBase, 1<<63)), 2
	w.check(w.syscall(false, a), failed(errno.EINVAL))
	w.check(w.readv(targetPID, iov(at(localBase, 8), at(^uint64(0)-15, 32)), one(base, 16)), failed(errno.EFAULT)) // past the last address
	w.holds(w.local, localBase, localBase, 8)
	const end = 0x7ffffffff000
	w.empty(w.local, end-ps, 1, rw)
	w.check(w.readv(targetPID, iov(at(localBase, 8), at(end-8, 8)), one(base, 16)), moved(16))
	w.check(w.readv(targetPID, iov(at(localBase, 8), at(end-8, 9)), one(base, 16)), failed(errno.EFAULT))
	w.check(w.readv(targetPID, one(end-8, 9), one(base, 4)), failed(errno.EFAULT))
}

func TestR09EmptyLocalElementsAreCheckedToo(t *testing.T) {
	w, _ := ordinary(t, nil)
	for _, bad := range []uint64{kernelAddr, 0x800000000000, ^uint64(0)} {
		w.check(w.readv(targetPID, iov(at(localBase, 8), at(bad, 0)), one(base, 8)), failed(errno.EFAULT))
		w.check(w.readv(targetPID, one(bad, 0), one(base, 8)), failed(errno.EFAULT))
	}
	w.check(w.readv(targetPID, iov(at(0, 0), at(localBase, 8), at(hole, 0), at(0x7ffffffff000, 0)), one(base, 8)), moved(8))
	w.check(w.readv(targetPID, iov(at(localBase, 8), at(hole, 8)), one(base, 16)), moved(8)) // a range check only
}

func TestR10ThereIsNoSumThatIsTooLarge(t *testing.T) {
	w, _ := ordinary(t, nil)
	const most = 1<<63 - 1
	w.check(w.readv(targetPID, one(localBase, 8), iov(at(base, most), at(base, most), at(base, most))), moved(8))
	w.check(w.readv(targetPID, one(localBase, most), one(base, 8)), moved(8))
	w.check(w.readv(targetPID, iov(at(localBase, 8), at(localBase, most)), one(base, 8)), failed(errno.EFAULT))
	w.check(w.readv(targetPID, iov(at(localBase, 1<<46), at(localBase, 1<<46), at(localBase, 1<<46)), one(base, 8)), moved(8))
}

func TestR11OneCallMovesTwoGibibytesLessAPage(t *testing.T) {
	s := NewSystem(nil)
	caller := &Process{PID: callerPID, Memory: remora.New(&endless{})}
	if err := s.Set(caller); err != nil {
		t.Fatal(err)
	}
	if err := s.Set(&Process{PID: targetPID, Memory: remora.New(&endless{})}); err != nil {
		t.Fatal(err)
	}
	for _, local := range [][]Iovec{
		one(base, 1<<32),
		iov(at(base, MaxRW-1), at(base, 2), at(base, 77)),
		iov(at(base, MaxRW), at(base, 5)),
	} {
		n, e := s.Readv(context.Background(), caller, targetPID, local, iov(at(base, 1<<40), at(base, 1<<40)), 0)
		if n != MaxRW || e != 0 {
			t.Errorf("%v: %d and %s", local, n, e.Name())
		}
	}
	// the remote side has no limit of its own: an element of a page would begin beyond it
	n, e := s.Writev(context.Background(), caller, targetPID, one(base, 100), iov(at(base, 10), at(base, 1<<40)), 0)
	if n != 100 || e != 0 {
		t.Errorf("%d and %s", n, e.Name())
	}
	whole, err := s.ReadAll(context.Background(), caller, targetPID, one(base, 1<<32), one(base, 1<<40))
	if whole != 1<<32 || err != nil {
		t.Errorf("ReadAll gave %d, %v", whole, err)
	}
}

// endless is memory that has every address and keeps nothing.
type endless struct{}

func (*endless) Info() remora.Info {
	return remora.Info{Name: "endless", Last: remora.MaxAddr, Writable: true, Granule: 1, PtrSize: 8}
}

func (*endless) Transfer(_ context.Context, _ remora.Op, segs []remora.Seg) (sum int64, _ error) {
	for i := range segs {
		segs[i].N, segs[i].Err = len(segs[i].Buf), nil
		sum += int64(segs[i].N)
	}
	return sum, nil
}

func TestR12EmptyLocalElementsAreNothingToDo(t *testing.T) {
	w, a := ordinary(t, nil)
	a.PID, a.Lvec, a.Rvec = noOne, w.array(localBase+ps, at(0, 0), at(hole, 0)), kernelAddr
	a.Liovcnt = 2
	w.check(w.syscall(false, a), moved(0))
	a.Riovcnt = 5000
	w.check(w.syscall(true, a), moved(0))
}

func TestR13RemoteArray(t *testing.T) {
	w, a := ordinary(t, nil)
	b := a
	b.PID, b.Rvec, b.Riovcnt = noOne, 0, 0
	w.check(w.syscall(false, b), moved(0))
	for _, addr := range []uint64{0, kernelAddr, hole, localBase + 8*ps - 8} {
		b = a
		b.Rvec = addr
		w.check(w.syscall(false, b), failed(errno.EFAULT))
	}
	b.Rvec, b.Riovcnt = w.array(localBase+2*ps, at(base, 16), at(base, 1<<63)), 2
	w.check(w.syscall(false, b), failed(errno.EINVAL)) // though it would never be reached
	b.Rvec = w.array(localBase+2*ps, at(base, 16), at(kernelAddr, 16))
	w.check(w.syscall(false, b), moved(16)) // no range check
	w.check(w.readv(targetPID, one(localBase, 16), iov(at(base, 16), at(base, 1<<63))), failed(errno.EINVAL))
}

func TestR14EmptyRemoteElementsAreNothingToDo(t *testing.T) {
	w, _ := ordinary(t, &Options{Permit: func(*Process, *Process) bool { return false }})
	for _, pid := range []int{noOne, -1, 0, targetPID} {
		w.check(w.readv(pid, one(localBase, 16), iov(at(base, 0), at(kernelAddr, 0))), moved(0))
		w.check(w.writev(pid, one(localBase, 16), nil), moved(0))
	}
}

func TestR15NoMemoryForTheCallItself(t *testing.T) {
	var asked []uint64
	var have uint64
	w, _ := ordinary(t, &Options{Allocate: func(n uint64) bool { asked = append(asked, n); return n <= have }})
	many := make([]Iovec, 9)
	for i := range many {
		many[i] = at(localBase+uint64(i), 1)
	}
	remote := make([]Iovec, 9)
	for i := range remote {
		remote[i] = at(base+uint64(i), 1)
	}
	check := func(got, want result, sizes ...uint64) {
		t.Helper()
		w.check(got, want)
		if len(asked) != len(sizes) {
			t.Fatalf("asked for %v, want %v", asked, sizes)
		}
		for i := range sizes {
			if asked[i] != sizes[i] {
				t.Fatalf("asked for %v, want %v", asked, sizes)
			}
		}
		asked = nil
	}
	check(w.readv(targetPID, many[:8], remote[:8]), moved(8))
	check(w.readv(targetPID, many, remote[:8]), failed(errno.ENOMEM), 144)
	check(w.readv(targetPID, many[:8], remote), failed(errno.ENOMEM), 144)
	check(w.readv(noOne, many[:8], one(base, 17*ps)), failed(errno.ENOMEM), 17*8) // before the process is looked for
	check(w.readv(targetPID, many[:8], one(base, 16*ps)), moved(8))
	check(w.readv(targetPID, many[:8], one(base+1, 16*ps)), failed(errno.ENOMEM), 17*8)
	have = 144
	check(w.readv(targetPID, many, remote), moved(9), 144, 144)
	have = 8191
	check(w.readv(targetPID, many[:8], iov(at(base, 1), at(base, 1<<40))), failed(errno.ENOMEM), 8192)
	check(w.readv(targetPID, many[:8], one(^uint64(0)-7, 100)), failed(errno.ENOMEM), 8192) // past the last address
	have = 8192
	check(w.readv(targetPID, many[:8], one(base, 1<<40)), moved(8), 8192)
}

func TestR16ThreadsNameTheirProcess(t *testing.T) {
	w, _ := ordinary(t, nil)
	for _, pid := range []int{20, 21, 22} {
		w.check(w.readv(pid, one(localBase, 16), one(base, 16)), moved(16))
	}
	for _, pid := range []int{0, -1, -20, noOne, 1 << 22, -1 << 31} {
		w.check(w.readv(pid, one(localBase, 16), one(base, 16)), failed(errno.ESRCH))
	}
	w.sys.Remove(targetPID)
	for _, pid := range []int{20, 21, 22} {
		w.check(w.readv(pid, one(localBase, 16), one(base, 16)), failed(errno.ESRCH))
	}
}

func TestR17WithoutMemoryThereIsNoProcess(t *testing.T) {
	w, _ := ordinary(t, &Options{Permit: func(_, to *Process) bool { return to.PID == targetPID }})
	w.set(&Process{PID: 30, Threads: []int{31}}) // a zombie, a kernel thread
	w.check(w.readv(30, one(localBase, 16), one(base, 16)), failed(errno.ESRCH))
	w.check(w.readv(31, one(localBase, 16), one(base, 16)), failed(errno.ESRCH))
	w.set(&Process{PID: targetPID, Threads: []int{21}, Memory: w.remote.Memory(), LeaderExited: true})
	w.check(w.readv(targetPID, one(localBase, 16), one(base, 16)), failed(errno.ESRCH))
	w.check(w.readv(21, one(localBase, 16), one(base, 16)), moved(16))
	w.check(w.readv(22, one(localBase, 16), one(base, 16)), failed(errno.ESRCH)) // no longer in the table
}

func TestR18PermissionComesBeforeMemory(t *testing.T) {
	w, _ := ordinary(t, &Options{Permit: func(from, to *Process) bool { return from.PID == targetPID && to.PID == callerPID }})
	w.empty(w.remote, base+4*ps, 1, rw)
	before := w.remote.Clone()
	w.check(w.readv(targetPID, one(localBase, 16), one(hole, 16)), failed(errno.EPERM))
	w.check(w.writev(targetPID, one(localBase, 16), one(base+4*ps, 16)), failed(errno.EPERM))
	if diff := before.Diff(w.remote); diff != "" {
		t.Error(diff)
	}
	w.check(w.readv(callerPID, one(localBase, 16), one(localBase+16, 16)), moved(16)) // one's own is not asked about
	n, e := w.sys.Readv(context.Background(), w.target, callerPID, one(base, 4), one(localBase, 4), 0)
	w.check(result{n, e}, moved(4))
}

// Each call has one more thing wrong than the one before it, and the first wrong thing decides:
// flags, the local vector, the remote vector, then core (R61).
func TestR19Order(t *testing.T) {
	w, a := ordinary(t, &Options{
		Permit:   func(*Process, *Process) bool { return false },
		Allocate: func(n uint64) bool { return n <= 200 },
	})
	big := w.array(localBase+3*ps, at(base, 40*ps))
	list := func(vec ...Iovec) uint64 { return w.array(localBase+ps, vec...) }
	a.Rvec = w.array(localBase+2*ps, at(hole, 8))
	w.check(w.syscall(false, a), failed(errno.EPERM))
	a.PID = noOne
	w.check(w.syscall(false, a), failed(errno.ESRCH))
	a.Rvec = big
	w.check(w.syscall(false, a), failed(errno.ENOMEM))
	a.Rvec = w.array(localBase+2*ps, at(hole, 0))
	w.check(w.syscall(false, a), moved(0))
	a.Rvec = w.array(localBase+2*ps, at(hole, 1<<63))
	w.check(w.syscall(false, a), failed(errno.EINVAL))
	a.Rvec = kernelAddr
	w.check(w.syscall(false, a), failed(errno.EFAULT))
	a.Riovcnt = 1025
	w.check(w.syscall(false, a), failed(errno.EINVAL))
	a.Lvec = list(at(localBase, 0))
	w.check(w.syscall(false, a), moved(0))
	a.Lvec = list(at(kernelAddr, 0))
	w.check(w.syscall(false, a), failed(errno.EFAULT))
	a.Lvec, a.Liovcnt = list(at(kernelAddr, 0), at(0, 1<<63)), 2
	w.check(w.syscall(false, a), failed(errno.EINVAL))
	a.Lvec = kernelAddr
	w.check(w.syscall(false, a), failed(errno.EFAULT))
	a.Liovcnt = 1025
	w.check(w.syscall(false, a), failed(errno.EINVAL))
	a.Lvec, a.Liovcnt, a.Flags = kernelAddr, 0, 1
	w.check(w.syscall(false, a), failed(errno.EINVAL))
}

// A caller of 32 bits has vectors of 8-byte elements, and its arguments have 32 bits.
func TestR59CallersOf32Bits(t *testing.T) {
	for _, order := range []binary.AppendByteOrder{binary.LittleEndian, binary.BigEndian} {
		w := newWorld(t, nil)
		w.fill(w.remote, base, 4, rw)
		w.local = memtest.NewSparse(&memtest.SparseOptions{PtrSize: 4, BigEndian: order == binary.BigEndian})
		w.fill(w.local, localBase, 8, rw)
		w.caller = &Process{PID: callerPID, Memory: w.local.Memory()}
		w.set(w.caller)
		put := func(a remora.Addr, words ...uint32) uint64 {
			var b []byte
			for _, v := range words {
				b = order.AppendUint32(b, v)
			}
			if err := w.local.Poke(b, a); err != nil {
				t.Fatal(err)
			}
			return uint64(a)
		}
		a := Args{
			PID:  targetPID,
			Lvec: put(localBase+ps, localBase, 5, localBase+100, 11), Liovcnt: 2,
			Rvec: put(localBase+2*ps, base+1, 16), Riovcnt: 1,
		}
		w.check(w.syscall(false, a), moved(16))
		w.holds(w.local, localBase+100, base+6, 11)
		a.Riovcnt, a.Flags, a.Lvec = 1<<32+1, 1<<32, a.Lvec|1<<40
		w.check(w.syscall(false, a), moved(16))
		put(localBase+2*ps, base+1, 1<<31-1)
		w.check(w.syscall(false, a), moved(16))
		put(localBase+2*ps, base+1, 1<<31)
		w.check(w.syscall(false, a), failed(errno.EINVAL))
		put(localBase+ps, 0xffffffff, 0, localBase, 3) // any address is the caller's
		put(localBase+2*ps, base, 16)
		w.check(w.syscall(false, a), moved(3))
		a.Lvec = localBase + 8*ps - 8
		w.check(w.syscall(false, a), failed(errno.EFAULT))
	}
}
