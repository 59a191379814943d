// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"encoding/binary"
	"os"
	"sync"
	"sync/atomic"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/sys/linux"
)

// addressSpace holds descriptors that stay bound to one address space, whatever
// becomes of the process (R69). A descriptor that could not be had is -1.
type addressSpace struct {
	maps    int
	mem     int
	pagemap int
	query   bool // maps answers PROCMAP_QUERY
	counts  bool // pagemap tells whether there is a user
	scan    bool // pagemap answers PAGEMAP_SCAN
	seekMu  sync.Mutex
	users   atomic.Int32 // who holds it besides the Process, less 1 once that has let go
	ptrSize uint8
	mark    remora.Addr // of the random bytes of its program; 0: not known
}

// hold keeps the descriptors open, under their numbers, until drop.
func (as *addressSpace) hold() { as.users.Add(1) }

// drop ends what hold began, or the use by the Process. The last user closes.
func (as *addressSpace) drop() {
	if as.users.Add(-1) < 0 {
		linux.Close(as.maps)
		linux.Close(as.mem)
		linux.Close(as.pagemap)
	}
}

// take gives the address space of the program that is followed, held until drop: a
// call that is stuck must not keep another from following.
func (p *Process) take() *addressSpace {
	p.execMu.RLock()
	defer p.execMu.RUnlock()
	p.as.hold()
	return p.as
}

// alive says whether the address space still has a user. No question touches a page of the
// target; the first is little more than a system call that does nothing, the others take
// twice and four times as long.
func (as *addressSpace) alive() bool {
	switch {
	case as.counts:
		return linux.SpaceUsed(as.pagemap) != linux.ESRCH
	case as.query:
		q := linux.MapQuery{} // the page at zero: nothing there is the quickest answer
		return linux.QueryMap(as.maps, &q) != linux.ESRCH
	case as.mem >= 0:
		// A read where nothing is mapped: EIO while the space lives, 0 bytes after.
		var b [1]byte
		n, errno := linux.Mem(false, as.mem, b[:], 0)
		return n > 0 || errno != 0
	}
	return true // the pidfd alone decides
}

// same says whether the process still is the one that was opened, in the address
// space that was opened. It is asked after a transfer: what is so then was so during
// it.
func (p *Process) same(as *addressSpace) bool {
	kept := p.kept() // before the question: it is who was here then that matters
	return as.alive() && p.runsOn(as, kept)
}

// stays is same where that is asked, else true.
func (p *Process) stays(as *addressSpace) bool { return p.opts.Unchecked || p.same(as) }

// kept says whether another call holds the address space that it moves bytes of, so
// that this lives on after an exit or an execve (R50): one that was left behind, or
// one that runs beside the caller's own.
func (p *Process) kept() bool { return p.calls.stuck() > 0 || p.gate.Inside() > 1 }

// runsOn says whether the process has neither exited nor left its address space, as
// far as the latter, which is alive, does not show that.
func (p *Process) runsOn(as *addressSpace, kept bool) bool {
	if (as.counts || as.query) && !kept {
		return true
	}
	return !p.exited() && (!kept || p.reaches(as))
}

// reaches says whether process_vm_readv reaches the address space. The kernel puts
// random bytes into each program that it begins (AT_RANDOM, getauxval(3)): they are
// read by the descriptor, which cannot come to mean another space, and by number. Where
// that cannot be done it is true.
func (p *Process) reaches(as *addressSpace) bool {
	if as.mark == 0 || as.mem < 0 {
		return true
	}
	var want, got [16]byte
	n, errno := linux.Mem(false, as.mem, want[:], uint64(as.mark))
	if n < len(want) { // the program unmapped them, or another call was the last to hold the space
		return n > 0 || errno != 0
	}
	// Their page is present, so this does not wait for anybody to bring it.
	n, errno = linux.VMOne(false, p.call, got[:], uint64(as.mark))
	if errno == linux.EPERM || errno == linux.ENOSYS {
		return true
	}
	return n == len(got) && got == want
}

// findMark gives the address of the random bytes of a program with pointers of that
// many bytes.
func (p *Process) findMark(ptrSize uint8) remora.Addr {
	const atRandom = 25 // AT_RANDOM
	text, err := os.ReadFile(p.path("auxv"))
	if err != nil {
		return 0
	}
	size := int(ptrSize)
	for size > 0 && len(text) >= 2*size {
		key, value := auxWord(text[:size]), auxWord(text[size:2*size])
		if key == atRandom && fits(remora.Addr(value), 16) {
			return remora.Addr(value)
		}
		text = text[2*size:]
	}
	return 0
}

func auxWord(b []byte) uint64 {
	if len(b) == 4 {
		return uint64(binary.NativeEndian.Uint32(b))
	}
	return binary.NativeEndian.Uint64(b)
}
