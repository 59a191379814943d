// SPDX-License-Identifier: Apache-2.0

// Package remora reads and writes the memory of any address space through one
// vectored, fault-exact interface: a live process, a core file, a running kernel,
// a kernel crash dump, a process inside that dump, a guest.
//
// # Structure
//
// A Space is what a backend implements: two methods, Transfer and Info. A Memory
// wraps a Space with scalar reads, strings and adapters for package io. A Target is
// a thing that has a Memory; its other abilities (Mapper, Pauser, Symbolizer,
// Container, Describer) are found with As.
//
// # Faults
//
// A Transfer takes many segments and answers for each: N bytes were moved, and Err
// says why it stopped at Addr+N. Nothing is invented: a hole is not zeros, not
// 0xff and not io.EOF, and a short transfer is never without an error. A Cause is
// constant, so results allocate nothing; SegFault and FirstFault turn one into a
// *Fault that says where, and what the Space can explain.
//
// # Cancellation
//
// The context is looked at between chunks, and backends whose system calls can
// block for ever give up waiting when it ends. A read that is given up leaves the
// caller's buffer alone; a write that was already handed to the system may still
// happen, and says ErrInDoubt.
//
// # Concurrency
//
// A Space may be used from many goroutines at once. Nothing is locked in the
// target: memory that changes while it is read may be seen half changed, unless
// the target is paused.
package remora
