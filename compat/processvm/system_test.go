// SPDX-License-Identifier: Apache-2.0

package processvm

import (
	"bytes"
	"context"
	"encoding/binary"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/compat/errno"
	"github.com/remora-go/remora/memtest"
)

const (
	ps         = 4096
	base       = 0x10000 // of the remote memory
	localBase  = 0x40000000
	callerPID  = 10
	targetPID  = 20
	noOne      = 99
	rw         = remora.PermRead | remora.PermWrite
	kernelAddr = 0xffff800000000000
)

// world is two processes of one System.
type world struct {
	t             *testing.T
	sys           *System
	local, remote *memtest.Sparse
	caller        *Process
	target        *Process
}

// newWorld gives a caller with 8 writable pages at localBase, and a target with an empty
// address space.
func newWorld(t *testing.T, o *Options) *world {
	w := &world{t: t, sys: NewSystem(o), local: memtest.NewSparse(nil), remote: memtest.NewSparse(nil)}
	w.caller = &Process{PID: callerPID, Memory: w.local.Memory()}
	w.target = &Process{PID: targetPID, Threads: []int{21, 22}, Memory: w.remote.Memory()}
	w.set(w.caller)
	w.set(w.target)
	w.fill(w.local, localBase, 8, rw)
	return w
}

func (w *world) set(p *Process) {
	w.t.Helper()
	if err := w.sys.Set(p); err != nil {
		w.t.Fatal(err)
	}
}

// fill maps pages with known contents.
func (w *world) fill(s *memtest.Sparse, a remora.Addr, pages int, perm remora.Perm) {
	w.t.Helper()
	w.empty(s, a, pages, perm)
	if err := s.Poke(pattern(a, pages*ps), a); err != nil {
		w.t.Fatal(err)
	}
}

// empty maps pages that nobody has touched.
func (w *world) empty(s *memtest.Sparse, a remora.Addr, pages int, perm remora.Perm) {
	w.t.Helper()
	if err := s.Map(remora.Range{Start: a, Size: uint64(pages) * ps}, memtest.MapOptions{Perm: perm}); err != nil {
		w.t.Fatal(err)
	}
}

func pattern(a remora.Addr, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		x := uint64(a) + uint64(i)
		b[i] = byte(x*7 + x>>8*13 + x>>16)
	}
	return b
}

func (w *world) peek(s *memtest.Sparse, a remora.Addr, n int) []byte {
	w.t.Helper()
	b := make([]byte, n)
	if err := s.Peek(b, a); err != nil {
		w.t.Fatal(err)
	}
	return b
}

// holds checks that n bytes at a are what was once at from.
func (w *world) holds(s *memtest.Sparse, a, from remora.Addr, n int) {
	w.t.Helper()
	if got, want := w.peek(s, a, n), pattern(from, n); !bytes.Equal(got, want) {
		for i := range got {
			if got[i] != want[i] {
				w.t.Errorf("byte %d of %d at %v is 0x%02x, want 0x%02x", i, n, a, got[i], want[i])
				return
			}
		}
	}
}

func (w *world) readv(pid int, local, remote []Iovec) result {
	n, e := w.sys.Readv(context.Background(), w.caller, pid, local, remote, 0)
	return result{n, e}
}

func (w *world) writev(pid int, local, remote []Iovec) result {
	n, e := w.sys.Writev(context.Background(), w.caller, pid, local, remote, 0)
	return result{n, e}
}

func (w *world) syscall(write bool, a Args) result {
	n, e := w.sys.Syscall(context.Background(), w.caller, write, a)
	return result{n, e}
}

// result is what a call gives.
type result struct {
	n int
	e errno.Errno
}

func moved(n int) result          { return result{n: n} }
func failed(e errno.Errno) result { return result{e: e} }
func iov(v ...Iovec) []Iovec      { return v }
func at(a, n uint64) Iovec        { return Iovec{a, n} }
func one(a, n uint64) []Iovec     { return []Iovec{{a, n}} }
func (w *world) check(got, want result) {
	w.t.Helper()
	if got != want {
		w.t.Errorf("gave %d and %s, want %d and %s", got.n, got.e.Name(), want.n, want.e.Name())
	}
}

// array puts a vector into the caller's memory.
func (w *world) array(a remora.Addr, vec ...Iovec) uint64 {
	w.t.Helper()
	var b []byte
	for _, v := range vec {
		b = binary.LittleEndian.AppendUint64(b, v.Base)
		b = binary.LittleEndian.AppendUint64(b, v.Len)
	}
	if err := w.local.Poke(b, a); err != nil {
		w.t.Fatal(err)
	}
	return uint64(a)
}

func TestR20VectorsAreTwoStreams(t *testing.T) {
	w := newWorld(t, nil)
	w.fill(w.remote, base, 4, rw)
	w.check(w.readv(targetPID, iov(at(localBase+5, 10), at(localBase+100, 4000), at(localBase+8192, 90)),
		iov(at(base, 7), at(base+ps-3, 3093), at(base+3*ps, 900))), moved(4000))
	w.holds(w.local, localBase+5, base, 7)
	w.holds(w.local, localBase+12, base+ps-3, 3)
	w.holds(w.local, localBase+100, base+ps, 3090)
	w.holds(w.local, localBase+100+3090, base+3*ps, 900)
	w.holds(w.local, localBase+100+3990, localBase+100+3990, 1)
}
