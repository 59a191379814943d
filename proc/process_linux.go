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

	pidfd      int
	quick      bool // the door is process_vm_*, with nothing that a single read must heed
	quickForce bool // the same for forced reads by /proc/PID/mem
	sharing    bool // the same, for reads of shared mappings that are mapped here too
	door       atomic.Uint32
	doorNote   string // why it is this door, for people

	// as holds the descriptors of the address space. It changes only under execMu,
	// and only with FollowExec; take gives it then.
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
