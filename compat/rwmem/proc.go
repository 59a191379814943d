// SPDX-License-Identifier: Apache-2.0

package rwmem

import (
	"context"
	"io"
	"sync"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/compat/errno"
	"github.com/remora-go/remora/proc"
)

// Options says how a Proc behaves. Nil is the same as the zero Options.
type Options struct {
	// Write opens a live process for writing too. Without it a write is EPERM.
	Write bool

	// NeedPrivilege is the newest FreeBSD's rule that only a privileged Thread
	// writes (R75). Without it the rule is that of the manual: whoever holds may write.
	NeedPrivilege bool
}

// Proc is a process whose memory can be moved (struct proc).
type Proc struct {
	space  remora.Space
	mapper remora.Mapper // nil: nothing is known of its mappings
	shared SharedWriter  // nil: the maximum protection is not known
	icache InstructionSyncer
	opts   Options
	page   uint64    // bytes
	owned  io.Closer // nil: the Space is the caller's

	mu      sync.Mutex
	idle    *sync.Cond // no holds are left
	holds   int
	exiting bool
	closed  error
	moves   sync.Pool // of *move
}

// SharedWriter is the ability to write a shared mapping that is read-only now, but
// whose maximum protection has write (R74).
type SharedWriter interface {
	// WriteShared writes p at a, which do not cross a page, and gives the length of
	// the prefix that was written. Where the maximum protection is without write the
	// error Is remora.ErrProtected, also for an empty p.
	WriteShared(ctx context.Context, p []byte, a remora.Addr) (int, error)
}

// InstructionSyncer is the ability to make the instruction cache see what was
// written (R76). A live Linux process does so by itself.
type InstructionSyncer interface {
	SyncInstructions(ctx context.Context, r remora.Range) error
}

// New gives the process whose memory s is. Its mappings are known if s is a
// remora.Mapper. Close leaves s open.
func New(s remora.Space, o *Options) *Proc {
	p := &Proc{space: s, page: pageSize(s.Info().Granule)}
	if o != nil {
		p.opts = *o
	}
	p.idle = sync.NewCond(&p.mu)
	p.mapper, _ = remora.As[remora.Mapper](s)
	p.icache, _ = remora.As[InstructionSyncer](s)
	if w, ok := remora.As[SharedWriter](s); ok {
		p.shared = w
	} else if live, ok := remora.As[*proc.Process](s); ok {
		p.shared = liveShared(live)
	}
	return p
}

// Open opens a live process. Its errors are those of proc.Open.
func Open(pid int, o *Options) (*Proc, error) {
	live, err := proc.Open(pid, &proc.Options{Write: o != nil && o.Write})
	if err != nil {
		return nil, err
	}
	p := New(live.Memory(), o)
	p.owned = live
	return p, nil
}

// pageSize is the unit that is faulted: the granule of the space, if that can be the
// size of a page.
func pageSize(granule uint32) uint64 {
	if granule >= 512 && granule&(granule-1) == 0 {
		return uint64(granule)
	}
	return 4096
}

// Hold is PHOLD(9): until Release, Close waits. It is illegal once the process is
// exiting, and then ESRCH (R85). A hold does not lock the contents of the memory.
func (p *Proc) Hold() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.exiting {
		return &Error{Errno: errno.ESRCH, Space: p.space.Info().Name, Err: ErrExiting}
	}
	p.holds++
	return nil
}

// Release is PRELE(9). It panics when there was no Hold for it.
func (p *Proc) Release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.holds == 0 {
		panic("rwmem: Release of a process that is not held")
	}
	p.holds--
	if p.holds == 0 {
		p.idle.Broadcast()
	}
}

// Close is the exit of the process, as far as this handle goes: there are no new
// holds from now on, and it waits until the last one is released. Closing twice is
// fine.
func (p *Proc) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.exiting = true
	for p.holds > 0 {
		p.idle.Wait()
	}
	if p.owned != nil {
		p.closed = p.owned.Close()
		p.owned = nil
	}
	return p.closed
}

// held says whether td may use the process now.
func (p *Proc) held(td *Thread) bool {
	if td != nil && td.Proc == p {
		return true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.holds > 0
}
