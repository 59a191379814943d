// SPDX-License-Identifier: Apache-2.0

package remora

import "strings"

// Op says what a Transfer does. A Space refuses a call whole when it holds a bit
// that the Space does not honour (see Info.Ops); no bit is ever ignored.
type Op uint32

// The bits of an Op. Read is their absence.
const (
	Read  Op = 0
	Write Op = 1 << (iota - 1)

	// StopAtFault leaves the segments after the first incomplete one untouched:
	// they end with N = 0 and ErrStopped.
	StopAtFault

	// Force ignores page protections where the target's system lets a debugger
	// do so. A Space without protections honours it trivially.
	Force

	// Resident touches only what is in memory already, and never faults a page
	// into the target; the rest is ErrNotPresent. A Space without paging honours
	// it trivially. Write|Resident writes only pages that are present, without
	// breaking copy-on-write; a Space that cannot promise this refuses the pair.
	Resident

	opEnd
)

// AllOps holds every bit there is.
const AllOps = opEnd - 1

var opNames = [...]string{"write", "stop-at-fault", "force", "resident"}

// String names the operation and its bits: "read", "write|force".
func (op Op) String() string {
	names := make([]string, 0, 4)
	if op&Write == 0 {
		names = append(names, "read")
	}
	for i, name := range opNames {
		if op&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	if op&^AllOps != 0 {
		names = append(names, "unknown")
	}
	return strings.Join(names, "|")
}

// verb is the direction alone, for messages.
func (op Op) verb() string {
	if op&Write != 0 {
		return "write"
	}
	return "read"
}
