// SPDX-License-Identifier: Apache-2.0

package processvm

import (
	"context"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/compat/errno"
	"github.com/remora-go/remora/memtest"
)

// access tells what one byte at base+ps of the remote memory allows, with pages beside it that
// allow everything.
func (w *world) access(read, write bool) {
	w.t.Helper()
	want := map[bool]result{true: moved(100), false: failed(errno.EFAULT)}
	w.check(w.readv(targetPID, one(localBase, 100), one(base+ps, 100)), want[read])
	w.check(w.writev(targetPID, one(localBase, 100), one(base+ps, 100)), want[write])
	want = map[bool]result{true: moved(3 * ps), false: moved(ps)}
	w.check(w.readv(targetPID, one(localBase, 3*ps), one(base, 3*ps)), want[read])
	w.check(w.writev(targetPID, one(localBase, 3*ps), one(base, 3*ps)), want[write])
}

// middle maps the page at base+ps.
func (w *world) middle(o memtest.MapOptions) {
	w.t.Helper()
	w.must(w.remote.Map(remora.Range{Start: base + ps, Size: ps}, o))
}

func TestR35ReadingNeedsReadPermission(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		w.middle(memtest.MapOptions{Perm: remora.PermRead})
		w.access(true, false)
		w.middle(memtest.MapOptions{Perm: remora.PermWrite})
		w.access(false, true)
		w.middle(memtest.MapOptions{Perm: remora.PermExec})
		w.access(false, false)
	})
}

func TestR36WritingNeedsWritePermission(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		text := memtest.NewObject(ps)
		w.middle(memtest.MapOptions{Perm: remora.PermRead | remora.PermExec, Object: text})
		w.access(true, false)
		w.must(w.remote.Poke([]byte{1}, base+ps)) // a copy of its own does not help
		w.access(true, false)
		w.middle(memtest.MapOptions{Perm: remora.PermRead, Shared: true, Object: text})
		w.access(true, false)
	})
}

func TestR37NoAccess(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		w.middle(memtest.MapOptions{})
		w.access(false, false)
		w.must(w.remote.Poke([]byte{1}, base+ps))
		w.access(false, false)
	})
}

func TestR38LocalMemoryIsAsTheProcessorSeesIt(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		page := remora.Range{Start: localBase + ps, Size: ps}
		for _, c := range []struct {
			perm        remora.Perm
			source, dst bool
		}{
			{rw, true, true}, {remora.PermRead, true, false}, {remora.PermWrite, true, true}, {remora.PermExec, true, false}, {0, false, false},
		} {
			w.must(w.local.Protect(page, c.perm))
			want := map[bool]result{true: moved(300), false: moved(100)}
			w.check(w.writev(targetPID, one(localBase+ps-100, 300), one(base, 300)), want[c.source])
			w.check(w.readv(targetPID, one(localBase+ps-100, 300), one(base, 300)), want[c.dst])
			w.check(w.writev(targetPID, one(localBase+ps, 3), one(base, 300)), map[bool]result{true: moved(3), false: failed(errno.EFAULT)}[c.source])
		}
		w.must(w.local.Protect(page, remora.PermWrite))
		args := Args{PID: targetPID, Lvec: w.array(localBase+ps+8, at(localBase, 5)), Liovcnt: 1, Rvec: w.array(localBase+ps+100, at(base, 5)), Riovcnt: 1}
		w.check(w.syscall(false, args), moved(5)) // arrays are local memory
		w.sys = NewSystem(&Options{ExecuteOnly: true})
		w.set(w.target)
		w.must(w.local.Protect(page, remora.PermExec))
		w.check(w.writev(targetPID, one(localBase+ps, 3), one(base, 300)), failed(errno.EFAULT))
	})
}

