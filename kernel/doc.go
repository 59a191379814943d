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
// FindTables looks for the page tables of the kernel. It believes no value by itself:
// a root is taken when the tables below it map the kernel where the kernel says that it
// is. When none is found the error, a *TablesError, lists all that was tried.
//
// # Tasks
//
// Tasks, Threads and Task read the threads that a kernel had: by its lists, and where these
// are broken by the numbers that it has given out. Processors tells what each processor ran,
// Usage how much memory processes have, Crash how the kernel crashed, Clock how late it
// was. What of a task cannot be read is told, not made up.
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
// # Limits
//
// Pages in zswap and zram are named, and not unpacked. Swap needs the kernel's symbols of
// data (CONFIG_KALLSYMS_ALL). A page that the page tables do not have is never written,
// but for one of a file that is shared: the kernel would have to make one.
//
// x86-64, arm64 and riscv64. Without VMCOREINFO the page tables are found from the
// registers of an x86-64 processor alone; memory is not searched.
package kernel
