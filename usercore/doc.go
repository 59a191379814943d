// SPDX-License-Identifier: Apache-2.0

// Package usercore opens the core file of a user process: memory, mappings,
// threads with their registers, and the notes. It knows ELF cores of both classes
// and both byte orders as the Linux kernel, gdb (gcore) and Delve (dlv core dump)
// write them, and works the same on every system.
//
// Write writes one, in the form of the Linux kernel's.
//
// # Structure
//
// A Core is a remora.Target, and is itself the Space of its Memory. It is a
// remora.Mapper, a remora.Describer and a remora.Explainer; Threads, Auxv, Process
// and Notes give the rest. It is read-only.
//
// Memory is a table of extents made by Open from the program headers and from
// NT_FILE. A read looks its address up and reads the file at that offset; nothing
// is mapped or kept in memory.
//
// # What is not there
//
// A core holds less than the process had, and nothing is made up for the rest:
//
//   - ErrNotSaved: the core names the memory and does not hold it. The program
//     header has p_filesz < p_memsz, which is never zeros to be filled in: it is how
//     the kernel writes what coredump_filter excludes. Or there is no program header,
//     and NT_FILE lists the mapping, as in gdb's cores.
//   - ErrTruncated: it was saved, but the file ends before it. A core that was cut
//     off by ulimit -c or a full disk can be read up to there. Damaged or missing
//     notes do not hinder it either; Describe lists them as problems.
//   - ErrUnmapped: the core was made by the Linux kernel, which lists every mapping,
//     and this is none.
//   - ErrFault: neither saved nor listed, in a core of another maker. gdb leaves
//     out [vvar] and what is marked MADV_DONTDUMP without a trace, Delve all that it
//     could not read and the text of a Go program. So it may have been mapped.
//   - ErrIO: reading the file failed.
//
// Protection is a fact of Regions and no cause here: what was saved can be read,
// whatever the process was allowed, so Force changes nothing.
//
// # Mapped files
//
// With Options.Files, read-only parts of ELF files that the core left out come
// from the files on disk; mostly that is program text. A file is used only when
// its build id equals the one in its first page as the core saved it, and never
// for writable segments, though they may be read-only by now, as relocated data is:
// the process changed them. Explain gives the reason for each file that is not used,
// with both build ids when they differ. Text that a debugger changed is saved by
// the kernel and by gdb, and so comes from the core.
//
// # Errors
//
// Open gives a *remora.FormatError. It Is remora.ErrUnrecognized when the file is
// something else: no ELF file, an executable, the image of a kernel or of a virtual
// machine. It Is ErrTruncated when the file ends inside its headers, and ErrCorrupt
// when the headers contradict themselves, as two segments do that save one address
// twice.
//
// # Cancellation and concurrency
//
// Everything may be called from many goroutines. The context is looked at between
// chunks of 1 MiB. Close waits for running calls. After it, transfers, Threads and
// NoteData give fs.ErrClosed; what was decoded by Open stays.
//
// # Limits
//
// What the kernel could not read when it wrote the core ([vvar], memory_failure
// pages) is zeros in the file, and so are pages that Delve failed to read; nothing
// in the file tells them from zeros of the process. gdb calls every mapping
// readable. Registers are decoded for amd64, 386, arm64 and riscv64; floating-point and
// vector registers are in the notes, as they stand there. Notes of other systems
// are not decoded. Files and cores must not be changed while they are open.
package usercore
