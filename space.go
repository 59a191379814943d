// SPDX-License-Identifier: Apache-2.0

package remora

import "context"

// Seg is one range of a Transfer and its result. The caller sets Addr and Buf;
// the Space sets N and Err.
type Seg struct {
	Addr Addr
	Buf  []byte

	N   int   // bytes moved, always a prefix of Buf
	Err error // why the transfer stopped at Addr+N; nil if and only if N == len(Buf)
}

// Space is the one driver interface: any address space that can be read, and
// perhaps written.
//
// Transfer moves all of segs in one direction and keeps the 14 rules below,
// which memtest.TestSpace runs as tests.
//
//  1. 0 <= N <= len(Buf), and Buf[:N] was moved. Where Err Is ErrFault, Addr+N is
//     the first byte that could not be: exact, not a lower bound. For ErrStopped,
//     ErrGone, ErrReadOnly, unsupported and context errors, N is the moved prefix
//     and says nothing of the next byte.
//  2. N == len(Buf) if and only if Err == nil.
//  3. After a read Buf[N:] is unspecified; it is never data.
//  4. A write changes no byte of the target outside the counted prefixes. One
//     exception: ErrInDoubt.
//  5. Without StopAtFault every segment is attempted. With it, segments after the
//     first incomplete one have N == 0 and ErrStopped.
//  6. Writes happen in segment order; where they overlap the later one wins. The
//     Bufs of one read must not overlap; where they do, those bytes are unspecified.
//  7. The int64 is the sum of N. The error is the context's when the call was cut
//     short by it, else the first non-nil Err in order, or nil.
//  8. A segment of length zero ends with N = 0 and Err = nil and touches nothing,
//     whatever the op, address, position, Space or context. Unknown op bits are
//     refused even for an empty call.
//  9. Addresses do not wrap: a segment that would pass MaxAddr stops there with
//     ErrUnmapped.
//  10. Nothing is retained after return; calls may run concurrently.
//  11. The context is looked at before each chunk of at most 1 MiB or 1,024
//     segments. Segments not attempted get N == 0 and the context's error, and
//     finished counts stay exact.
//  12. After warm-up a local Space allocates nothing, faults included.
//  13. Op bits outside Info.Ops: nothing moves, errors.ErrUnsupported. Write on a
//     read-only Space: nothing moves, ErrReadOnly.
//  14. After Close every Transfer gives fs.ErrClosed. Close may run at any time,
//     returns after running calls have left, and unmaps nothing still in use.
//     Closing twice is fine.
//
// No access width is promised: an aligned word may be torn on a live Space beyond
// Info.Atomic. Device memory is never reached through Transfer.
type Space interface {
	Transfer(ctx context.Context, op Op, segs []Seg) (int64, error)
	Info() Info
}

// Info holds the plain facts about a Space. It may grow fields, never methods.
type Info struct {
	Name      string // "pid 4711", "physical", "kernel": used in faults
	Ops       Op     // the bits that the Space honours
	PtrSize   uint8  // bytes in a pointer of the target: 4, 8, or 0 when unknown
	BigEndian bool
	Granule   uint32 // smallest unit, in bytes, whose accessibility can differ
	Atomic    uint8  // largest aligned size, in bytes, that cannot be torn; 0: none
	Last      Addr   // highest address that can exist
	Writable  bool   // as opened, now
	Live      bool   // contents may change under us
}
