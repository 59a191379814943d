// SPDX-License-Identifier: Apache-2.0

package processvm

import "github.com/remora-go/remora/compat/errno"

// The functions in this file are the system call of the running kernel. Systems other than
// Linux have none: there the number is ENOSYS, which Is errors.ErrUnsupported, as it is of a
// kernel that was built without (R60).
//
// A local Base is an address in this process. Memory of Go that it names must be on
// the heap, and be kept alive past the call; ReadBytes and its like see to that.

// Readv is process_vm_readv(2): bytes go from the remote elements, in process pid, to the
// local ones. Either the count or the number is zero.
func Readv(pid int, local, remote []Iovec, flags uint64) (int, errno.Errno) {
	return liveVec(false, pid, local, remote, flags)
}

// Writev is process_vm_writev(2): bytes go from the local elements to the remote ones.
func Writev(pid int, local, remote []Iovec, flags uint64) (int, errno.Errno) {
	return liveVec(true, pid, local, remote, flags)
}

// Syscall is either of the two with all arguments as they are in the registers: vectors that
// cannot be read, counts that do not fit. A 32-bit system has registers of 32 bits, and the
// rest is cut off; elements have 8 bytes there.
func Syscall(write bool, a Args) (int, errno.Errno) { return liveRaw(write, a) }

// ReadBytes is Readv into buffers.
func ReadBytes(pid int, bufs [][]byte, remote []Iovec, flags uint64) (int, errno.Errno) {
	b := hold(bufs)
	n, e := liveVec(false, pid, b.vec, remote, flags)
	b.release()
	return n, e
}

// WriteBytes is Writev from buffers.
func WriteBytes(pid int, bufs [][]byte, remote []Iovec, flags uint64) (int, errno.Errno) {
	b := hold(bufs)
	n, e := liveVec(true, pid, b.vec, remote, flags)
	b.release()
	return n, e
}

// liveMover is the running kernel as mover.
type liveMover struct {
	write bool
	pid   int
}

func (m *liveMover) move(local, remote []Iovec) (int, errno.Errno) {
	return liveVec(m.write, m.pid, local, remote, 0)
}

// ReadAll makes as many calls as it takes to move all bytes that the buffers and the remote
// elements have room for: past IOVMax of them and past MaxRW bytes. It gives the bytes moved, and if
// these are not all the error of Outcome: a *remora.Fault has the address.
func ReadAll(pid int, bufs [][]byte, remote []Iovec) (uint64, error) {
	return liveAll(false, pid, bufs, remote)
}

// WriteAll is ReadAll in the other direction.
func WriteAll(pid int, bufs [][]byte, remote []Iovec) (uint64, error) {
	return liveAll(true, pid, bufs, remote)
}

func liveAll(write bool, pid int, bufs [][]byte, remote []Iovec) (uint64, error) {
	b, w := hold(bufs), manyPool.Get().(*many)
	defer b.release()
	defer w.done()
	w.live = liveMover{write, pid}
	n, e := w.all(&w.live, b.vec, remote)
	return n, outcome(write, pid, b.vec, remote, n, e)
}
