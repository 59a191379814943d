// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/remora-go/remora"
)

// Explain adds to the cause of a fault at a what the map says now: the region, or
// the hole. Where that no longer fits the cause, it says so. The result wraps c.
func (s *space) Explain(ctx context.Context, op remora.Op, a remora.Addr, c error) error {
	return s.Process.Explain(ctx, op, a, c)
}

// Explain is what the Memory of the process says of a fault.
func (p *Process) Explain(ctx context.Context, op remora.Op, a remora.Addr, c error) error {
	if errors.Is(c, fs.ErrPermission) {
		return p.explainRefusal(ctx, op, c)
	}
	if !errors.Is(c, remora.ErrFault) {
		return c
	}
	var before remora.Region
	for reg, err := range p.Regions(ctx) {
		switch {
		case err != nil:
			return c
		case reg.Contains(a):
			return &explained{c, inRegion(op, a, c, reg)}
		case reg.Start > a:
			return &explained{c, inHole(c, before, reg)}
		}
		before = reg
	}
	return &explained{c, inHole(c, before, remora.Region{})}
}

// explainRefusal says why a process that could be opened can no longer be accessed, or not
// with Force: where /proc/PID/mem heeds protections only a tracer gets past them.
func (p *Process) explainRefusal(ctx context.Context, op remora.Op, c error) error {
	act := "read the memory of"
	if op&remora.Write != 0 {
		act = "write the memory of"
	}
	if op&remora.Force == 0 || p.forcing() {
		return p.refused(act, c)
	}
	e := &remora.AccessError{Target: p.name(), Act: act, Reason: noForce, Remedy: forceRemedy, Err: c}
	if denied := (*remora.AccessError)(nil); errors.As(p.tracer.allowed(ctx), &denied) {
		e.Reason += "; and ptrace may not " + denied.Act + " it: " + denied.Reason
		if denied.Remedy != "" {
			e.Remedy = denied.Remedy + "; or " + e.Remedy
		}
	}
	return e
}

// explained is a cause with what the map says.
type explained struct {
	cause  error
	detail string
}

func (e *explained) Error() string {
	if e.detail == "" {
		return e.cause.Error()
	}
	return e.cause.Error() + " (" + e.detail + ")"
}

func (e *explained) Unwrap() error { return e.cause }

func inRegion(op remora.Op, a remora.Addr, c error, reg remora.Region) string {
	where := describe(reg)
	if reg.Inode != 0 {
		where += fmt.Sprintf(", file offset 0x%x", reg.Offset+uint64(a-reg.Start))
	}
	switch {
	case c == remora.ErrUnmapped:
		return "mapped by now: " + where
	case c == remora.ErrProtected && op&remora.Write != 0 && reg.Perm&remora.PermWrite == 0 && !reg.Shared:
		if op&remora.Force == 0 {
			return where + "; Force writes here"
		}
	case c == remora.ErrProtected && permits(op, reg):
		return "permitted by now: " + where
	case c == remora.ErrFault && reg.Name == "/secretmem":
		return where + ": memfd_secret memory, which nobody else can reach"
	}
	return where
}

// permits says whether the protection of the region allows the operation.
func permits(op remora.Op, reg remora.Region) bool {
	if op&remora.Write != 0 {
		return reg.Perm&remora.PermWrite != 0
	}
	return reg.Perm&remora.PermRead != 0
}

func describe(reg remora.Region) string {
	kind := "p"
	if reg.Shared {
		kind = "s"
	}
	name := reg.Name
	if name == "" {
		name = "anonymous memory"
	}
	if reg.Deleted {
		name += " (deleted)"
	}
	return fmt.Sprintf("%s%s %s", reg.Perm, kind, name)
}

func inHole(c error, before, after remora.Region) string {
	detail := ""
	if c != remora.ErrUnmapped {
		detail = "no longer mapped: "
	}
	switch {
	case before.Size == 0 && after.Size == 0:
		return detail + "nothing is mapped"
	case before.Size == 0:
		return detail + fmt.Sprintf("the first mapping begins at %v", after.Start)
	case after.Size == 0:
		return detail + fmt.Sprintf("the last mapping ends at %v", before.Last()+1)
	}
	return detail + fmt.Sprintf("between mappings that end at %v and begin at %v", before.Last()+1, after.Start)
}
