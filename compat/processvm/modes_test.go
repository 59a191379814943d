// SPDX-License-Identifier: Apache-2.0

package processvm

import (
	"context"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/compat/errno"
)

// plain hides what else a Sparse can do.
type plain struct{ s remora.Space }

func (p plain) Info() remora.Info { return p.s.Info() }
func (p plain) Transfer(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
	return p.s.Transfer(ctx, op, segs)
}

// modeWorld gives 1,100 pages of remote memory. With opaque, neither side is a Pinner.
func modeWorld(t *testing.T, g Granularity, opaque bool) *world {
	w := newWorld(t, &Options{Granularity: g})
	w.fill(w.remote, base, 1100, rw)
	w.fill(w.local, 0x20000000, 1200, rw)
	if opaque {
		w.caller = &Process{PID: callerPID, Memory: remora.New(plain{w.local})}
		w.set(w.caller)
		w.set(&Process{PID: targetPID, Memory: remora.New(plain{w.remote})})
	}
	return w
}

const (
	far = 0x20000000 // 1,200 pages of local memory
	end = base + 1100*ps
)

func TestElementMovesWholeElements(t *testing.T) {
	for _, opaque := range []bool{false, true} {
		w := modeWorld(t, Element, opaque)
		w.check(w.readv(targetPID, one(far, 2*ps), one(end-ps, 2*ps)), failed(errno.EFAULT))
		w.holds(w.local, far, far, 2*ps)
		w.check(w.readv(targetPID, one(far, 2*ps), iov(at(base, 100), at(end-ps, ps), at(end-5, 6))), moved(ps+100))
		w.holds(w.local, far+ps+100, far+ps+100, 100)
		w.check(w.readv(targetPID, one(far, 2*ps), one(end-2*ps, 3*ps)), moved(2*ps)) // what has no room is not missed
		w.check(w.readv(targetPID, one(far, 1200*ps), one(base, 1101*ps)), failed(errno.EFAULT))
		w.check(w.writev(targetPID, one(far, 3*ps), iov(at(base+ps, 100), at(end-50, 51))), moved(100))
		if !opaque { // else what was written of the second stays, uncounted
			w.holds(w.remote, end-50, end-50, 50)
		}
	}
}

func TestElementChecksLocalMemoryFirst(t *testing.T) {
	for _, opaque := range []bool{false, true} {
		w := modeWorld(t, Element, opaque)
		w.check(w.writev(targetPID, iov(at(far, 10), at(hole, 10)), one(base, 20)), failed(errno.EFAULT))
		w.holds(w.remote, base, base, 20)
		w.check(w.readv(targetPID, iov(at(far, 10), at(hole, 10)), one(base, 20)), failed(errno.EFAULT))
		if !opaque {
			w.holds(w.local, far, far, 10)
		}
		w.must(w.local.Protect(remora.Range{Start: far, Size: ps}, remora.PermWrite))
		want := moved(20)
		if opaque { // who does not show what is mapped cannot be asked what the processor can read
			want = failed(errno.EFAULT)
		}
		w.check(w.writev(targetPID, one(far, 20), one(base, 20)), want)
	}
}

func TestBatchMovesWholeBatches(t *testing.T) {
	for _, opaque := range []bool{false, true} {
		w := modeWorld(t, Batch, opaque)
		w.check(w.readv(targetPID, one(far, 2*ps), one(end-ps, 2*ps)), failed(errno.EFAULT))
		w.check(w.readv(targetPID, one(far, 1200*ps), one(base+3, 1200*ps)), moved(1024*ps-3))
		w.holds(w.local, far, base+3, 1024*ps-3)
		w.holds(w.local, far+1024*ps-3, far+1024*ps-3, ps)
		w.check(w.readv(targetPID, one(far, 1), one(end-ps, 2*ps)), failed(errno.EFAULT)) // the hole is in the batch
		w.check(w.readv(targetPID, one(far, 1200*ps), iov(at(base, ps), at(end-ps, ps), at(end-1, 2))), moved(2*ps))
		w.check(w.writev(targetPID, one(far, 1200*ps), one(base, 1200*ps)), moved(1024*ps))
		w.check(w.writev(targetPID, iov(at(far, 10), at(hole, 10)), one(base, 20)), moved(10)) // to the byte, on this side
	}
}

func TestPageNeedsNoPinner(t *testing.T) {
	w := modeWorld(t, Page, true)
	w.check(w.readv(targetPID, one(far, 2*ps), one(end-ps-7, 2*ps)), moved(ps+7))
	w.check(w.writev(targetPID, one(far, 2*ps), one(end-ps-7, 2*ps)), moved(ps+7))
	w.holds(w.remote, end-ps-7, end-ps-7, 0)
	w.check(w.writev(targetPID, iov(at(far, 10), at(hole, 10)), one(base, 20)), moved(10))
	w.holds(w.remote, base+10, base+10, 10)
	w.check(w.readv(targetPID, one(far, 2*ps), one(end, 2*ps)), failed(errno.EFAULT))
}
