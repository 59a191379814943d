// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package processvm

import "github.com/remora-go/remora/compat/errno"

func liveVec(bool, int, []Iovec, []Iovec, uint64) (int, errno.Errno) { return 0, errno.ENOSYS }

func liveRaw(bool, Args) (int, errno.Errno) { return 0, errno.ENOSYS }

type buffers struct{ vec []Iovec }

func hold(bufs [][]byte) *buffers {
	b := new(buffers)
	for _, p := range bufs {
		b.vec = append(b.vec, Iovec{Len: uint64(len(p))})
	}
	return b
}

func (*buffers) release() {}