func TestR38WriteOnlyIsReadToItsEnd(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		w.must(w.local.Protect(remora.Range{Start: localBase + ps, Size: 2 * ps}, remora.PermWrite))
		w.must(w.local.Protect(remora.Range{Start: localBase + 2*ps, Size: ps}, 0))
		w.check(w.writev(targetPID, one(localBase, 4*ps), one(base, 4*ps)), moved(2*ps))
		w.holds(w.remote, base, localBase, 2*ps)
		w.holds(w.remote, base+2*ps, base+2*ps, ps)
	})
}

// What the processor lets the caller load of its own memory, it does not of others', even at the same
// address and where nothing was pinned.
func TestR38IsAboutLocalMemory(t *testing.T) {
	w := newWorld(t, nil)
	w.set(&Process{PID: targetPID, Memory: remora.New(plain{w.remote})})
	w.fill(w.remote, base, 1, remora.PermWrite)
	w.fill(w.local, base, 1, remora.PermWrite)
	w.check(w.readv(targetPID, one(localBase, 10), one(base, 10)), failed(errno.EFAULT))
	w.check(w.writev(targetPID, one(base, 10), one(base, 10)), moved(10))
}

func TestR39NeverTouched(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		w.middle(memtest.MapOptions{Perm: rw})
		w.check(w.readv(targetPID, one(localBase, 50), one(base+ps, 50)), moved(50))
		for _, b := range w.peek(w.local, localBase, 50) {
			if b != 0 {
				t.Fatal("not zeros")
			}
		}
		if presentPages(w, base+ps, 1) != 0 {
			t.Error("a read brought the page into memory")
		}
		w.check(w.writev(targetPID, one(localBase+ps, 50), one(base+ps+9, 50)), moved(50))
		w.holds(w.remote, base+ps+9, localBase+ps, 50)
		if presentPages(w, base+ps, 1) != 1 {
			t.Error("a write did not bring the page into memory")
		}
	})
}

func TestR40PrivateMappingsAreCopied(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		file := memtest.NewObject(ps)
		w.middle(memtest.MapOptions{Perm: rw, Object: file})
		w.must(w.remote.Map(remora.Range{Start: base + 10*ps, Size: ps}, memtest.MapOptions{Perm: rw, Shared: true, Object: file}))
		w.check(w.writev(targetPID, one(localBase, 50), one(base+ps, 50)), moved(50))
		w.holds(w.remote, base+ps, localBase, 50)
		for _, b := range w.peek(w.remote, base+10*ps, ps) {
			if b != 0 {
				t.Fatal("the file has changed")
			}
		}
	})
}

func TestR41SharedMappingsAreWrittenThrough(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		file := memtest.NewObject(ps - 96)
		w.middle(memtest.MapOptions{Perm: rw, Shared: true, Object: file})
		w.must(w.remote.Map(remora.Range{Start: base + 10*ps, Size: ps}, memtest.MapOptions{Perm: rw, Object: file}))
		w.check(w.writev(targetPID, one(localBase, 200), one(base+2*ps-150, 150)), moved(150)) // beyond the end of the file too
		w.holds(w.remote, base+11*ps-150, localBase, 150)
	})
}

func TestR42BeyondTheEndOfTheFile(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		w.must(w.remote.Map(remora.Range{Start: base, Size: 3 * ps}, memtest.MapOptions{Perm: rw, Shared: true, Object: memtest.NewObject(ps + 1)}))
		w.check(w.readv(targetPID, one(localBase, 3*ps), one(base, 3*ps)), moved(2*ps))
		w.check(w.writev(targetPID, one(localBase, 3*ps), one(base+7, 3*ps)), moved(2*ps-7))
		w.check(w.readv(targetPID, one(localBase, 3*ps), one(base+2*ps, 5)), failed(errno.EFAULT))
	})
}

func TestR44MemoryThatIsNone(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		for _, cause := range []remora.Cause{remora.ErrDevice, remora.ErrGuard} {
			w.middle(memtest.MapOptions{Perm: rw, Fault: cause})
			w.access(false, false)
		}
	})
}

