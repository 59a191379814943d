// SPDX-License-Identifier: Apache-2.0

package remora

import "strconv"

// Addr is an address of the target: always 64 bits wide, whatever the width of
// the host or of the target, and never sign-extended.
type Addr uint64

// MaxAddr is the last address that can be named.
const MaxAddr = ^Addr(0)

// String gives the address in hexadecimal with an 0x prefix, unpadded.
func (a Addr) String() string { return "0x" + strconv.FormatUint(uint64(a), 16) }

// Range is a run of addresses. Start and a size, not two ends: so a Range can
// hold the last byte of the address space. It must not pass MaxAddr.
type Range struct {
	Start Addr
	Size  uint64 // bytes
}

// Between gives the Range of all addresses from first up to, not including, end.
// It is empty when end <= first; end 0 with first > 0 means the end of the space.
func Between(first, end Addr) Range {
	if end <= first && (end != 0 || first == 0) {
		return Range{Start: first}
	}
	return Range{Start: first, Size: uint64(end - first)}
}

// Empty says whether the Range holds no address.
func (r Range) Empty() bool { return r.Size == 0 }

// Last is the last address in the Range, cut off at MaxAddr. It means nothing
// for an empty Range.
func (r Range) Last() Addr {
	if last := r.Start + Addr(r.Size-1); last >= r.Start {
		return last
	}
	return MaxAddr
}

// Contains says whether a lies in the Range.
func (r Range) Contains(a Addr) bool { return uint64(a-r.Start) < r.Size && a >= r.Start }

// Intersect gives what both Ranges hold; it is empty when they are disjoint.
func (r Range) Intersect(o Range) Range {
	if r.Empty() || o.Empty() {
		return Range{Start: r.Start}
	}
	first, last := max(r.Start, o.Start), min(r.Last(), o.Last())
	if last < first {
		return Range{Start: first}
	}
	return Range{Start: first, Size: uint64(last-first) + 1}
}

// String gives START+SIZE, both in hexadecimal.
func (r Range) String() string {
	return r.Start.String() + "+0x" + strconv.FormatUint(r.Size, 16)
}
