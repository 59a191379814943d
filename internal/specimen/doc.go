// SPDX-License-Identifier: Apache-2.0

// Package specimen starts a process with known memory, to read and to write: for
// tests, and for the demonstration that the command has.
//
// # Structure
//
// Start runs this same program again. There Main, which a program that uses this
// package calls first of all, does not return: it serves the commands that come
// through a pipe, and ends with that pipe, and so with the process that started it.
// Map makes memory of a Kind, Layout several side by side. What lies there at first
// is a function of the address (Pattern, Contents). Peek, Poke and Sum use the
// loads and stores of the specimen itself, and so look at its memory from within.
//
// Run runs a Job, a function of this program, in a process of its own, as somebody
// else or under a seccomp filter: a reader that may do less than we may.
//
// # Addresses
//
// What is mapped lies in a part of the address space that the program does not use
// for itself, in the order of the calls, at the same addresses each time, with
// unmapped pages before and after. Nothing else is ever mapped in between, as long as
// holes that Unmap or a Layout leaves are small (up to 16 pages).
//
// # Errors
//
// What this kernel or these rights do not offer Is errors.ErrUnsupported. On systems
// other than Linux that is so of everything.
package specimen
