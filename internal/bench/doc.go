// SPDX-License-Identifier: Apache-2.0

// Command bench measures proc against a twin in C that makes the same system calls,
// kernel images against one that reads them through libkdumpfile, or the kernels in them
// against drgn and crash, in turns: each round runs both, so that what disturbs one
// disturbs the other. It prints, for each row, the medians of both in nanoseconds, the
// median of the ratios of the rounds with their quartiles, and what Go allocated for each
// call.
//
// The images are of one moment of a machine of the laboratory (internal/vmlab), with
// 1 GiB of memory of which 400 MiB were filled, in equal parts, with noise, text and
// something like a heap. Large reads are of 24 stretches of 8 MiB.
//
// The rows about kernels take the laboratory's smallest machine, and its kernel with its
// debugging information for those who need that. Whole commands are run to their end, as a
// user does. What no peer can do is held against the start of a process that does nothing.
//
// A gdb stub is read by turns with gdb itself. Here that counts with connecting to it and
// letting it go, for gdb without.
//
// /proc/kcore is read in a guest, where this program and a twin are carried: its kernel runs
// on an emulated processor, so that only the ratios tell something.
//
// Rows of the twin alone are for calibration: a system call that does nothing, a copy
// of memory, the start of a process. What takes seconds is done in ten rounds.
package main
