// SPDX-License-Identifier: Apache-2.0

// Package rwmem is FreeBSD's proc_rwmem(9), with proc_readmem and proc_writemem, on
// any address space: a live Linux process, a process in a core file, a guest, or
// whatever else is a remora.Space.
//
//	FreeBSD                                here
//	proc_rwmem(p, uio)                     p.RWMem(ctx, uio)
//	proc_readmem(td, p, va, buf, len)      p.ReadMem(ctx, td, buf, va)
//	proc_writemem(td, p, va, buf, len)     p.WriteMem(ctx, td, buf, va)
//	uiomove(cp, n, uio)                    uio.Move(ctx, cp)
//	PHOLD(p), PRELE(p)                     p.Hold(), p.Release()
//	PT_READ_D, PT_WRITE_D, PT_IO           p.PTRead, p.PTWrite, p.PTIO
//
// # What is kept
//
// The transfer goes page by page: the page is faulted, the bytes are copied through
// the vector, the vector advances. It stops at the first page that cannot be had, and
// Resid and Offset then show how far it came. A request of no bytes still faults
// one page (R77). The simple forms give the bytes moved or -1, also for a request of
// no bytes (R78, R79).
//
// A write does not ask for write permission but for a private copy of a readable page
// (R74): read-only private memory is written, the file behind it is not; memory that
// cannot be read cannot be written either; a shared mapping is changed in place if its
// maximum protection has write, also when it is read-only now, and refused otherwise.
//
// # Errors
//
// An *Error has the number: EFAULT, ENOMEM where resources were short (R73), EPERM
// for a write without the right (R75), EINVAL for an argument that FreeBSD would not
// have checked, ESRCH for a process that exits, EINTR when the context ended. It keeps
// what FreeBSD throws away: the address, whose memory it was, and the cause.
//
// # Where it differs
//
//   - What is an assertion there is an *Error here: a process that is not held, a
//     negative residual, a vector shorter than the residual.
//   - A hold does not stop a Linux process from exiting. It keeps the handle, which
//     never comes to mean another process; after the exit every page is EFAULT.
//   - A write of no bytes faults the page as a read does: no private copy is made.
//   - Where a Space faults inside a page, what lies before that byte is moved and counted.
//   - The stack is never grown, not even that of the calling process itself (R83).
//   - The maximum protection is known of live Linux processes and of a Space that is a
//     SharedWriter. Elsewhere a shared mapping that is read-only now is EFAULT. On
//     Linux its file is opened for writing by /proc/PID/map_files; where that is not
//     permitted the write is EFAULT too.
//   - Without a map of the Space (no remora.Mapper) a page is written with Force if it
//     can be read.
//   - The length of a page's part is computed with 64 bits (R82).
//
// # Concurrency
//
// A Proc may be used from many goroutines, a Uio from one at a time. The map is asked
// before a page is written, once for a run of pages that are plainly writable; when it
// changes in between, the answer is that of a moment before.
package rwmem
