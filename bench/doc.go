// SPDX-License-Identifier: Apache-2.0

// Command bench measures Remora beside what a user would pick instead: the system calls in C,
// gdb, drgn, crash, libkdumpfile and others, each used as its own documentation says is
// fastest, on the same work, in turns (see bench/internal/measure).
//
// A group of rows is one function that lays out what they need and gives them as data. The
// sides that are programs of our own are in bench/peers (C and Python) and bench/internal/play
// (Go); "bench -play NAME" is one of the latter.
package main
