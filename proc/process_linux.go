// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"context"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/sys/linux"
	"github.com/remora-go/remora/internal/xfer"
)

// Process is a live process. It is a remora.Target, a Mapper, a Pauser, an
// Explainer and a Describer.
type Process struct {
	gate   xfer.Gate
	memory *remora.Memory
	info   remora.Info
	opts   Options

	pid  int // as it was asked for; may be the id of a thread
	tgid int // of the process
	call int // the thread whose id process_vm_* gets: one that has the address space

	pidfd    int
	quick    bool // the door is process_vm_*, with nothing that a single read must heed
	sharing  bool // the same, for reads of shared mappings that are mapped here too
	door     atomic.Uint32
	doorNote string // why it is this door, for people

	// as holds the descriptors of the address space. It changes only under execMu,
	// and only with FollowExec.
	as     *addressSpace
	execMu sync.RWMutex

	forceOnce sync.Once
	forceMem  bool // /proc/PID/mem ignores protections on this kernel

	runs   sync.Pool // of *run
	calls  callers
	tracer *tracer
	team   team
	shared shares
}

var (
	_ remora.Target    = (*Process)(nil)
	_ remora.Mapper    = (*Process)(nil)
	_ remora.Pauser    = (*Process)(nil)
	_ remora.Explainer = (*Process)(nil)
	_ remora.Describer = (*Process)(nil)
	_ remora.Space     = (*space)(nil)
)

// space is the Process as a remora.Space: apart, so that Transfer is not a method
// of Process beside those of Memory.
type space struct{ *Process }

// Unwrap gives the Process, so that its abilities are found from its Memory.
func (s *space) Unwrap() any { return s.Process }

// Memory gives the memory of the process.
func (p *Process) Memory() *remora.Memory { return p.memory }

// Pid gives the number that the process was opened by.
func (p *Process) Pid() int { return p.pid }

// Info gives the facts of the address space.
func (p *Process) Info() remora.Info { return p.info }

// Close lets go of the process. The process itself runs on.
func (p *Process) Close() error {
	if !p.gate.Close() {
		return nil
	}
	p.calls.close()
	p.team.close()
	p.shared.close()
	p.tracer.close()
	p.as.drop()
	linux.Close(p.pidfd)
	return nil
}

// Pause stops every thread of the process. It runs on when resume is called, and
// also when this process dies.
func (p *Process) Pause(ctx context.Context) (resume func() error, err error) {
	resume, err = p.tracer.pause(ctx)
	if err != nil {
		err = p.refused("stop", err)
	}
	return resume, err
}

// exited says whether the process is gone. It never blocks.
func (p *Process) exited() bool { return p.pidfd >= 0 && linux.PidfdExited(p.pidfd) }

// path gives /proc/PID/name for the thread that has the address space.
func (p *Process) path(name string) string {
	return "/proc/" + strconv.Itoa(p.call) + "/" + name
}

// addressSpace holds descriptors that stay bound to one address space, whatever
// becomes of the process (R69). A descriptor that could not be had is -1.
type addressSpace struct {
	maps    int
	mem     int
	pagemap int
	query   bool // maps answers PROCMAP_QUERY
	scan    bool // pagemap answers PAGEMAP_SCAN
	seekMu  sync.Mutex
	users   atomic.Int32 // calls made aside, which may be left behind, less 1 once closed
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

// alive says whether the address space still has a user. Both questions cost about
// a quarter of a microsecond and touch no page of the target.
func (as *addressSpace) alive() bool {
	switch {
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
	return as.alive() && p.runsOn(as)
}

// runsOn says whether the process has not exited, as far as its address space, which
// is alive, does not show that: calls left behind keep it alive.
func (p *Process) runsOn(as *addressSpace) bool {
	return (as.query && p.calls.stuck() == 0) || !p.exited()
}
