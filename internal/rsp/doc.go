// SPDX-License-Identifier: Apache-2.0

// Package rsp is a client of the gdb remote serial protocol, as the appendix "Remote
// Protocol" of the gdb manual describes it: of gdbserver, of the stub in QEMU, of the
// kernel's kgdb and of others.
//
// New opens the conversation on a connection: what the stub can do is asked for
// (qSupported), and acknowledgements are left out where it does without
// (QStartNoAckMode). Read and Write move memory, in packets as large as the stub takes,
// several of them on the way at once where that is safe. Features, Registers, Threads and
// Object ask for what the stub knows, and ReadFile reads a file of the machine that it
// runs on.
//
// # Errors
//
// What the stub refuses is an *Error, and what it does not know Is errors.ErrUnsupported.
// A *BrokenError is the end of the conversation: the connection has ended, the stub is
// silent, or what it says is no part of the protocol. All calls give it from then on.
//
// # Bad peers
//
// Nothing that the other side says is believed: packets, lists, documents and files have
// limits, and every wait ends with its context, and after Options.Timeout of silence.
//
// # Concurrency
//
// A Client may be used from many goroutines; one request, or one run of them, goes on at a
// time. A call whose context ends leaves at once. Answers that come late are passed over.
package rsp
