// SPDX-License-Identifier: Apache-2.0

// Package kernel finds a Linux kernel in physical memory: where its page tables are,
// and of what form. It takes a Space of physical memory and what is known of the machine
// as plain data (Hints), and does not know where either came from.
//
// # VMCOREINFO
//
// A VMCoreInfo is the text that a kernel writes about itself for those who read dumps.
// Its numbers have no common base: each class of keys has its own, see VMCoreInfo.
//
// # Page tables
//
// Kernel.Tables looks for the page tables of the kernel, in this order:
//
//   - by VMCOREINFO, where the image has it or a user gives it;
//   - by CR3 of an x86-64 processor, and kallsyms in the image that its tables map;
//   - by the note of VMCOREINFO at the beginning of a page of memory, of which all that is
//     saved is read once, in parallel;
//   - by kallsyms, whose tables are known by what they look like, in the same memory.
//
// Of several kernels in memory, as a kernel and the one that wrote its dump, the search takes
// the one whose note is lowest.
//
// It believes no value by itself: a root is taken when the tables below it map the kernel
// where the kernel says that it is, and its release or its banner is there. When none is
// found the error, a *TablesError, lists all that was tried.
//
// Where page tables are lost, addresses of the kernel's image and of the direct map are
// translated by formula: Found.Linear says that the top one is, and Extent.Level is 0. The
// image is believed to be where its release is; the direct map where the pointer to the
// note of VMCOREINFO leads to it.
//
// # Symbols
//
// Symbols are read out of kallsyms in the kernel's memory, however it is written there:
// that is found out by what fits, not by the version. A name is found by the order of
// names that the kernel keeps, and all are decoded only where they are asked for. Those of
// modules follow. Hints may name a file to take them from instead, which must be of the
// same kernel.
//
// # Tasks
//
// Tasks, Threads and Task read the threads that a kernel had: by its lists, and where these
// are broken by the numbers that it has given out. Processors tells what each processor ran,
// Usage how much memory processes have, Crash how the kernel crashed, Clock how late it
// was. What of a task cannot be read is told, not made up.
//
// # Types
//
// Types gives the types that the kernel keeps of itself, its BTF, and those that modules
// add. All that is known here of its structures comes from there: a kernel without them has
// memory and symbols, and no tasks. Members that were renamed are in one table,
// alternatives.
//
// # Processes
//
// Process gives the user memory of a process, as a Target. A page is looked for in the
// order in which the kernel itself would: page tables, swap cache, what was swapped out as
// zeros, zswap and zram, the copy of a swap area that ProcessOptions give, the page cache of
// the mapped file. No byte comes from such a copy where memory knows better, and none at
// all where it cannot be told whether it does. The exception is a page of the swap cache
// that was left out of the image: where its flags say that the area has the same, it is
// read there. What was never touched of an anonymous mapping is zeros.
//
// VMAs are what /proc/PID/maps lists. Threads have the registers of user mode: those of the
// processor that one ran on, or what it left on its kernel stack; floating point is not
// looked for. What cannot be read says why: its cause is that of the page, and Explain adds
// where the page would be.
//
// # Live machines
//
// Where the physical memory is Live nothing is kept that can change: page tables are walked
// for each transfer, and of a process once more behind it, so that a page which has moved
// meanwhile is read again; mappings, tasks and modules are listed anew each time. A list that
// changes while it is followed is followed again, up to 10 times, and then told as broken.
// Symbols of modules are read again when modules came or went, and when a name is not found
// among them. A Process whose process has ended, or has begun another program, is
// remora.ErrGone: that is looked for behind each read, so what was read was its own. What is
// kept are answers about the kernel itself: where it is, its symbols and types.
//
// # Limits
//
// x86-64, arm64 and riscv64. A kernel with neither VMCOREINFO nor registers is not found
// without CONFIG_KALLSYMS, nor, since 7.0, without CONFIG_KALLSYMS_ALL. Memory that says of
// itself no runs (remora.Mapper) is not searched.
//
// Pages in zswap and zram are named, and not unpacked. In a kernel without symbols for its
// data (CONFIG_KALLSYMS_ALL=n) swap areas are searched for, up to 6.15. The core file of a
// process of 32 bits is one of 64. A page that the page tables do not have is never written,
// but for one of a file that is shared: the kernel would have to make one.
package kernel
