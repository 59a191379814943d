// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"time"

	"github.com/remora-go/remora"
)

// A call that is stuck has copied nothing yet, not even the good bytes before the
// page that it waits for: the kernel pins a batch of pages before it copies any
// (R49). So beside a read that takes long we creep: the same bytes are read once
// more, page by page, until that is stuck too. When the context ends, what was crept
// over is the prefix.

// stall is how long a read may take before we creep beside it.
const stall = 20 * time.Millisecond

// canCreep says whether a stuck read could have a prefix: not where all lies in one
// page.
func (r *run) canCreep(i int) bool {
	b := r.batch
	if r.write() {
		return false
	}
	page := uint64(r.p.info.Granule)
	first := uint64(b.addr(i))
	last := first + uint64(b.size(i)) - 1
	return i+1 < b.n || first&^(page-1) != last&^(page-1)
}

// waitCreeping waits for j, which reads the elements from i on. When the context
// ends first it gives how far the creeping came: all elements before elem, and at
// bytes of that one.
func (r *run) waitCreeping(segs []remora.Seg, i int, j *job) (elem, at int, ended bool) {
	c := &r.p.calls
	patience := stall
	if t, ok := r.ctx.Deadline(); ok {
		patience = min(patience, time.Until(t)/2)
	}
	if r.timer == nil {
		r.timer = time.NewTimer(patience)
	} else {
		r.timer.Reset(patience)
	}
	defer r.timer.Stop()
	select {
	case <-j.done:
		return i, 0, true
	case <-r.ctx.Done():
	case <-r.timer.C:
		if elem, at, ended = r.creep(segs, i, j); ended {
			return elem, at, true
		}
		return elem, at, c.wait(r.ctx, j)
	}
	return i, 0, c.wait(r.ctx, j)
}

// creep reads page by page until j ends, the context ends, or a page cannot be read.
func (r *run) creep(segs []remora.Seg, i int, j *job) (elem, at int, ended bool) {
	c, b := &r.p.calls, r.batch
	page := int(r.p.info.Granule)
	for elem = i; elem < b.n; elem, at = elem+1, 0 {
		for at < b.size(elem) {
			a := b.addr(elem) + remora.Addr(at)
			size := min(page-int(uint64(a)%uint64(page)), b.size(elem)-at)
			step := c.tryGet()
			if step == nil {
				return elem, at, false
			}
			step.call = call{door: DoorVM, pid: r.p.call, addr: a}
			step.buf = step.buf[:size]
			c.hand(step)
			select {
			case <-step.done:
			case <-j.done:
				if !c.leave(step) {
					<-step.done
					c.put(step)
				}
				return elem, at, true
			case <-r.ctx.Done():
				if !c.leave(step) {
					<-step.done
					c.put(step)
				}
				return elem, at, false
			}
			short := step.n < size
			b.deliver(segs, elem, at, step.buf[:step.n])
			at += step.n
			c.put(step)
			if short {
				return elem, at, false
			}
		}
	}
	return elem, at, false
}
