// SPDX-License-Identifier: Apache-2.0

package vmcore

import (
	"bytes"
	"context"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/xfer"
)

const (
	kdumpJobPages   = xfer.ChunkBytes / kdumpMinBlock // of one job at most
	kdumpChunkBytes = 64 << 10                        // of pages, which one worker inflates at a time
	kdumpGap        = 4 << 10                         // bytes between the data of two pages that are read along
	kdumpReadMost   = 256 << 10                       // bytes of one read
)

// bulk reads a prefix of buf, which is whole pages, past the cache: a run of pages that
// one part has, or the whole run that it does not have.
func (k *kdump) bulk(ctx context.Context, pfn uint64, buf []byte) (int, error) {
	if pfn >= k.head.maxPFN {
		return 0, remora.ErrHole
	}
	set, end, err := k.saved.span(ctx, pfn)
	if err != nil {
		return 0, err
	}
	if !set {
		return k.bulkAbsent(ctx, pfn, end, buf)
	}
	p := k.partOf(pfn)
	if p == nil {
		return 0, remora.ErrTruncated
	}
	j := k.jobs.Get().(*kdumpJob)
	defer k.jobs.Put(j)
	n := min(end-pfn, p.end-pfn, uint64(len(buf))>>k.shift, kdumpJobPages)
	descs, err := k.descs(ctx, p, pfn, n, j)
	for err != nil && n > 1 { // up to where the table is cut off
		n /= 2
		descs, err = k.descs(ctx, p, pfn, n, j)
	}
	if err != nil {
		return 0, err
	}
	good := 0
	for ; good < len(descs); good++ {
		var zeros bool
		if zeros, err = k.judge(p, &descs[good]); err != nil {
			break
		}
		page := buf[good<<k.shift:][:k.head.block]
		j.dst[good], j.errs[good] = page, nil
		if zeros {
			clear(page)
			j.dst[good] = nil
		}
	}
	j.adjacent = true
	k.work(j, p, good)
	j.adjacent = false
	if bad := int(j.bad.Load()); bad < good {
		return bad << k.shift, j.errs[bad]
	}
	return good << k.shift, err
}

// bulkAbsent is bulk for pages that are not saved, up to end.
func (k *kdump) bulkAbsent(ctx context.Context, pfn, end uint64, buf []byte) (int, error) {
	var w kdumpWhere
	if err := k.absent(ctx, pfn, &w); err != nil {
		return 0, err
	}
	_, ramEnd, err := k.ram.span(ctx, pfn)
	if err != nil {
		return 0, err
	}
	n := min(min(end, ramEnd)-pfn, uint64(len(buf))>>k.shift) << k.shift
	clear(buf[:n])
	return int(n), nil
}

// kdumpJob is a number of pages of one part to be inflated, and what is needed for it.
type kdumpJob struct {
	raw   [kdumpJobPages * kdumpDescSize]byte
	descs [kdumpJobPages]kdumpDesc
	dst   [kdumpJobPages][]byte // nil: nothing to do
	errs  [kdumpJobPages]error  // constant causes
	refs  [kdumpJobPages]frameRef

	part     *kdumpPart
	n, chunk int
	adjacent bool         // each page of dst lies behind the one before it
	next     atomic.Int32 // page that nobody has taken yet
	bad      atomic.Int32 // the first that failed; n: none
	wait     sync.WaitGroup
}

// work inflates the first n pages of j, with the help of the crew where that pays. Pages
// behind one that failed may be left out.
func (k *kdump) work(j *kdumpJob, p *kdumpPart, n int) {
	j.part, j.n, j.chunk = p, n, max(1, kdumpChunkBytes>>k.shift)
	j.next.Store(0)
	j.bad.Store(int32(n))
	for left := n - j.chunk; left > 0 && k.crew.help(j); left -= j.chunk {
	}
	j.run()
	j.wait.Wait()
	j.part = nil
}

// run takes chunks of the job until there are no more.
func (j *kdumpJob) run() {
	c := codecs.Get().(*codec)
	defer codecs.Put(c)
	for {
		lo := int(j.next.Add(int32(j.chunk))) - j.chunk
		if lo >= j.n || j.skipped(lo) {
			return
		}
		j.inflate(c, lo, min(lo+j.chunk, j.n))
	}
}

