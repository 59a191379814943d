// SPDX-License-Identifier: Apache-2.0

package remora

import "context"

// Perm is what may be done to memory.
type Perm uint16

// The bits of a Perm.
const (
	PermRead Perm = 1 << iota
	PermWrite
	PermExec
	PermUser // reachable from user mode; page tables only
)

// String gives "rwx" with a dash for each right that is missing, as
// /proc/PID/maps does, without the fourth column.
func (p Perm) String() string {
	b := [3]byte{'-', '-', '-'}
	for i, c := range [3]byte{'r', 'w', 'x'} {
		if p&(1<<i) != 0 {
			b[i] = c
		}
	}
	return string(b[:])
}

// Extent is the answer of a translation: a run of addresses that share one fate.
// It holds the address asked for, never spans 2^63, and may be shorter than the
// true run; callers merge. A hole is an Extent too: Err says why it is one.
type Extent struct {
	Virt, Phys Addr
	Size       uint64 // > 0; the end of the space is Virt+Size == 0
	Perm       Perm
	In         Space  // where Phys counts; nil: the space below
	Raw        uint64 // the table entry as found, 0 if there is none
	Level      uint8
	Err        error // nil: it is there. Otherwise the whole run is a hole.
}

// Translator turns an address of one space into an address of another. It cannot
// fail: what cannot be translated is an Extent whose Err says why.
type Translator interface {
	Translate(ctx context.Context, va Addr) Extent
}
