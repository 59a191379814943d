// SPDX-License-Identifier: Apache-2.0

package remora

import (
	"context"
	"fmt"
	"io/fs"
	"strings"
)

// Cause is a constant error: why a transfer stopped, or why a thing could not be
// opened. Converting one to error allocates nothing.
type Cause uint8

// The causes. Those from ErrFault to ErrNoTable are faults: the byte at Addr+N
// could not be moved, and errors.Is(err, ErrFault) holds. The others say nothing
// of that byte.
const (
	ErrFault      Cause = iota + 1 // a fault whose cause could not be told apart
	ErrUnmapped                    // nothing is mapped there
	ErrProtected                   // mapped, but the page protection refuses
	ErrBeyondEOF                   // a file mapping, beyond the end of the file
	ErrGuard                       // a guard page
	ErrNotPresent                  // mapped, but not in memory
	ErrNotSaved                    // left out when this dump was made
	ErrHole                        // no memory at this physical address
	ErrTruncated                   // lost: the dump is incomplete or cut off
	ErrCorrupt                     // there, but damaged
	ErrPoisoned                    // the hardware reported this memory as bad
	ErrIO                          // reading the backing store failed
	ErrDevice                      // device memory, which is never touched
	ErrNoTable                     // a page table on the way is missing

	ErrReadOnly     // the Space is not open for writing; Is fs.ErrPermission
	ErrStopped      // not attempted: an earlier segment stopped under StopAtFault
	ErrGone         // the target no longer exists, or is no longer the same one
	ErrInDoubt      // a write already handed to the system when its context ended
	ErrBusy         // too many abandoned calls are still waiting for the system
	ErrUnrecognized // not a format that is known here
)

var causeText = [...]string{
	ErrFault:        "cannot be accessed",
	ErrUnmapped:     "not mapped",
	ErrProtected:    "page protection",
	ErrBeyondEOF:    "beyond the end of the mapped file",
	ErrGuard:        "guard page",
	ErrNotPresent:   "not present in memory",
	ErrNotSaved:     "not saved in this dump",
	ErrHole:         "no memory at this address",
	ErrTruncated:    "lost: the dump is cut off",
	ErrCorrupt:      "damaged",
	ErrPoisoned:     "memory failure reported by hardware",
	ErrIO:           "input/output error",
	ErrDevice:       "device memory",
	ErrNoTable:      "page table missing",
	ErrReadOnly:     "opened read-only",
	ErrStopped:      "not attempted after an earlier fault",
	ErrGone:         "the target is gone",
	ErrInDoubt:      "the write may still happen",
	ErrBusy:         "too many calls are stuck in the system",
	ErrUnrecognized: "format not recognized",
}

func (c Cause) Error() string {
	if int(c) < len(causeText) && causeText[c] != "" {
		return causeText[c]
	}
	return fmt.Sprintf("unknown cause %d", uint8(c))
}

// Is says that every fault is an ErrFault, and ErrReadOnly an fs.ErrPermission.
func (c Cause) Is(target error) bool {
	switch target {
	case ErrFault:
		return c >= ErrFault && c <= ErrNoTable
	case fs.ErrPermission:
		return c == ErrReadOnly
	}
	return false
}

// Fault says where a transfer stopped, and why. It unwraps to its cause, and
// nests: a page table that cannot be read is a Fault inside a Fault.
type Fault struct {
	Space string // Info.Name of the Space
	Op    Op
	Addr  Addr // the first byte that was not moved
	Past  bool // the transfer ran past MaxAddr; Addr is 0 then
	Err   error
}

func (f *Fault) Error() string {
	if f.Past {
		return f.Op.verb() + " " + f.Space + ": past the last address: " + f.Err.Error()
	}
	return f.Op.verb() + " " + f.Space + ":" + f.Addr.String() + ": " + f.Err.Error()
}

func (f *Fault) Unwrap() error { return f.Err }

// Explainer adds detail to a cause: the region, the file offset, the dump level,
// the table entry. It is asked once, after the transfer, by Memory and by
// commands; it may do I/O. On a live Space it looks again, and says so when the
// answer has changed. The result wraps c.
type Explainer interface {
	Explain(ctx context.Context, op Op, a Addr, c error) error
}

// SegFault turns the result of a segment into a *Fault, with what the Space can
// explain about it. It gives nil for a complete segment.
func SegFault(ctx context.Context, s Space, op Op, seg *Seg) error {
	if seg.Err == nil {
		return nil
	}
	f := &Fault{Space: s.Info().Name, Op: op, Addr: seg.Addr + Addr(seg.N), Err: seg.Err}
	f.Past = f.Addr < seg.Addr
	if x, ok := As[Explainer](s); ok && !f.Past && ctx.Err() == nil {
		f.Err = x.Explain(ctx, op, f.Addr, seg.Err)
	}
	return f
}

// FirstFault gives the *Fault of the first incomplete segment, or nil.
func FirstFault(ctx context.Context, s Space, op Op, segs []Seg) error {
	for i := range segs {
		if segs[i].Err != nil {
			return SegFault(ctx, s, op, &segs[i])
		}
	}
	return nil
}

// AccessError says that a target may not be opened, which rule refused, and what
// would help. It Is fs.ErrPermission.
type AccessError struct {
	Target string // "pid 4711"
	Act    string // "read the memory of", "attach to"
	Reason string // the rule that refused, in plain words
	Remedy string // what would help; may be empty
	Err    error  // what the system said
}

func (e *AccessError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: not permitted to %s it", e.Target, e.Act)
	if e.Reason != "" {
		b.WriteString(": " + e.Reason)
	} else if e.Err != nil {
		b.WriteString(": " + e.Err.Error())
	}
	if e.Remedy != "" {
		b.WriteString("; " + e.Remedy)
	}
	return b.String()
}

func (e *AccessError) Unwrap() error { return e.Err }

// Is says that an AccessError is an fs.ErrPermission.
func (e *AccessError) Is(target error) bool { return target == fs.ErrPermission }

// FormatError says where a file does not hold what its format asks for.
type FormatError struct {
	File   string
	Offset int64  // bytes from the start of the file
	Want   string // what was expected there
	Got    string // what was found
	Err    error  // ErrUnrecognized, ErrCorrupt, ErrTruncated, or what reading said
}

func (e *FormatError) Error() string {
	return fmt.Sprintf("%s: offset 0x%x: want %s, found %s", e.File, e.Offset, e.Want, e.Got)
}

func (e *FormatError) Unwrap() error { return e.Err }
