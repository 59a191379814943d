// SPDX-License-Identifier: Apache-2.0

package target

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/remora-go/remora"
)

// writtenProcess is a process of the kernel that runs here, read through the kernel's page
// tables and written through the kernel itself, which makes pages where there are none and
// keeps those apart that others share.
type writtenProcess struct {
	*Process
	live remora.Target // the same one
	mem  *remora.Memory
}

var (
	_ remora.Target    = (*writtenProcess)(nil)
	_ remora.Describer = (*writtenProcess)(nil)
	_ remora.Space     = (*writtenSpace)(nil)
	_ remora.Explainer = (*writtenSpace)(nil)
)

// firstPIDs is the first pid namespace (PROC_PID_INIT_INO in include/linux/proc_ns.h).
const firstPIDs = "pid:[4026531836]"

// writeThroughProc opens a process once more. It keeps p, and closes it where it fails.
func writeThroughProc(p *Process, o *Options) (remora.Target, error) {
	t, err := func() (remora.Target, error) {
		if ns, err := os.Readlink("/proc/self/ns/pid"); err != nil || ns != firstPIDs {
			return nil, fmt.Errorf("%s: to be written a process has to have the same number here as in the kernel, and this program is in another pid namespace (%q): %w",
				p.Info().Name, ns, errors.ErrUnsupported)
		}
		return live(p.Task.PID, o)
	}()
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	w := &writtenProcess{Process: p, live: t}
	w.mem = remora.New((*writtenSpace)(w))
	return w, nil
}

// WrittenBy names the target that writes to t go through, where that is another one than
// the one that it is read through; else it is "".
func WrittenBy(t remora.Target) string {
	if w, ok := t.(*writtenProcess); ok {
		return w.live.Memory().Info().Name
	}
	return ""
}

// Memory is the memory of the process.
func (w *writtenProcess) Memory() *remora.Memory { return w.mem }

// Unwrap gives the process as the kernel's page tables have it, which is not written.
func (w *writtenProcess) Unwrap() any { return w.Process }

// Close closes both.
func (w *writtenProcess) Close() error { return errors.Join(w.Process.Close(), w.live.Close()) }

// Describe says which way writes go.
func (w *writtenProcess) Describe(ctx context.Context) ([]remora.Fact, error) {
	facts, err := w.Process.Describe(ctx)
	return append(facts, remora.Fact{Key: "written", Value: "through " + w.live.Memory().Info().Name + ", as a live process, and not through the page tables"}), err
}

// writtenSpace is the memory of a writtenProcess.
type writtenSpace writtenProcess

// Info gives the facts of both: only what both honour is honoured.
func (w *writtenSpace) Info() remora.Info {
	in := w.Process.Info()
	in.Ops &= w.live.Memory().Info().Ops
	in.Writable = w.live.Memory().Info().Writable
	return in
}

// Transfer reads through the page tables, and writes through the kernel.
func (w *writtenSpace) Transfer(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
	if op&remora.Write != 0 {
		return w.live.Memory().Transfer(ctx, op, segs)
	}
	return w.Process.Transfer(ctx, op, segs)
}

// Explain asks the one that moved the bytes.
func (w *writtenSpace) Explain(ctx context.Context, op remora.Op, a remora.Addr, c error) error {
	if op&remora.Write == 0 {
		return w.Process.Explain(ctx, op, a, c)
	}
	if x, ok := remora.As[remora.Explainer](w.live.Memory()); ok {
		return x.Explain(ctx, op, a, c)
	}
	return c
}
