// SPDX-License-Identifier: Apache-2.0

// Command bench measures proc against a twin in C that makes the same system calls, or
// kernel images against one that reads them through libkdumpfile, in turns: each round
// runs both, so that what disturbs one disturbs the other. It prints, for each row, the medians of both in nanoseconds, the median of the
// ratios of the rounds with their quartiles, and what Go allocated for each call.
//
// The images are of one moment of a machine of the laboratory (internal/vmlab), with
// 1 GiB of memory of which 400 MiB were filled, in equal parts, with noise, text and
// something like a heap. Large reads are of 24 stretches of 8 MiB.
//
// Three rows of the twin alone are for calibration: a system call that does
// nothing, a copy of 16 MiB, the start of a process.
package main
