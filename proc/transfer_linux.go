// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/sys/linux"
	"github.com/remora-go/remora/internal/xfer"
)

// Transfer moves segs; see remora.Space for the contract.
func (s *space) Transfer(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
	p := s.Process
	if len(segs) == 1 && p.short(ctx, op, &segs[0]) {
		return int64(segs[0].N), nil
	}
	if err := p.gate.Admit(op, p.info.Ops, p.info.Writable); err != nil {
		return xfer.Refuse(segs, err)
	}
	defer p.gate.Leave()
	if op&(remora.Write|remora.Resident) == remora.Write|remora.Resident {
		return xfer.Refuse(segs, errors.ErrUnsupported) // a present page may need copy-on-write
	}
	if p.opts.FollowExec {
		return p.following(ctx, op, segs)
	}
	return p.transfer(ctx, p.as, op, segs)
}

// small is the largest single read for which the short way is taken. One that meets a fault is
// made again the long way, which costs at most as much once more.
const small = 1 << 20

// short is the short way for one small read or write. It gives false, with nothing that
// matters changed, where that is closed, or when not all was moved: the long way then finds
// out why.
func (p *Process) short(ctx context.Context, op remora.Op, seg *remora.Seg) bool {
	switch {
	case op == remora.Force:
		return p.quickForce && ctx.Done() == nil && p.oneForced(seg)
	case op == remora.Write:
		return p.quick && p.opts.Write && ctx.Done() == nil && p.oneWrite(seg)
	case op != remora.Read:
		return false
	case p.sharing:
		return p.sharedOne(seg, ctx.Done() != nil)
	}
	return p.quick && ctx.Done() == nil && p.one(seg)
}

// one is short by process_vm_readv.
func (p *Process) one(seg *remora.Seg) bool {
	n := len(seg.Buf)
	if n == 0 || n > small || !fits(seg.Addr, n) || !p.gate.Enter() {
		return false
	}
	seg.N, seg.Err = 0, nil
	moved, _ := linux.VMOne(false, p.call, seg.Buf, uint64(seg.Addr))
	ok := moved == n && p.stays(p.as)
	if ok {
		seg.N = n
	}
	p.gate.Leave()
	return ok
}

// oneWrite is short by process_vm_writev, within one page: of that the kernel writes all or
// nothing, so the long way writes nothing again.
func (p *Process) oneWrite(seg *remora.Seg) bool {
	n, page := len(seg.Buf), uint64(p.info.Granule)
	if n == 0 || uint64(seg.Addr)%page+uint64(n) > page || !fits(seg.Addr, n) || !p.gate.Enter() {
		return false
	}
	ok := p.stays(p.as)
	if ok {
		moved, _ := linux.VMOne(true, p.call, seg.Buf, uint64(seg.Addr))
		ok = moved == n && p.stays(p.as)
	}
	if ok {
		seg.N, seg.Err = n, nil
	}
	p.gate.Leave()
	return ok
}

// oneForced is short by /proc/PID/mem.
func (p *Process) oneForced(seg *remora.Seg) bool {
	n := len(seg.Buf)
	if n == 0 || n > small || seg.Addr >= 1<<63 || !p.gate.Enter() {
		return false
	}
	seg.N, seg.Err = 0, nil
	moved := 0
	if p.forcing() {
		moved, _ = linux.Mem(false, p.as.mem, seg.Buf, uint64(seg.Addr))
	}
	ok := moved == n
	if ok {
		seg.N = n
	}
	p.gate.Leave()
	return ok
}

// following is transfer for a handle that goes on after an execve.
func (p *Process) following(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
	as := p.take()
	defer as.drop()
	n, err := p.transfer(ctx, as, op, segs)
	if !lost(segs) || !p.follow(as) {
		return n, err
	}
	fresh := p.take()
	defer fresh.drop()
	return p.transfer(ctx, fresh, op, segs)
}

func lost(segs []remora.Seg) bool {
	for i := range segs {
		if segs[i].Err == remora.ErrGone {
			return true
		}
	}
	return false
}

// transfer moves segs through the door in use.
func (p *Process) transfer(ctx context.Context, as *addressSpace, op remora.Op, segs []remora.Seg) (int64, error) {
	r, _ := p.runs.Get().(*run)
	if r == nil {
		r = new(run)
	}
	r.p, r.as, r.ctx, r.op, r.async = p, as, ctx, op, ctx.Done() != nil
	n, err := r.transfer(segs)
	r.p, r.as, r.ctx = nil, nil, nil
	p.runs.Put(r)
	return n, err
}

// run is one Transfer under way.
type run struct {
	p     *Process
	as    *addressSpace
	ctx   context.Context
	op    remora.Op
	async bool // the context can end, so a system call may have to be left behind
	batch *batch
	scan  *scan
	timer *time.Timer
	bulk  *bulk

	sharing *sharing
}

func (r *run) transfer(segs []remora.Seg) (int64, error) {
	door := Door(r.p.door.Load())
	if r.write() && r.doorFor(r.op) == DoorVM && !empty(segs) && r.gone() {
		// The check afterwards would come too late: the number may be another's by now.
		return xfer.Refuse(segs, remora.ErrGone)
	}
	if r.op&remora.Force == 0 && door == DoorVM {
		if r.p.opts.shares() && r.op&(remora.Write|remora.Resident) == 0 {
			return r.sharedOr(segs)
		}
		if r.op&remora.Resident == 0 {
			return r.vector(segs)
		}
	}
	if r.doorFor(r.op) == DoorPtrace && !empty(segs) {
		// One stop for them all. Where that fails, the first move fails too, and says why.
		if r.p.tracer.begin(r.ctx) == nil {
			defer r.p.tracer.finish()
		}
	}
	return xfer.Each(r.ctx, r.op, segs, r)
}

func empty(segs []remora.Seg) bool {
	for i := range segs {
		if len(segs[i].Buf) > 0 {
			return false
		}
	}
	return true
}

// write says whether bytes go to the target.
func (r *run) write() bool { return r.op&remora.Write != 0 }

// gone says whether bytes that were just moved may have gone to or come from
// another process or address space.
func (r *run) gone() bool { return !r.p.stays(r.as) }

// failed turns the error number of a door into the error of the segment that
// stopped at a. hole is what the map says of the addresses around a.
func (r *run) failed(errno linux.Errno, a remora.Addr) (hole remora.Range, cause error) {
	switch errno {
	case linux.EFAULT, linux.EIO, linux.ERANGE: // the last: beyond the pointers of this build
		return r.classify(a)
	case linux.ESRCH:
		return remora.Range{}, remora.ErrGone
	case linux.EPERM, linux.EACCES:
		return remora.Range{}, fs.ErrPermission
	}
	return remora.Range{}, errno
}

// fits says whether [a, a+n) can be named by a pointer of this build.
func fits(a remora.Addr, n int) bool {
	last := a + remora.Addr(n-1)
	return last >= a && uint64(last) <= uint64(^uintptr(0))
}
