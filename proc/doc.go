// SPDX-License-Identifier: Apache-2.0

// Package proc gives the memory of a live process.
//
// # Structure
//
// Open gives a Process. Its Memory moves bytes through a door: process_vm_readv(2),
// else /proc/PID/mem, else ptrace(2). Whichever it is, an operation means what
// process_vm_readv means: memory that is not readable (PROT_NONE, write-only,
// execute-only) is a fault, read-only memory is not written, the stack is not
// grown. Force lifts protections, as a debugger does; Resident reads only pages
// that are present in the target's own page table, and puts none there.
//
// # Identity
//
// A Process names one address space for ever. It holds the process by a pidfd and
// the address space by descriptors opened once, and asks them after each transfer,
// and before each write too. After an exit or an execve every call gives
// remora.ErrGone. A call of ours that is under way or stuck keeps alive an address space
// that its process has left; beside one, random bytes that each program has are
// compared too. One limit: where another task shares the address space (CLONE_VM) and
// the process calls execve, the old space lives on, and the check cannot see that the
// process left it.
//
// # Errors
//
// The cause of a fault is told apart afterwards, from the map of the target:
// unmapped, protected, beyond the end of the file, guard page, device, not present.
// The map may have changed in between; the position of the fault is always the
// kernel's own. Being refused is a *remora.AccessError that says which rule refused.
//
// # Cancellation
//
// A page served by userfaultfd or FUSE can block the kernel for as long as its
// server likes, and no signal but a fatal one ends that. With a context that can
// end, each system call runs in a thread of its own on a buffer of ours, and is left
// behind when the context ends first. At most 8 calls of a Process are left behind
// at a time; further ones wait for one to end, and give remora.ErrBusy when their own
// context ends before that. A write that is left behind may still happen:
// remora.ErrInDoubt. With a context that cannot end, a call waits.
//
// # Concurrency
//
// A Process may be used from many goroutines. Nothing is locked in the target, which
// runs on during a transfer; Pause stops it.
//
// # Known limits
//
// Through /proc/PID/mem and ptrace the protection is looked up before the bytes are
// moved, so a change in between goes unnoticed. A Resident read of a running target
// may fault back a page that was dropped between look and read; Pause closes that.
// Through /proc/PID/mem and ptrace a page that a userfaultfd would bring is not waited
// for: it is remora.ErrFault.
package proc
