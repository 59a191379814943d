// SPDX-License-Identifier: Apache-2.0

// Package paging walks page tables: it makes an address space of a physical memory
// and the address of a top table. It knows the tables of x86-64, arm64 and riscv64 as
// processors read them, and the entries that Linux writes where processors look no
// further: PROT_NONE, swap, pages being moved, markers.
//
// # Structure
//
//	Format   the geometry of one kind of tables: X86, ARM64, RISCV
//	Tables   one root: a remora.Translator, a remora.Mapper and a remora.Explainer
//	View     a remora.Space: the physical memory through Tables
//	Cache    tables and translations that are kept, shared by the Tables of a kernel
//
// Tables.Walk shows every level on the way to an address, Format.Decode what one
// entry means. Levels are counted from the bottom: 1 is the one of single pages.
//
// # What is not there
//
// The Extent of an address that cannot be read is as long as the hole, as far as one
// table tells, and has the cause:
//
//   - ErrUnmapped: empty, or no address for this root (not canonical, or of the half
//     that another root serves).
//   - ErrNotPresent: swapped out, or a marker of userfaultfd. Raw has the entry, and
//     Format.Decode its swap type and offset.
//   - ErrGuard, ErrPoisoned, ErrDevice: as Linux marked the entry.
//   - ErrCorrupt: an entry that breaks the rules of the format.
//   - ErrNoTable: a table on the way cannot be read. It Is also the physical memory's
//     cause (ErrNotSaved, ErrHole, ErrTruncated), and has the physical fault in it. The
//     hole is all that the table governs, or, where only a part of it cannot be read,
//     what that part does.
//
// Pages that are PROT_NONE, or being moved from one place to another, are in memory
// and can be read.
//
// Entries that are neither empty nor present mean nothing to a processor, and their
// layout has changed with Linux: see Version. Which swap types are special depends on
// the kernel's configuration: see Special. In the kernel's half nothing is ever
// swapped out, so there such an entry is ErrUnmapped.
//
// # Speed and memory
//
// A walk that finds nothing in the Cache makes one transfer for each level. It reads
// whole tables, not single entries: the neighbours say how far an extent reaches, a
// compressed dump inflates the page either way, and the next walk needs the same
// table most of the time. A table that cannot be read whole takes one transfer more.
// Translations are found without a lock, and nothing is allocated for them.
//
// # Writing
//
// When a View writes to a place where a table was read, its Cache forgets all. Whoever
// changes the memory by another way calls Cache.Drop. Memory that is Live is never
// cached: a translation is right for the time at which the tables were read, and
// a walk of tables that change meanwhile may see a mixture.
//
// # Concurrency
//
// Everything may be used from many goroutines. The context goes to the physical
// memory with each read; what it cuts short is never kept, and nor is what reading
// failed for (ErrIO).
//
// # Limits
//
// One stage of translation, with 8-byte little-endian entries: no 32-bit tables, no
// nested ones (a View of a View serves for those), no big-endian arm64. arm64's 128-bit
// descriptors and its contiguous bit are not looked at, nor are permission overlays.
// Physical addresses are as wide as the format allows, not as the processor does.
package paging
