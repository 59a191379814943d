// SPDX-License-Identifier: Apache-2.0

// Package vmcore opens kernel images as physical memory, and writes them: what /proc/vmcore,
// makedumpfile, QEMU, LiME and AVML write, and raw memory. It works the same on every
// system.
//
// # Structure
//
// An Image is a remora.Target whose Memory is physical memory, and is itself the Space
// of it; and a remora.Mapper, Describer and Explainer. It does not know what an operating
// system is: package kernel finds one in it.
// Behind it is one format, chosen by the file's content or by Options.Format; Meta says
// which one and why. A file that is something else gives a *remora.FormatError that Is
// remora.ErrUnrecognized and names it, with what can be done about it.
//
// # What is not there
//
// A page that an image does not hold is never zeros. There are three answers:
//
//   - ErrHole: no memory is at this physical address.
//   - ErrNotSaved: there was memory, and the one who made the image left it out.
//   - ErrTruncated: it should be in the image, and is lost: the image is incomplete,
//     or its file was cut off. Where the headers themselves are cut off, that is true of
//     all addresses above those that are named, up to 2^56.
//
// ErrCorrupt is a page that is there and damaged, ErrIO a file that cannot be read.
//
// # Formats
//
// ELF images may have their headers anywhere, and segments in any order. Of segments over
// one address the bytes of one that has them count, of several the largest one's, of equal
// ones the first one's. Bytes that a segment has in memory and not in the file
// (p_filesz < p_memsz) are ErrNotSaved: makedumpfile leaves out pages of zeros in this way,
// and others too. A segment whose p_paddr is all ones has no physical memory. What QEMU
// makes with paging=true lacks memory that no page table maps, as if it were a hole.
//
// A LiME file ends where no header follows; the zeros in it may be pages that LiME could not
// read. AVML writes the same in its version 1. Raw memory is read at the addresses that
// Options give, and is never guessed at.
//
// A kdump-compressed image (versions 0 to 6, of 32- and 64-bit machines in both byte
// orders) can be in the parts of a split set, in any order. Where a part is missing, its
// pages are ErrTruncated. Pages are packed with zlib, LZO, snappy or zstd, each by the flags
// of its own; what they give must be exactly a page, and where the data have a checksum, it
// must be right. A page of size 0 whose descriptor has an offset is one of zeros, as some
// writers have it. In version 0 what is left out is zeros. A flattened stream, of any of
// this, is read where it lies.
//
// # Writing in place
//
// With Options.Write, ELF, LiME and raw images are written where they are read; the other
// copies of a byte that overlapping segments hold stay as they are. Other formats are
// read-only: package compose has overlays, and Write makes new images.
//
// # Files
//
// Opening costs the same however large the image is: ELF and LiME are linear in their
// segments and ranges. On Linux a file is mapped into memory where that is safe: on a
// 64-bit machine, and not on a network file system or FUSE. An image must not be changed
// while it is open; one that is cut off all the same gives ErrTruncated from its new end
// on, mapped or not, and never a signal.
//
// Of a kdump-compressed image opening reads the headers and the notes, a few page descriptors
// to see whether the file was cut off, which Meta.Problems says then, and of a split set some
// pieces of the bitmaps, to compare them. The first read of a page reads the bitmaps up
// to its place, once. What is kept of a bitmap are ranks, a 32nd of its size at most, and up
// to 8 MiB of its bits; what is all alike in a run of 2^20 pages takes nothing. Opening a
// flattened stream reads the header of each record, and keeps 16 bytes for it.
//
// Inflated pages are kept in up to Options.CacheBytes; where pages share their data, as those
// of zeros do, they share the memory. Small reads one after another inflate up to 256 KiB
// ahead. A read of four whole pages or more goes past the cache, and is inflated on all
// processors, by goroutines that Close ends.
//
// # The running system
//
// OpenKcore gives the memory of the machine that this program runs on, through /proc/kcore of
// Linux, which is an ELF file made up as it is read. It is Live, and never mapped into memory.
// Its reads do not fail: the kernel answers for any place with zeros. So an address has memory
// where a segment says so, at the place in the file that the segment has; the segments are
// read again where an address is in none, as memory can be plugged in. Only segments with a
// physical address count, those of RAM and of the kernel's image.
//
// Nor do reads fail for pages that the kernel does not let be read. A page of zeros is therefore
// looked up in /proc/kpageflags: one that is offline or gone is ErrHole, one that the hardware
// found bad is ErrPoisoned. After SetTables one that the kernel has not mapped itself, as memory
// of memfd_secret(2) is not, is ErrFault. What cannot be known: memory that a guest of a
// confidential machine has not accepted yet, and what a driver says is no RAM (pfn_is_ram),
// reads as zeros; and without /proc/kpageflags (CONFIG_PROC_PAGE_MONITOR) so do the first two.
// Kernels before 4.11 do not say where memory is, and are refused. Older kernels than now
// refuse some pages with EFAULT or EIO: the bytes before are read, and these are faults.
//
// To write, KcoreOptions.Write opens /dev/mem, and looks whether the kernel lets RAM be reached
// through it: with CONFIG_STRICT_DEVMEM it refuses, or says that it wrote and did not. Nothing
// is written where it does.
//
// # Cancellation and concurrency
//
// Everything may be called from many goroutines. The context is looked at between
// chunks of 1 MiB. Close waits for running calls. What Meta gave stays.
package vmcore
