// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"sync"
	"sync/atomic"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/sys/linux"
	"github.com/remora-go/remora/internal/xfer"
)

// bulkMin is the smallest read, in bytes, that is shared out among threads.
const bulkMin = 4 * xfer.ChunkBytes

// team is the threads that help with large reads, beside the caller's own.
type team struct {
	once sync.Once
	work chan *bulk
}

func (t *team) open(helpers int) {
	t.work = make(chan *bulk)
	for range helpers {
		go func() {
			for b := range t.work {
				b.help()
				b.helpers.Done()
			}
		}()
	}
}

func (t *team) close() {
	t.once.Do(func() { t.open(0) })
	close(t.work)
}

// bulk is one large read. Chunks are taken in order, and none beyond the lowest
// fault seen so far, so all below the lowest fault are whole.
type bulk struct {
	r       *run
	seg     *remora.Seg
	next    atomic.Int64 // the next chunk
	stop    atomic.Int64 // bytes; nothing from here on is wanted
	errno   atomic.Uint32
	cut     atomic.Bool // the context ended
	helpers sync.WaitGroup
}

// large says whether the segment is to be shared out.
func (r *run) large(s *remora.Seg) bool {
	return r.p.opts.Parallel > 1 && len(s.Buf) >= bulkMin && !r.async && !r.write()
}

// bulkRead reads one large segment with several threads.
func (r *run) bulkRead(s *remora.Seg) {
	if r.bulk == nil {
		r.bulk = new(bulk)
	}
	b, t := r.bulk, &r.p.team
	b.r, b.seg = r, s
	b.next.Store(0)
	b.stop.Store(int64(len(s.Buf)))
	b.errno.Store(0)
	b.cut.Store(false)
	t.once.Do(func() { t.open(r.p.opts.Parallel - 1) })
	for range r.p.opts.Parallel - 1 {
		b.helpers.Add(1)
		select {
		case t.work <- b:
		default: // busy with another call
			b.helpers.Done()
		}
	}
	b.help()
	b.helpers.Wait()
	b.settle()
	b.r, b.seg = nil, nil
}

func (b *bulk) help() {
	for {
		off := (b.next.Add(1) - 1) * xfer.ChunkBytes
		if off >= b.stop.Load() {
			return
		}
		if b.r.ctx.Err() != nil {
			b.cut.Store(true)
			b.lower(off)
			return
		}
		buf := b.seg.Buf[off:min(off+xfer.ChunkBytes, int64(len(b.seg.Buf)))]
		n, errno := linux.VMOne(false, b.r.p.call, buf, uint64(b.seg.Addr)+uint64(off))
		if n < len(buf) {
			if errno != 0 && errno != linux.EFAULT {
				b.errno.Store(uint32(errno))
			}
			b.lower(off + int64(n))
			return
		}
	}
}

// lower moves stop down to off, if it is not lower already.
func (b *bulk) lower(off int64) {
	for old := b.stop.Load(); off < old && !b.stop.CompareAndSwap(old, off); old = b.stop.Load() {
	}
}

func (b *bulk) settle() {
	s, r := b.seg, b.r
	s.N, s.Err = int(b.stop.Load()), nil
	switch {
	case r.gone():
		s.N, s.Err = 0, remora.ErrGone
	case s.N == len(s.Buf):
	case b.cut.Load():
		s.Err = r.ctx.Err()
	case b.errno.Load() != 0:
		_, s.Err = r.failed(linux.Errno(b.errno.Load()), s.Addr+remora.Addr(s.N))
	default:
		_, s.Err = r.failed(linux.EFAULT, s.Addr+remora.Addr(s.N))
	}
}