// skipped says whether page i lies behind a failed one, so that it may be left out.
func (j *kdumpJob) skipped(i int) bool { return i > int(j.bad.Load()) }

func (j *kdumpJob) fail(i int, err error) {
	j.errs[i] = err
	for {
		bad := j.bad.Load()
		if int(bad) <= i || j.bad.CompareAndSwap(bad, int32(i)) {
			return
		}
	}
}

// inflate makes the pages from lo to hi. What lies together in the file is read at once.
func (j *kdumpJob) inflate(c *codec, lo, hi int) {
	for i := lo; i < hi; {
		if j.easy(i) {
			i++
			continue
		}
		d := &j.descs[i]
		if n := j.rawRun(i, hi); n > 0 {
			page := len(j.dst[i])
			if j.part.src.load(j.dst[i][:n*page:n*page], d.off) == nil {
				i += n
				continue
			}
		}
		next, end := j.window(i, hi)
		buf := c.buffer(int(end - d.off))
		whole := j.part.src.load(buf, d.off) == nil
		for ; i < next; i++ {
			if whole {
				j.unpack(c, i, buf[j.descs[i].off-d.off:])
			} else if err := c.page(j.part, &j.descs[i], j.dst[i]); err != nil {
				j.fail(i, err)
			}
		}
	}
}

// easy says that page i needs no look at the file, and makes it.
func (j *kdumpJob) easy(i int) bool {
	if j.dst[i] == nil {
		return true
	}
	z, d := j.part.zero.Load(), &j.descs[i]
	if z == nil || z.off != d.off || z.size != d.size || z.flags != d.flags {
		return false
	}
	clear(j.dst[i])
	return true
}

// rawRun is how many pages from i on lie in the file as they will in memory.
func (j *kdumpJob) rawRun(i, hi int) int {
	if !j.adjacent {
		return 0
	}
	n := 0
	page := int64(len(j.dst[i]))
	for ; i+n < hi; n++ {
		if d := &j.descs[i+n]; d.flags != 0 || j.dst[i+n] == nil || d.off != j.descs[i].off+int64(n)*page {
			break
		}
	}
	return n
}

// window gives the pages from i on whose data are read at once, and their end in the file.
func (j *kdumpJob) window(i, hi int) (next int, end int64) {
	start := j.descs[i].off
	end = start + int64(j.descs[i].size)
	for next = i + 1; next < hi && j.dst[next] != nil; next++ {
		d := &j.descs[next]
		if d.off < end || d.off > end+kdumpGap || d.off+int64(d.size) > start+kdumpReadMost {
			break
		}
		end = d.off + int64(d.size)
	}
	return next, end
}

// unpack makes page i of in, where its data begin. A page of zeros is remembered: in most
// files all of them share their data.
func (j *kdumpJob) unpack(c *codec, i int, in []byte) {
	d, dst := &j.descs[i], j.dst[i]
	if c.inflate(dst, in[:d.size], d.flags) != nil {
		j.fail(i, remora.ErrCorrupt)
		return
	}
	if int(d.size) <= len(dst)/16 && j.part.zero.Load() == nil && allZeros(dst) {
		z := *d
		j.part.zero.Store(&z)
	}
}

// allZeros compares each byte with the next, which is the fastest way there is.
func allZeros(b []byte) bool {
	return len(b) == 0 || b[0] == 0 && bytes.Equal(b[1:], b[:len(b)-1])
}

// crew is the workers that help to inflate: one less than there are processors, since
// the caller works too. They start when they are first needed.
type crew struct {
	start sync.Once
	jobs  chan *kdumpJob
	wait  sync.WaitGroup
}

// help gives j to a worker who has nothing to do, if there is one.
func (c *crew) help(j *kdumpJob) bool {
	c.start.Do(func() {
		c.jobs = make(chan *kdumpJob)
		for range runtime.GOMAXPROCS(0) - 1 {
			c.wait.Go(c.worker)
		}
	})
	j.wait.Add(1)
	select {
	case c.jobs <- j:
		return true
	default:
		j.wait.Done()
		return false
	}
}

func (c *crew) worker() {
	for j := range c.jobs {
		j.run()
		j.wait.Done()
	}
}

// close ends the workers. There must be no jobs, and none may follow.
func (c *crew) close() {
	if c.jobs != nil {
		close(c.jobs)
	}
	c.wait.Wait()
}
