// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/qmp"
	"github.com/remora-go/remora/internal/xfer"
)

// QEMUOptions say how a guest is opened. Nil is the same as the zero Options.
type QEMUOptions struct {
	// Write opens for writing too, which needs Process.
	Write bool

	// Process opens the process that has the number, here, to read guest memory in the
	// memory of QEMU. Nil, or an error of it, leaves the ways through QMP, to read only.
	// It is closed with the guest. Where it is a remora.Mapper, what it lists is checked
	// against what QEMU says, and shared memory is mapped.
	Process func(pid int) (remora.Target, error)

	// PID is the number of QEMU's process; 0: found by the socket.
	PID int

	// NoMap reads shared memory too in QEMU's process.
	NoMap bool

	// Timeout is how long QEMU may take for one command; 0: five seconds. To greet it may
	// take two seconds at most.
	Timeout time.Duration

	// Watchdog, if not nil, is called before Pause stops a guest that runs. It is to
	// start something that outlives this process and gives QMP's "cont" when this
	// process dies; done, called when the guest runs again, is to end it. Without it a
	// guest that was paused stays so when this process is killed.
	Watchdog func(q *QEMU) (done func() error, err error)
}

// QEMU is the physical memory of a guest that runs. It is a remora.Target, a Space, a
// Mapper, a Pauser, an Explainer and a Describer.
type QEMU struct {
	opts    QEMUOptions
	socket  string
	client  *qmp.Client
	memory  *remora.Memory
	info    remora.Info
	arch    string
	process remora.Target
	pid     int
	refused error // why there is no process
	slow    *slow // in place of the process
	shared  mappings

	gate   xfer.Gate
	state  atomic.Uint32 // bits: gone, stale
	why    atomic.Pointer[string]
	layout atomic.Pointer[layout]

	refresh refresher
	watch   watcher
	pauses  pauses
}

var (
	_ remora.Target    = (*QEMU)(nil)
	_ remora.Space     = (*QEMU)(nil)
	_ remora.Mapper    = (*QEMU)(nil)
	_ remora.Pauser    = (*QEMU)(nil)
	_ remora.Explainer = (*QEMU)(nil)
	_ remora.Describer = (*QEMU)(nil)
)

// OpenQEMU opens the guest whose QMP socket, a unix socket, is at the path. Nil options
// are the zero Options. The guest goes on as it is.
//
// The error Is fs.ErrNotExist where nothing listens there, remora.ErrUnrecognized where
// what listens is not QMP, a *remora.AccessError where the socket, or with Write the
// process, may not be opened, and errors.ErrUnsupported for a guest whose memory cannot
// be read from outside.
func OpenQEMU(ctx context.Context, socket string, o *QEMUOptions) (*QEMU, error) {
	q := &QEMU{socket: socket}
	q.refresh.rest = refreshEvery
	if o != nil {
		q.opts = *o
	}
	if q.opts.Timeout <= 0 {
		q.opts.Timeout = 5 * time.Second
	}
	if err := q.dial(ctx); err != nil {
		return nil, err
	}
	err := q.open(ctx)
	if err == nil && q.isGone() {
		err = q.goneError()
	}
	if err != nil {
		q.Close()
		return nil, err
	}
	return q, nil
}

func (q *QEMU) open(ctx context.Context) error {
	if err := q.ask(ctx); err != nil {
		return err
	}
	l, err := q.survey(ctx)
	if err != nil {
		return err
	}
	if err := q.reach(ctx, l); err != nil {
		return err
	}
	q.layout.Store(l)
	q.info = remora.Info{
		Name:     q.Name() + "@phys",
		Ops:      remora.StopAtFault | remora.Force,
		Granule:  l.granule(),
		Last:     remora.MaxAddr,
		Writable: q.opts.Write,
		Live:     true,
	}
	q.info.PtrSize, q.info.BigEndian = words(q.arch)
	if q.process != nil {
		q.info.Ops |= q.process.Memory().Info().Ops & remora.Resident
	}
	q.memory = remora.New(q)
	q.watchProcess()
	if q.slow != nil {
		q.slow.prepare(ctx)
	}
	return ctx.Err()
}

// words gives the size of a pointer of an architecture in bytes, and the order of bytes.
func words(arch string) (size uint8, bigEndian bool) {
	switch arch {
	case "i386", "arm", "riscv32", "mipsel", "xtensa", "microblazeel", "nios2", "cris", "rx", "tricore", "avr", "sh4":
		return 4, false
	case "ppc", "m68k", "mips", "sparc", "or1k", "hppa", "microblaze", "xtensaeb", "sh4eb":
		return 4, true
	case "ppc64", "s390x", "sparc64", "mips64":
		return 8, true
	}
	return 8, false
}

// Memory gives the physical memory.
func (q *QEMU) Memory() *remora.Memory { return q.memory }

// Info gives the facts of the physical memory.
func (q *QEMU) Info() remora.Info { return q.info }

// Arch gives the architecture by QEMU's name, such as "x86_64" and "aarch64".
func (q *QEMU) Arch() string { return q.arch }

// Name gives what messages call the guest.
func (q *QEMU) Name() string { return "qemu:" + filepath.Base(q.socket) }

// PID gives the number of QEMU's process, 0 where it is not known.
func (q *QEMU) PID() int { return q.pid }

// Close lets go of the guest, which goes on as it is; one that Pause has stopped runs on.
func (q *QEMU) Close() error {
	if !q.gate.Close() {
		return nil
	}
	err := q.pauses.end(q)
	q.watch.close(q)
	q.slow.close(q)
	q.client.Close()
	q.watch.tasks.Wait()
	q.shared.close()
	if q.process != nil {
		err = errors.Join(err, q.process.Close())
	}
	return err
}

// Regions lists the memory of the guest by physical address, as QEMU has it now.
func (q *QEMU) Regions(ctx context.Context) iter.Seq2[remora.Region, error] {
	return func(yield func(remora.Region, error) bool) {
		if !q.gate.Enter() {
			yield(remora.Region{}, fs.ErrClosed)
			return
		}
		defer q.gate.Leave()
		sections, err := q.sections(ctx)
		if err != nil {
			yield(remora.Region{}, err)
			return
		}
		for _, s := range sections {
			r := remora.Region{
				Range:  remora.Range{Start: remora.Addr(s.First), Size: s.Last - s.First + 1},
				Perm:   remora.PermRead | remora.PermWrite,
				Name:   s.Block,
				Offset: s.Offset,
			}
			if s.ReadOnly() || !q.info.Writable {
				r.Perm = remora.PermRead
			}
			if !yield(r, nil) {
				return
			}
		}
	}
}

// Explain is what the Memory of the guest says of a fault.
func (q *QEMU) Explain(ctx context.Context, op remora.Op, a remora.Addr, c error) error {
	if c == remora.ErrGone {
		if q.isGone() {
			return q.goneError()
		}
		return c
	}
	l := q.layout.Load()
	if p := l.find(uint64(a)); p != nil && c == remora.ErrProtected {
		return fmt.Errorf("%s, which the guest cannot write: %w", p.block, c)
	}
	if !q.gate.Enter() {
		return c
	}
	defer q.gate.Leave()
	return l.direct.Explain(ctx, op, a, c)
}

// refresher bounds how often the layout is read anew.
type refresher struct {
	mu   sync.Mutex    // of one who reads it
	rest time.Duration // the least time between two that a miss causes
	last time.Time     // when that ended
	took time.Duration
}
