// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"context"
	"encoding/binary"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/sys/linux"
	"github.com/remora-go/remora/internal/xfer"
)

var _ xfer.Mover = (*run)(nil)

// Move moves a prefix of one range through the door in use: the way for Force, for
// Resident, and for every door but process_vm_*. It looks up first what may be
// moved, so that the meaning stays that of process_vm_*.
func (r *run) Move(ctx context.Context, op remora.Op, a remora.Addr, buf []byte) (int, error) {
	door := r.doorFor(op)
	n, err := r.allowed(door, a, len(buf))
	if n == 0 {
		return 0, err
	}
	got, errno, err := r.through(door, a, buf[:n])
	if err != nil {
		return got, err
	}
	if r.goneThrough(door, got, errno) {
		return 0, remora.ErrGone
	}
	if got == n {
		return got, nil
	}
	// What Force goes through is not what may be left for another.
	if door == DoorVM && errno != 0 && errno != linux.EFAULT && errno != linux.EIO && r.p.reroute(r.as, errno) {
		more, err := r.Move(ctx, op, a+remora.Addr(got), buf[got:])
		return got + more, err
	}
	if errno == 0 {
		errno = linux.EFAULT
	}
	_, cause := r.failed(errno, a+remora.Addr(got))
	return got, cause
}

// doorFor gives the door for an operation: with Force one that ignores protections.
func (r *run) doorFor(op remora.Op) Door {
	door := Door(r.p.door.Load())
	if op&remora.Force == 0 || door == DoorPtrace {
		return door
	}
	if r.p.forcing() {
		return DoorMem
	}
	return DoorPtrace
}

// goneThrough says whether the bytes may have come from elsewhere. /proc/PID/mem
// cannot be deceived: its descriptor is the address space, and gives 0 bytes once
// that has no user (R69).
func (r *run) goneThrough(door Door, got int, errno linux.Errno) bool {
	if door == DoorMem {
		return got == 0 && errno == 0
	}
	return errno == linux.ESRCH || r.gone()
}

// tracedMax is the most that one call moves word by word, in bytes: a few milliseconds,
// for which the target stands still even where the call has been left behind.
const tracedMax = 16 << 10

// allowed gives how many bytes from a on may be moved, at least 1, or 0 and why not.
// Force needs the map too: a forced access below a stack would make it grow (R68),
// and read zeros where nothing was.
func (r *run) allowed(door Door, a remora.Addr, n int) (int, error) {
	force := r.op&remora.Force != 0
	if door != DoorVM && !(force && r.p.opts.Unchecked) {
		pl := r.lookup(a)
		switch {
		case pl.state == placeGone:
			return 0, remora.ErrGone
		case pl.state == placeHole:
			return 0, remora.ErrUnmapped
		case pl.state == placeUnknown && !force:
			return 0, remora.ErrFault // without a map nothing can be promised
		case pl.state == placeUnknown:
		case r.refuses(pl):
			return 0, remora.ErrProtected
		default:
			n = int(min(uint64(n), uint64(pl.rng.Last()-a)+1))
		}
	}
	if door == DoorPtrace {
		n = min(n, tracedMax)
	}
	if r.op&remora.Resident != 0 {
		return r.present(a, n)
	}
	return n, nil
}

// present gives how many bytes from a on lie in pages that are present in the
// target's own page table, or 0 and why the first is not.
func (r *run) present(a remora.Addr, n int) (int, error) {
	page := uint64(r.p.info.Granule)
	start := uint64(a) &^ (page - 1)
	last := (uint64(a) + uint64(n) - 1) | (page - 1)
	end := last + 1
	if end == 0 { // the scan cannot name the end of the space; no page of a process is there
		end = last &^ (page - 1)
	}
	stop, ok := r.presentRun(start, end, page)
	switch {
	case !ok && !r.as.alive():
		return 0, remora.ErrGone
	case !ok:
		return 0, remora.ErrFault
	}
	if stop > uint64(a) {
		return int(min(uint64(n), stop-uint64(a))), nil
	}
	_, cause := r.classify(a)
	if cause == remora.ErrFault {
		cause = remora.ErrNotPresent
	}
	return 0, cause
}

// presentRun gives where the run of present pages that begins at start ends;
// that is start when the first page is not present.
func (r *run) presentRun(start, end, page uint64) (stop uint64, ok bool) {
	if r.as.scan {
		regions := r.scratch().regions[:1]
		n, _, errno := linux.ScanPages(r.as.pagemap, start, end, linux.PagePresent, linux.PagePresent, regions)
		switch {
		case errno != 0:
			return start, errno == linux.EFAULT // outside of what a process can have
		case n == 0 || regions[0].Start > start:
			return start, true
		}
		return regions[0].End, true
	}
	const present = 1 << 63 // pagemap entry: Documentation/admin-guide/mm/pagemap.rst
	text := r.scratch().text[:]
	for stop = start; stop < end; {
		want := min(uint64(len(text)), (end-stop)/page*8)
		n, errno := linux.Mem(false, r.as.pagemap, text[:want], stop/page*8)
		if errno != 0 || n < 8 {
			return stop, errno == 0
		}
		for i := 0; i+8 <= n; i += 8 {
			if binary.NativeEndian.Uint64(text[i:])&present == 0 {
				return stop, true
			}
			stop += page
		}
	}
	return stop, true
}

// through moves buf by one door. err is set when the context ended first.
func (r *run) through(door Door, a remora.Addr, buf []byte) (n int, errno linux.Errno, err error) {
	c := call{ctx: r.ctx, door: door, write: r.write(), pid: r.p.call, as: r.as, tracer: r.p.tracer, addr: a}
	if door == DoorVM && !fits(a, len(buf)) {
		c.door = DoorMem
	}
	if r.async {
		n, errno, err = r.aside(c, buf)
	} else {
		n, errno = c.make(buf)
	}
	if err == nil && errno == linux.EINTR {
		err = r.ctx.Err()
	}
	return n, errno, err
}

// call is one system call, or a run of ptrace calls, for one range.
type call struct {
	ctx    context.Context // for the wait until the target has stopped
	door   Door
	write  bool
	pid    int
	as     *addressSpace
	tracer *tracer
	addr   remora.Addr
}

func (c *call) make(buf []byte) (int, linux.Errno) {
	switch c.door {
	case DoorVM:
		return linux.VMOne(c.write, c.pid, buf, uint64(c.addr))
	case DoorPtrace:
		return c.tracer.move(c.ctx, c.write, buf, c.addr)
	}
	if c.as.mem < 0 {
		return 0, linux.EACCES
	}
	if c.addr >= 1<<63 {
		c.as.seekMu.Lock()
		defer c.as.seekMu.Unlock()
		return linux.MemSeek(c.write, c.as.mem, buf, uint64(c.addr))
	}
	return linux.Mem(c.write, c.as.mem, buf, uint64(c.addr))
}
