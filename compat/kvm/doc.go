// SPDX-License-Identifier: Apache-2.0

// Package kvm is illumos's libkvm: the memory of a kernel and of its processes,
// of the running system or of an image, through the functions of kvm_open(3KVM),
// kvm_kread(3KVM), kvm_nextproc(3KVM), kvm_getcmd(3KVM) and kvm_nlist(3KVM).
//
// # Structure
//
// Open gives a Handle, whose methods are the library's functions without the
// prefix. Below it is an Image: a kernel's memory, its processes, and their memory.
// The running Linux system is one, and kernel images are others: see OpenImage. An
// Opener gives further ones. What an Image does not have, such as symbols, is found
// missing by the function that needs it, not by Open.
//
// # The running system
//
// Processes are listed from /proc, and their memory is reached by package proc. The
// kernel's own memory, virtual and physical, is what package target calls "kernel": that
// of /proc/kcore, through the kernel's page tables. It is opened by the first call that
// needs it, and wants root. What has no page is a fault, and not the zeros that
// /proc/kcore has there. PhysAddr knows what the page tables map, and nothing of
// processes. Symbols are looked up in the kernel's memory, whatever kernel.kptr_restrict
// says, and in /proc/kallsyms where that memory cannot be had.
//
// The kernel is written through /dev/mem, where it lets itself be. Most are built or
// locked down against that. A handle of os.O_RDWR can be had all the same, and reads; its
// KWrite and PWrite give -1 and EACCES, with a *remora.AccessError that names the rule.
//
// # Kernel images
//
// An image is of any format that package vmcore reads. Symbols, processes and their
// memory are found in the image alone, by package kernel: no namelist is needed, and
// one that is given is for NList only. Processes are those of the kernel's own list. Their
// pages are looked for where the kernel would, with the swap file. Where that is none of this
// kernel's, or the image does not tell which pages memory knows better, the memory of processes
// cannot be opened with it, and the error says so.
//
// A guest that runs, "qemu:SOCKET" or "gdb:ADDRESS", is an image that changes: the same
// functions find the same things in its memory, and writes go there. A process of it that
// has ended gives ENOENT, with an error that Is remora.ErrGone. Behind gdb: the guest
// stands still from Open to Close. See package guest for what each way into it does to the
// guest.
//
// Writes into an image go into the file, which must be one whose bytes are the memory's:
// ELF, LiME or raw. Another one cannot be opened with os.O_RDWR but with Options.Overlay,
// which keeps all that is written in memory.
//
// # Results
//
// The number is the one that C would see: the bytes moved, which may be fewer than
// were asked for, or -1. The error is ours, and is not nil whenever the number is
// not the length of the buffer: a *remora.Fault for a short count, and for -1 an
// *Error with the errno and the cause.
//
// A user address of a live process where nothing is mapped gives 0 and not -1, as
// reading /proc/PID/as does; it gives a *remora.Fault. Page protections of a
// process are ignored, as there: what is mapped can be read and written. Of a live process
// that takes package proc's Force where there is a protection, which stops the process for
// a moment or is refused where the kernel was told so (proc_mem.force_override).
//
// # The current process
//
// URead and UWrite go to the current process: the one that NextProc or GetProc gave
// last, as the library does it, or the one that was given to GetU last, as the manual
// has it. Where there is none they refuse. The original goes to physical memory then.
//
// A process is opened by the first call that needs its memory, and let go when
// another becomes current. It is known by its number and the time that it began: when
// it has exited, calls fail with ENOENT, and never reach a process that came
// to have the same number. An execve is followed, as by the original, which opens
// /proc/PID/as anew in each call.
//
// # Differences
//
// Besides what is said above: the results of NextProc and GetProc belong to the
// caller and are not overwritten; a GetProc that finds nothing leaves no process
// current; GetCmd reads the process that it is given, whichever is current; an
// address space is chosen by an AS, whose zero value is refused, while NULL is
// physical memory in the original; a corefile that is another character device is
// refused by Open instead of by every later call; memory of a process that was never
// touched is zeros, with or without MAP_NORESERVE.
//
// # Concurrency
//
// A Handle has one current process and one position in the list of processes, and
// is not for concurrent use, as the original is not (MT-Level Unsafe).
package kvm
