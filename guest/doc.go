// SPDX-License-Identifier: Apache-2.0

// Package guest gives the memory of machines that run: physical memory as a Space. It
// does not know what an operating system is; see package kernel for that.
//
// # QEMU
//
// OpenQEMU opens a guest of QEMU by its QMP socket. Where guest memory lies is told by
// QEMU itself; the bytes are read and written in the memory of QEMU's process, which the
// caller opens (QEMUOptions.Process), and what of it is a shared file or memfd is read
// from a mapping of that file. Without the right to that process the guest can only be
// read, through QEMU, and slowly. Describe says which way is in use.
//
// The guest runs on meanwhile: what is read in two places is of two moments, unless
// Pause stops it. Nothing that is read stops it, but Notes does for about a millisecond.
//
// A handle is of one life of one machine. When QEMU exits or closes the connection, and
// when the guest is reset or has migrated away, every call gives remora.ErrGone until
// the guest is opened again. A call that began before that was noticed may still give the
// last bytes of the guest; it is noticed within 100 ms. A kernel that another one
// replaces without a reset (kexec) is not noticed.
//
// Memory that is plugged in while the guest is open is found when an address misses, at
// most ten times a second. Ranges that firmware may turn to other memory without a word,
// below 1 MiB on a PC, are where they were when the list was read last.
//
// QEMU serves one QMP client of a socket at a time, and an open handle is one. Guests
// whose memory is encrypted, or is still arriving from another host, are refused.
//
// To read memory that the guest has never touched makes QEMU's host give it a page, as it
// does for any reader; remora.Resident does not.
//
// # gdb stubs
//
// OpenStub connects to a stub of the gdb remote protocol, and Stub.Kind says what is behind
// it: a machine of QEMU's, with physical memory (Stub.Physical) and virtual memory as its
// first processor sees it (Stub.Virtual); a process under gdbserver (Stub.Process); or
// memory at the stub's own addresses, as of kgdb, which has no physical memory
// (Stub.Virtual).
//
// What is behind a stub stands still as long as the Stub is open, and what is read of it is
// kept. QEMU stops its guest when somebody connects, and lets it run on when he detaches,
// paused before or not. Close detaches from a guest that ran, and hangs up on one that did
// not, which leaves it paused. The stub tells that apart only where the guest was in a
// state of its own, as one that has panicked; QEMU's other socket knows: see
// StubOptions.Running. Where nothing tells, the guest is taken to have run. A program that
// is killed does not detach, and the guest stays paused until a debugger detaches, or QMP's
// "cont": StubOptions.Watchdog is for that. A process under gdbserver stands before and
// after.
//
// QEMU answers reads of physical memory where there is none with zeros, and reads of
// devices by asking the device, which may change it. So only memory that is known to be
// memory is ever read: what the caller of Stub.Physical says. All else is a
// remora.ErrHole.
//
// A stub reads and writes whatever the protections of a process are. Where it gives
// /proc/PID/maps these are kept nevertheless, but with remora.Force.
//
// A stub that is silent, or says what is no part of the protocol, is gone: every call gives
// remora.ErrGone until it is opened again. Most stubs serve one client at a time, and a
// second one waits in silence.
package guest
