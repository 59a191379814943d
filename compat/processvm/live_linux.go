// SPDX-License-Identifier: Apache-2.0

package processvm

import (
	"sync"

	"github.com/remora-go/remora/compat/errno"
	"github.com/remora-go/remora/internal/sys/linux"
)

func liveVec(write bool, pid int, local, remote []Iovec, flags uint64) (int, errno.Errno) {
	n, e := linux.VMVec(write, pid, local, remote, flags)
	return n, errno.Errno(e)
}

func liveRaw(write bool, a Args) (int, errno.Errno) {
	n, e := linux.VMRaw(write, a.PID, a.Lvec, a.Liovcnt, a.Rvec, a.Riovcnt, a.Flags)
	return n, errno.Errno(e)
}

// buffers holds the caller's buffers as a vector. That it is on the heap, and they in it, keeps them
// alive and where they are.
type buffers struct {
	bufs [][]byte
	vec  []Iovec
}

var buffersPool = sync.Pool{New: func() any { return new(buffers) }}

func hold(bufs [][]byte) *buffers {
	b := buffersPool.Get().(*buffers)
	b.bufs, b.vec = bufs, b.vec[:0]
	for _, p := range bufs {
		b.vec = append(b.vec, Iovec{linux.AddressOf(p), uint64(len(p))})
	}
	return b
}

func (b *buffers) release() {
	b.bufs = nil
	buffersPool.Put(b)
}