func TestR46WildRemoteAddresses(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		for _, a := range []uint64{0, 8, 0x7ffffffff000, 0x800000000000, kernelAddr, ^uint64(0) - 9} {
			for _, n := range []uint64{1, 100, 1 << 40, 1<<63 - 1} {
				w.check(w.readv(targetPID, one(localBase, 100), one(a, n)), failed(errno.EFAULT))
				w.check(w.writev(targetPID, one(localBase, 100), one(a, n)), failed(errno.EFAULT))
			}
		}
	})
}

// A space may have memory at both ends, and still an element does not wrap.
func TestR46TheLastAddressIsTheLast(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		w.fill(w.remote, 0, 1, rw)
		w.fill(w.remote, remora.MaxAddr-ps+1, 1, rw)
		last := ^uint64(0) - 9
		w.check(w.readv(targetPID, one(localBase, 100), one(last, 100)), moved(10))
		w.holds(w.local, localBase, remora.Addr(last), 10)
		w.check(w.writev(targetPID, one(localBase, 100), iov(at(last, 100), at(base, 90))), moved(10))
		w.holds(w.remote, 0, 0, 100)
		w.check(w.readv(targetPID, one(localBase, 100), iov(at(last, 10), at(base, 90))), moved(100))
	})
}

// What is removed in mid-call was found before, and serves the call to its end.
func TestR50TheMemoryIsHeldForTheWholeCall(t *testing.T) {
	w := newWorld(t, nil)
	w.fill(w.remote, base, 4, rw)
	m := remora.New(&during{Space: w.remote.Memory(), do: func() { w.sys.Remove(targetPID) }})
	w.set(&Process{PID: targetPID, Memory: m})
	w.check(w.readv(targetPID, one(localBase, 4*ps), iov(at(base, ps), at(base+2*ps, 2*ps))), moved(3*ps))
	w.check(w.readv(targetPID, one(localBase, 5), one(base, 5)), failed(errno.ESRCH))
}

// during is a Space that does something at every transfer.
type during struct {
	remora.Space
	do func()
}

func (d *during) Transfer(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
	d.do()
	return d.Space.Transfer(ctx, op, segs)
}

func TestR50AProcessThatIsGone(t *testing.T) {
	w := newWorld(t, nil)
	w.fill(w.remote, base, 4, rw)
	w.must(w.remote.Close())
	w.check(w.readv(targetPID, one(localBase, 5), one(base, 5)), failed(errno.ESRCH))
	w.must(w.local.Close())
	w.check(w.readv(callerPID, one(localBase, 5), one(base, 5)), failed(errno.ESRCH))
}

// Memory that nobody can write is memory without the permission.
func TestR36ReadOnlySpace(t *testing.T) {
	w := newWorld(t, nil)
	w.remote = memtest.NewSparse(&memtest.SparseOptions{ReadOnly: true})
	w.set(&Process{PID: targetPID, Memory: w.remote.Memory()})
	w.fill(w.remote, base, 4, rw)
	w.check(w.readv(targetPID, one(localBase, 100), one(base+ps, 100)), moved(100))
	w.check(w.writev(targetPID, one(localBase, 100), one(base+ps, 100)), failed(errno.EFAULT))
}

func TestACallerWithoutMemory(t *testing.T) {
	w := newWorld(t, nil)
	w.fill(w.remote, base, 1, rw)
	w.caller = &Process{PID: 50}
	w.check(w.readv(targetPID, one(base, 5), one(base, 5)), failed(errno.EFAULT))
	w.check(w.writev(targetPID, one(base, 5), one(base, 5)), failed(errno.EFAULT))
	w.check(w.syscall(false, Args{PID: targetPID, Lvec: base, Liovcnt: 1, Rvec: base, Riovcnt: 1}), failed(errno.EFAULT))
	w.check(w.readv(targetPID, nil, nil), moved(0))
}
