// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/sys/linux"
	"github.com/remora-go/remora/internal/xfer"
)

// vector moves segs by process_vm_readv or process_vm_writev. The kernel stops at
// the exact byte of the first page that cannot be accessed and does not say why
// (R23-R25), so a call is resumed behind each hole: calls = batches + holes, less
// those holes that a look at the map, made after the fault, shows to go on.
//
// No batch comes near the most that a call moves (R11), so a short count is a fault.
func (r *run) vector(segs []remora.Seg) (int64, error) {
	off := 0
	for i := 0; i < len(segs); {
		if cut := r.ctx.Err(); cut != nil {
			return r.cut(segs, i, off, cut)
		}
		if r.alone(&segs[i]) && off == 0 {
			if err := r.single(segs, i); err != nil {
				return xfer.Total(segs, xfer.Cut(r.ctx, err))
			}
			i++
			continue
		}
		taken, part, end := r.window(segs[i:], off)
		switch end {
		case windowGone:
			xfer.Abandon(segs, i+taken, remora.ErrGone)
			return xfer.Total(segs, nil)
		case windowStopped:
			return xfer.Total(segs, nil)
		case windowLeft:
			cut := r.ctx.Err()
			xfer.Abandon(segs, i+taken, cut)
			return xfer.Total(segs, cut)
		case windowReroute:
			return xfer.Each(r.ctx, r.op, segs, r)
		}
		i += taken
		if off = part; part > 0 {
			i--
		}
	}
	return xfer.Total(segs, nil)
}

// cut ends the call where its context ended, with off bytes of segment i moved.
func (r *run) cut(segs []remora.Seg, i, off int, cut error) (int64, error) {
	if off > 0 {
		segs[i].Err = cut
		i++
	}
	xfer.Abandon(segs, i, cut)
	return xfer.Finish(r.ctx, segs)
}

// alone says whether a segment is moved by itself: it is shared out among threads,
// or a 32-bit build cannot name its address in a vector.
func (r *run) alone(s *remora.Seg) bool {
	n := len(xfer.Reach(s.Addr, s.Buf))
	return n > 0 && (!fits(s.Addr, n) || r.large(s))
}

// single moves segment i, which is alone. The error ends the call, and the segments
// that follow have it.
func (r *run) single(segs []remora.Seg, i int) error {
	s := &segs[i]
	if fits(s.Addr, len(xfer.Reach(s.Addr, s.Buf))) && len(xfer.Reach(s.Addr, s.Buf)) == len(s.Buf) {
		r.bulkRead(s)
	} else {
		xfer.Each(r.ctx, r.op, segs[i:i+1], r)
	}
	err := s.Err
	switch {
	case err == nil:
		return nil
	case xfer.Cut(r.ctx, err) != nil:
		err = xfer.Cut(r.ctx, err)
	case err == remora.ErrGone:
	case r.op&remora.StopAtFault != 0:
		err = remora.ErrStopped
	default:
		return nil
	}
	xfer.Abandon(segs, i+1, err)
	return err
}

// windowEnd says how a window ended.
type windowEnd uint8

const (
	windowDone    windowEnd = iota
	windowStopped           // StopAtFault; all that follows has its ErrStopped
	windowGone              // the target is another one, or none
	windowLeft              // the context ended, and a call was left behind
	windowReroute           // the kernel no longer lets us use these calls
)

// window moves as many segments as fit into one batch; the first has off bytes
// moved already. See batch.fill for taken and part.
func (r *run) window(segs []remora.Seg, off int) (taken, part int, how windowEnd) {
	if r.batch == nil {
		r.batch = new(batch)
	}
	b := r.batch
	merge := r.op&(remora.Write|remora.StopAtFault) == 0
	taken, part = b.fill(r, segs, off, merge)
	if b.n == 0 {
		return taken, part, windowDone
	}
	b.point(segs, r.async)
	if r.async && r.write() {
		b.load(segs)
	}
	how = r.drive(segs[:taken], off)
	if how == windowLeft { // and the batch with it
		if r.gone() {
			disown(segs[:taken], off)
		}
		return taken, 0, how
	}
	b.local.Reset() // forgets the caller's buffers
	if how != windowGone && r.gone() {
		how = windowGone
	}
	switch {
	case how == windowGone:
		xfer.Abandon(segs[:taken], 0, remora.ErrGone)
		if segs[0].Err != nil {
			segs[0].N = off
		}
	case how == windowStopped:
		xfer.Abandon(segs, taken, remora.ErrStopped)
	}
	if segs[taken-1].Err != nil {
		part = 0
	}
	return taken, part, how
}

// disown takes back what was counted for a target that is another one, of a window in
// which a call was left behind; what is in doubt stays so.
func disown(segs []remora.Seg, off int) {
	for i := range segs {
		if s := &segs[i]; len(s.Buf) > 0 && s.Err != remora.ErrInDoubt {
			s.N, s.Err = off, remora.ErrGone
		}
		off = 0
	}
}

// drive makes the calls for the batch, and settles every element.
func (r *run) drive(segs []remora.Seg, off int) windowEnd {
	b := r.batch
	read := !r.write()
	for i := 0; i < b.n; {
		b.calls++
		n, errno, left := r.vm(segs, i)
		if left {
			return windowLeft
		}
		if n == b.bytes && b.pooled == 0 { // every segment says so already
			return windowDone
		}
		for i < b.n && n >= b.size(i) {
			b.settle(segs, i, b.size(i), nil, read)
			n -= b.size(i)
			i++
		}
		if i == b.n {
			break
		}
		if errno != 0 && errno != linux.EFAULT {
			if r.p.reroute(r.as, errno) {
				return windowReroute
			}
		} else {
			errno = linux.EFAULT
		}
		at := b.addr(i) + remora.Addr(n)
		hole, cause := r.failed(errno, at)
		if cause == remora.ErrGone {
			return windowGone
		}
		i = r.stopped(segs, i, n, cause, hole)
		if r.op&remora.StopAtFault != 0 {
			return windowStopped
		}
	}
	return windowDone
}

// stopped settles element i, which stopped after n bytes, and those after it that
// begin in the same hole. It gives the element to go on with.
func (r *run) stopped(segs []remora.Seg, i, n int, cause error, hole remora.Range) int {
	b := r.batch
	read := !r.write()
	b.settle(segs, i, n, cause, read)
	if r.op&remora.StopAtFault != 0 {
		xfer.Abandon(segs, int(b.elems[i].first)+1, remora.ErrStopped)
		return b.n
	}
	for i++; i < b.n && hole.Contains(b.addr(i)); i++ {
		b.settle(segs, i, 0, cause, read)
	}
	return i
}

// vm makes one call for the elements from i on. left says that the context ended
// first; the segments then have their results.
func (r *run) vm(segs []remora.Seg, i int) (n int, errno linux.Errno, left bool) {
	if r.async {
		return r.vmAside(segs, i)
	}
	local, remote := r.batch.from(segs, i)
	n, errno = linux.VM(r.write(), r.p.call, local, remote)
	return n, errno, false
}
