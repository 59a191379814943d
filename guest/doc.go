// SPDX-License-Identifier: Apache-2.0

// Package guest gives the memory of machines that run: physical memory as a Space. It
// does not know what an operating system is; see package kernel for that.
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
// is killed does not detach: the guest stays paused until a debugger detaches, or QMP's
// "cont". A process under gdbserver stands before and after.
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
